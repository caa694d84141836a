"""What thousands of trials and workers cost the driver, and those who read what it wrote.

    python benchmarks/scale.py events --trials 400 --workers 150 --samplers random,surface
    python benchmarks/scale.py events --trials 10000 --workers 1000 --samplers random,tpe
    python benchmarks/scale.py events --trials 10000 --workers 20 --rule none --samplers random \
        --folder runs
    python benchmarks/scale.py write --trials 10000 --folder runs/written
    python benchmarks/scale.py verbs --folder runs/written

events  A session as the driver has it, with its SQLite ledger, its journal and what watches both,
        in virtual time: workers take as long as a trial has FLOPs, and losses are made up in closed
        form, 10 evaluations each. An event is a trial that is asked for or an evaluation that is
        told. CPU of the events by kind, in ms, for each tenth of the trials; flat is where the last
        column is as the first.
write   Such a folder without the driver, in a minute or two: the same events, a trial stopped where
        its loss is among the worst fifth, and the ledger of it.
verbs   Each verb on such a folder as a process of its own: seconds of CPU, start of Python and
        imports included, seconds by the clock, and bytes that it prints or writes. Opening is what
        `sweep run` does before its first trial: the journal read, the ledger read and held against
        it, the session opened.
"""

from __future__ import annotations

import argparse
import cProfile
import heapq
import json
import math
import pstats
import random
import resource
import subprocess
import sys
import tempfile
import time
from bisect import insort
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from model.config import Config, trial_flops
from model.files import write_text
from model.progress import WHOLE, Progress
from sweep.folder import JOURNAL, LEDGER, RESOLVED, SPACE, SWEEP_ID, TRIALS
from sweep.format import bytes_text, table, without_infinity
from sweep.journal import Journal, read_view
from sweep.records import Ending, Trial, TrialEnding
from sweep.run.driver import Job, header, open_journal, search
from sweep.run.log_probs import LogProbs
from sweep.session import Searching, Session, open_storage, rebuild
from sweep.session.baseline import curve
from sweep.space import Range, Space
from sweep.space.language import read_space, saved_space
from sweep.space.points import at_share
from sweep.space.settings import PruneConfig
from sweep.view import View

EVALUATIONS, STRETCHES = 10, 100  # of each trial; of text that its last loss is told by
TENTHS = 10
TEXT = """
name: scale
search:
  optim.lr: {min: 1e-3, max: 1e-1, log: true}
  optim.weight_decay_multiplier: {min: 1, max: 64, log: true}
  train.epochs: {min: 1, max: 32, log: true}
  gpt.dropout: {min: 0, max: 0.3}
fixed: {data.train_tokens: 32769}
trial: {gpus: 0}
baseline: {table: {33K: 3.55, 66K: 3.2, 131K: 2.95, 262K: 2.85}}
"""
VERBS = (
    "status",
    "status --json",
    "list",
    "best",
    "efficiency",
    "report",
    "report --markdown",
    "gc --dry-run",
    "doctor",
)
EARLIEST, SPARED = (
    0.3,
    0.8,
)  # written trials are stopped from there on, behind so many


def loss_of(config: Config, draw: random.Random) -> float:
    """Nats per token at the end: a bowl in logarithms, and noise between seeds of 0.004."""
    rate = math.log2(config.optim.lr / 0.015)
    decay = math.log2(config.optim.weight_decay_multiplier / 10)
    epochs = math.log2(config.train.epochs / 10)
    bowl = 0.02 * rate**2 + 0.01 * (decay + 0.3 * epochs) ** 2 + 0.03 * epochs**2
    return 2.9 + bowl + 0.2 * (config.gpt.dropout - 0.1) ** 2 + draw.gauss(0, 0.004)


def evaluations(config: Config, number: int) -> Iterator[Progress]:
    """A curve in closed form that ends at `loss_of`; its digits are as many as a real one has."""
    draw = random.Random(number)
    final = loss_of(config, draw)
    tokens = [1000 + 7 * n for n in range(STRETCHES)]
    for mark in range(1, EVALUATIONS + 1):
        done = mark / EVALUATIONS
        loss = final + (1 - done) ** 2 * 2.3456789 + draw.gauss(0, 0.002) * (1 - done)
        stretches = [final + draw.gauss(0, 0.1) for _ in range(STRETCHES)]
        yield Progress(
            basis_points=round(WHOLE * done),
            step=round(config.steps * done) or 1,
            epoch=config.train.epochs * done,
            tokens=round(config.steps * done) * config.train.batch_tokens,
            train_loss=loss - 0.1234567,
            val_loss=loss,
            val_loss_error=0.0123456,
            bits_per_byte=loss / math.log(2),
            raw_loss=loss,
            lr=config.optim.lr * (1 - done),
            seconds=done * config.train.epochs,
            clusters={"kind": "document", "tokens": tokens, "losses": stretches}  # type: ignore[arg-type]
            if mark == EVALUATIONS
            else None,
        )


