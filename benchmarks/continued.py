"""How long `sweep run` takes to continue a run folder with many finished trials.

    python benchmarks/continued.py                 # 1,500 trials x 12 settings x 20 evaluations
    python benchmarks/continued.py --trials 100 --profile

Makes the folder by the real session with made-up losses, which takes a minute or two; nothing is
trained. Then times, each in a process of its own: `sweep run` to its end, where no trial is left to
run (everything is opened, looked through and reported); the opening of the session in it; and the
proposal of another trial at random: all that a proposal costs but the choice itself.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import optuna

from model.progress import WHOLE, Progress
from sweep.folder import JOURNAL, LEDGER
from sweep.journal import Journal
from sweep.records import End, Ending
from sweep.run.driver import Job, _with_data, header, search
from sweep.run.manifest import write_or_compare
from sweep.session import Searching, Session, open_storage
from sweep.space import Space
from sweep.space.language import read_space

SPACE = """
name: continued
search:
  optim.lr: {min: 1e-3, max: 1e-1, log: true}
  optim.weight_decay_multiplier: {min: 1, max: 32, log: true}
  optim.beta1: {min: 0.8, max: 0.95}
  optim.beta2: {min: 0.9, max: 0.99}
  optim.warmup: {min: 0.0, max: 0.2}
  optim.grad_clip: {min: 0.5, max: 2.0}
  optim.final_rate: {min: 0.0, max: 0.2}
  optim.rest_lr: {min: 1e-3, max: 1e-1, log: true}
  gpt.dropout: {min: 0.0, max: 0.3}
  gpt.norm: [rms, layer]
  gpt.scale: [0.5, 1.0, 2.0]
  train.epochs: [2, 4, 8]
fixed: {train.evals: 20, train.device: cpu, train.log_probs: "no"}
sampler: {name: random}
prune: {rule: none}
trial: {gpus: 0}
baseline: {multiples: []}
"""


def make(path: Path, trials: int, runs: Path) -> Path:
    """A run folder of finished trials, as a driver that came to its end leaves it."""
    space = _with_data(read_space(path, [f"budget.trials={trials}"]))
    folder = runs / space.name
    folder.mkdir(parents=True)
    write_or_compare(folder, space, path.read_text())
    journal = Journal(folder / JOURNAL)
    journal.append("sweep", **header(Job(space, folder, search(space, folder)), {}))
    memory = open_storage(None)
    session = Session(space, Searching.open(memory, space), journal)
    draw = random.Random(0)
    while trial := session.next_trial():
        loss = 3 + draw.random()
        for mark in range(1, 21):
            session.observe(trial, evaluation(loss, mark / 20))
    session.close(End(Ending.TRIALS_SPENT))
    for study in memory.get_all_studies():
        optuna.copy_study(
            from_study_name=study.study_name,
            from_storage=memory,
            to_storage=open_storage(folder / LEDGER),
        )
    return folder


def evaluation(final: float, fraction: float) -> Progress:
    loss = final + 1 - fraction
    return Progress(
        basis_points=round(WHOLE * fraction),
        step=round(1000 * fraction),
        epoch=fraction,
        tokens=round(65_536 * fraction),
        train_loss=loss,
        val_loss=loss,
        val_loss_error=0.01,
        bits_per_byte=loss,
        raw_loss=loss,
        ema_loss=None,
        lr=0.01,
        seconds=fraction,
    )


def open_session(space: Space, folder: Path) -> Session:
    journal = Journal(folder / JOURNAL)
    return search(space, folder)(journal, lambda event: None)


def opened(path: Path, trials: int, folder: Path, profile: bool) -> None:
    """Print what opening the session and one proposal take, in this process."""
    space = _with_data(read_space(path, [f"budget.trials={trials + 10}"]))
    began, profiler = time.perf_counter(), cProfile.Profile()
    if profile:
        profiler.enable()
    session = open_session(space, folder)
    print(f"  open the session    {time.perf_counter() - began:6.2f} s")
    session.next_trial()  # the first imports and fills caches
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(5):
        session.next_trial()
    wall, cpu = (time.perf_counter() - began) / 5, (time.process_time() - cpu) / 5
    print(f"  a random proposal   {1000 * wall:6.1f} ms, of these {1000 * cpu:.1f} ms CPU")
    profiler.disable()
    if profile:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)


def timed(command: Sequence[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1500)
    parser.add_argument("--keep", type=Path, help="make the folder here, or use the one there")
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = asked.keep or Path(scratch)
        runs.mkdir(exist_ok=True)
        path = runs / "space.yaml"
        if not path.exists():
            path.write_text(SPACE)
            make(path, asked.trials, runs)
        folder = runs / "continued"
        command = [sys.executable, "-m", "sweep", "run", str(path), "--here", "--plain"]
        command += ["--runs", str(runs), "--trials", str(asked.trials)]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        print(f"{asked.trials} finished trials")
        print(f"  sweep run, nothing left   {timed(command, environment):6.2f} s")
        opened(path, asked.trials, folder, asked.profile)


if __name__ == "__main__":
    main()
