"""What tracking costs the driver, and how fast a store takes a sweep.

    python benchmarks/tracking.py                                  # 200 trials, 100 points each
    python benchmarks/tracking.py drive --trials 50
    python benchmarks/tracking.py drain --trials 1000 --points 8   # many children
    python benchmarks/tracking.py drain --to http://127.0.0.1:5000

Every point has ten metrics and three of what the worker used.

drive  A session over a SQLite ledger, as `sweep run --here` has it, with a trainer that takes no
       time, so that the driver's share is larger than in any real sweep. `on tracking` is all that
       would fall away without it: appending to the journal, starting the publisher, and waiting for
       it at the end, which is a time of its own in the table.
drain  The same journal, all of it there at once, published to an empty store; then what a page
       asks of it: the first hundred trials by final loss, and one curve of one trial.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from model.config.config import Config
from model.progress import WHOLE, Progress
from sweep.folder import JOURNAL
from sweep.journal import Journal
from sweep.records import End, Ending
from sweep.session.roles import Searching
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.space.hyperparameter import Hyperparameter, Range
from sweep.space.settings import BudgetConfig, PruneConfig
from sweep.space.space import Space
from sweep.tracking import process

USAGE = {"cpu_percent": 97.1, "rss_megabytes": 512.3, "rss_peak_megabytes": 600.1}
ASKED = """
import json, sys, time
from mlflow import MlflowClient
client, seconds = MlflowClient(sys.argv[1]), {}
begun = time.perf_counter()
experiment = client.get_experiment_by_name("bench").experiment_id
ours = "tags.`sweep.role` = 'search'"
first = client.search_runs([experiment], ours, max_results=100,
                           order_by=["metrics.`final/val_loss` ASC"])
seconds["first hundred by loss"] = time.perf_counter() - begun
begun = time.perf_counter()
points = client.get_metric_history(first[0].info.run_id, "curves/val_loss")
seconds["one curve"] = time.perf_counter() - begun
count, token = 0, None
while True:
    page = client.search_runs([experiment], ours, max_results=1000, page_token=token)
    count, token = count + len(page), page.token
    if not token:
        break
print(json.dumps({"children": count, "points of a curve": len(points), **seconds}))
"""


def space(trials: int) -> Space:
    rate = Hyperparameter("optim.lr", Range(1e-3, 1e-1, log=True))
    budget, prune = BudgetConfig(trials=trials), PruneConfig(rule="none")
    return Space("bench", (rate,), {}, budget, prune=prune)


def evaluations(config: Config, points: int) -> Iterator[Progress]:
    """A curve in closed form; the digits are as many as a real one has."""
    floor = 3 + abs(math.log(config.optim.lr / 0.01)) / 7
    for mark in range(1, points + 1):
        done = mark / points
        loss = floor + (1 - done) ** 2 * 2.3456789
        yield Progress(
            basis_points=round(WHOLE * done),
            step=mark * 10,
            epoch=done * 1.0001,
            tokens=mark * 81_920,
            train_loss=loss - 0.1234567,
            val_loss=loss,
            val_loss_error=0.0123456,
            bits_per_byte=loss / math.log(2),
            raw_loss=loss + 0.0212121,
            ema_loss=loss + 0.0101010,
            lr=config.optim.lr * (1 - done),
            seconds=done * 61.2345,
        )


class Timed:
    """Adds up the seconds that calls take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.perf_counter() - begun

        return timed


def run_session(folder: Path, trials: int, points: int, ledger: str | None) -> Timed:
    """Drive a sweep in `folder`; what appending to the journal took."""
    spent, searching = Timed(), space(trials)
    storage = open_storage(Path(ledger) if ledger else None)
    journal = Journal(folder / JOURNAL)
    header = {"id": "1", "name": "bench", "trials": trials, "fixed": {}, "data": "0"}
    journal.append("sweep", train_tokens=1, **header)
    journal.append = spent(journal.append)  # type: ignore[method-assign]
    session = Session(searching, Searching.open(storage, searching), journal)
    while (trial := session.next_trial()) is not None:
        for progress in evaluations(Config.from_settings(trial.settings), points):
            if session.observe(trial, progress, USAGE).stop:
                break
    session.close(End(Ending.TRIALS_SPENT))
    return spent


def drive(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    begun = time.perf_counter()
    publishing = process.start(folder, asked.to)
    starting = time.perf_counter() - begun
    begun, busy = time.perf_counter(), time.process_time()
    spent = run_session(folder, asked.trials, asked.points, str(folder / "study.db"))
    busy = time.process_time() - busy
    driving = time.perf_counter() - begun + starting
    begun = time.perf_counter()
    complete = process.finish(publishing, seconds=None)
    waiting = time.perf_counter() - begun
    on_tracking = spent.seconds + starting
    return {
        "driver, s": driving,
        "of it CPU, s": busy,
        "on tracking, s": on_tracking,
        "on tracking, %": 100 * on_tracking / driving,
        "microseconds an event": 1e6 * spent.seconds / (asked.trials * (asked.points + 2)),
        "then waited for the publisher, s": waiting,
        "complete": float(complete),
    }


def drain(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    run_session(folder, asked.trials, asked.points, None)
    begun = time.perf_counter()
    complete = process.finish(process.start(folder, asked.to, process.ONCE), seconds=None)
    seconds = time.perf_counter() - begun
    metrics = asked.trials * asked.points * (10 + len(USAGE))
    command = [sys.executable, "-W", "ignore", "-c", ASKED, asked.to]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = {"drained in, s": seconds, "metrics a second": metrics / seconds}
    return {**figures, "complete": float(complete), **json.loads(done.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("drive", "drain"), help="one of the two")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--to", default="", help="URI of the store; default: a fresh SQLite file")
    asked = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("SWEEP_DRAIN_SECONDS", "600")
    store = asked.to
    for part in (asked.part,) if asked.part else ("drive", "drain"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "runs" / "bench"
            folder.mkdir(parents=True)
            asked.to = store or f"sqlite:///{Path(scratch) / 'mlflow.db'}"
            figures = {"drive": drive, "drain": drain}[part](asked, folder)
        print(f"{part}: {asked.trials} trials of {asked.points} points")
        for name, value in figures.items():
            print(f"  {name:34}{value:10.2f}")


if __name__ == "__main__":
    main()