def scale_space(folder: Path, trials: int, sampler: str, rule: str) -> Space:
    """The space of the sweep, and its files in `folder`."""
    folder.mkdir(parents=True)
    sets = (f"budget.trials={trials}", f"sampler.name={sampler}", f"prune.rule={rule}")
    write_text(folder / SPACE, TEXT)
    space = read_space(folder / SPACE, sets)
    write_text(folder / RESOLVED, yaml.safe_dump(space.resolved(), sort_keys=False))
    write_text(folder / SWEEP_ID, "0" * 16)
    return space


class Costs:
    """CPU seconds of each call by kind, each with how many trials had begun."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[int, float]]] = {}
        self.begun = 0

    def time(self, kind: str, call: Any, *arguments: Any) -> Any:
        begin = time.thread_time()
        answer = call(*arguments)
        self.rows.setdefault(kind, []).append((self.begun, time.thread_time() - begin))
        return answer


def drive(folder: Path, space: Space, workers: int) -> Costs:
    """Run the whole sweep in virtual time, with all that a driver keeps on the disk."""
    journal, costs = Journal(folder / JOURNAL), Costs()
    log_probs = LogProbs(folder / TRIALS, journal.view, space.trial.keep_log_probs)
    job = Job(space, folder, no_session)
    journal.append("sweep", **header(job, {}), ray=True)
    searching = Searching.open(open_storage(folder / LEDGER), space)
    session = Session(space, searching, journal, log_probs.take)
    session.queue.budget.slots = workers
    session.note("ready", slots=workers, resources={"cpu": 1.0})
    due: list[tuple[float, int, Trial, float, Iterator[Progress]]] = []
    now, over = 0.0, False
    while True:
        while len(due) < workers and not over:
            trial = costs.time("ask", session.next_trial)
            over = trial is None
            if trial:
                costs.begun += 1
                config = Config.from_settings(trial.settings)
                step = trial_flops(trial.settings) / EVALUATIONS
                its = evaluations(config, trial.number)
                heapq.heappush(due, (now + step, trial.number, trial, step, its))
        if not due:
            break
        now, number, trial, step, its = heapq.heappop(due)
        progress = next(its)
        kind = "last" if progress.done else "evaluation"
        if costs.time(kind, session.observe, trial, progress).stop:
            over = False
        else:
            heapq.heappush(due, (now + step, number, trial, step, its))
        costs.time("ask ahead", session.ask_ahead)
    session.close(session.end)
    return costs


def write(folder: Path, space: Space, workers: int) -> None:
    """The journal of a finished sweep and the ledger beside it, made without a driver."""
    draw, before = random.Random(0), [list[float]() for _ in range(EVALUATIONS + 1)]
    job = Job(space, folder, no_session)
    begun = time.time() * 1000
    events: list[dict[str, Any]] = [{"event": "sweep", "time": int(begun), **header(job, {})}]
    events.append({"event": "ready", "time": int(begun), "slots": workers})
    events.append({"event": "baseline", "time": int(begun), **(curve(space, View()) or {})})
    due: list[tuple[float, int, float, Iterator[Progress]]] = []
    now, number = 0.0, 0
    while number < space.budget.trials or due:
        at = int(begun + now)
        if number < space.budget.trials and len(due) < workers:
            shares = [draw.random() for _ in space.hyperparameters]
            its = {
                hp.setting: at_share(hp.domain, share)
                for hp, share in zip(space.hyperparameters, shares, strict=True)
                if isinstance(hp.domain, Range)
            }
            settings = {**space.fixed, **its}
            flops = trial_flops(settings)
            given = {"role": "search", "searched": its, "settings": settings, "flops": flops}
            name = f"{number:04d}"
            events.append({"event": "trial", "time": at, "trial": name, **given, "devices": 1.0})
            step = flops / EVALUATIONS / 1e9
            progresses = evaluations(Config.from_settings(settings), number)
            heapq.heappush(due, (now + step, number, step, progresses))
            number += 1
            continue
        now, which, step, progresses = heapq.heappop(due)
        at, name, progress = int(begun + now), f"{which:04d}", next(progresses)
        told = {"gap": progress.gap, **progress.to_dict()}
        events.append({"event": "observation", "time": at, "trial": name, **told})
        there = before[progress.basis_points * EVALUATIONS // WHOLE]
        worst = there[int(len(there) * SPARED)] if there else math.inf
        insort(there, progress.val_loss)
        ending = TrialEnding.FINISHED if progress.done else None
        if progress.basis_points >= EARLIEST * WHOLE and progress.val_loss > worst and not ending:
            ending = TrialEnding.BEHIND
        if ending is None:
            heapq.heappush(due, (now + step, which, step, progresses))
            continue
        reason = f"behind its peers at {progress.basis_points / 100:g} %"
        words = {"ending": ending, "reason": reason * (ending is TrialEnding.BEHIND)}
        ended = {"event": "outcome", "time": at, "trial": name, "outcome": ending.outcome}
        events.append({**ended, **words})
    over = Ending.TRIALS_SPENT
    events.append({"event": "end", "time": int(begun + now), "ending": over, "reason": over})
    lines = (json.dumps(without_infinity(event)) for event in events)
    write_text(folder / JOURNAL, "".join(f"{line}\n" for line in lines))
    begin = time.process_time()
    no_rule = replace(space, prune=PruneConfig(rule="none"))  # which notes nothing in the ledger
    rebuild(folder / LEDGER, no_rule, read_view(folder / JOURNAL), events)
    print(f"the ledger took {time.process_time() - begin:.0f} s of CPU")


def no_session(journal: Journal, watch: Any) -> Session:
    """A driver's session is opened by whom it is for."""
    raise AssertionError("no session is opened through this job")


def opening(folder: Path) -> None:
    """What `sweep run` opens of a folder whose budget is spent, to the question for work."""
    space = saved_space(folder)
    assert space is not None
    session = search(space, folder)(open_journal(folder), lambda event: None)
    assert not session.has_work


def tenths(costs: Costs, trials: int) -> list[list[str]]:
    """A line a kind: how many events, and ms of each for each tenth of the trials."""
    marks = [trials * (n + 1) // TENTHS for n in range(TENTHS)]
    rows = []
    for kind, events in costs.rows.items():
        by: list[list[float]] = [[] for _ in range(TENTHS)]
        for begun, seconds in events:
            by[min(TENTHS - 1, begun * TENTHS // (trials + 1))].append(1000 * seconds)
        rows.append([kind, str(len(events)), *(f"{fmean(b):.2f}" if b else "-" for b in by)])
    return [["event", "count", *(f"to {mark:,}" for mark in marks)], *rows]


def events(asked: argparse.Namespace, folder: Path) -> None:
    """Print the table of each sampler."""
    for sampler in asked.samplers.split(","):
        its = folder / sampler
        space = scale_space(its, asked.trials, sampler, asked.rule)
        begin = time.perf_counter()
        profile = cProfile.Profile() if asked.profile else None
        if profile:
            profile.enable()
        costs = drive(its, space, asked.workers)
        if profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        whole = sum(seconds for rows in costs.rows.values() for _, seconds in rows)
        sizes = ", ".join(f"{n} {bytes_text((its / n).stat().st_size)}" for n in (JOURNAL, LEDGER))
        print(
            f"\n{sampler}: {asked.trials} trials, {asked.workers} workers, {whole:.1f} s of CPU in "
            f"{time.perf_counter() - begin:.1f} s; {sizes}"
        )
        print(table(tenths(costs, asked.trials)), flush=True)


def verbs(folder: Path) -> None:
    """Print what each verb took."""
    rows = [["verb", "s of CPU", "s", "told"]]
    commands = {verb: ["-m", "sweep", *verb.split(), str(folder)] for verb in VERBS}
    commands["list"] = ["-m", "sweep", "list", "--runs", str(folder.parent)]
    commands["opening"] = [__file__, "open", "--folder", str(folder)]
    for verb, command in commands.items():
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        told = subprocess.run([sys.executable, *command], capture_output=True, check=False)
        after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        size = (folder / "report.html").stat().st_size if verb == "report" else len(told.stdout)
        rows.append([verb, f"{cpu:.1f}", f"{ended - begin:.1f}", bytes_text(size)])
        if told.returncode not in (0, 1):
            rows[-1][-1] = told.stderr.decode().strip().splitlines()[-1]
    print(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("part", choices=("events", "write", "verbs", "open"))
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--samplers", default="random,surface,tpe")
    parser.add_argument("--rule", default="median", help="of pruning")
    parser.add_argument("--profile", action="store_true", help="print what took the time")
    parser.add_argument("--folder", type=Path, help="where run folders stay, or the one to look at")
    asked = parser.parse_args()
    if asked.part == "write":
        write(asked.folder, scale_space(asked.folder, asked.trials, "random", asked.rule), 20)
    elif asked.part == "verbs":
        verbs(asked.folder)
    elif asked.part == "open":
        opening(asked.folder)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            events(asked, asked.folder or Path(scratch))
