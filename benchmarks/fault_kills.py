"""Sweeps that are killed at random moments and continued by the same command until they end."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fault_processes import (
    AGENT,
    GCS,
    RAYLET,
    SECONDS_BETWEEN_LOOKS,
    WORKER,
    Family,
    Process,
    send,
    victims,
)

from sweep.doctor import examine

SPACE = """
name: faults
search:
  train.epochs: [1, 2, 4]
  optim.lr: {min: 1e-3, max: 1e-1, log: true}
fixed:
  data.train_tokens: 8193
  data.val_tokens: 2049
  data.test_tokens: 1025
  gpt.layers: 1
  gpt.width: 32
  gpt.context: 32
  train.batch_tokens: 256
  train.precision: fp32
  train.device: cpu
  train.evals: 8
budget: {trials: 6}
sampler: {name: random, seed: 2}
prune: {rule: none}
baseline: {multiples: [1]}
"""
KILLS_OF_A_SWEEP = 3  # at most; then it runs to its end
SECONDS_TO_END = 600.0  # for a driver, before it counts as hanging
SECONDS_TO_END_SLOWLY = 7200.0  # where SLOW
SECONDS_TO_GO = 60.0  # for processes of an ended sweep
# Who is hit. With True the driver is to go on by itself; with False the same command continues.
HERE = {"driver": False, "group": False, "tree": False}
ON_RAY = {**HERE, "worker": True, "agent": True, "raylet": True, "gcs": True, "frozen": True}
ON_RAY |= {"stopped": True}
WORDS = {
    "worker": (WORKER,),
    "agent": (AGENT,),
    "raylet": (RAYLET,),
    "gcs": (GCS,),
    "frozen": (RAYLET, GCS),
    "stopped": (WORKER,),
}
SLOW = ("stopped",)  # a worker may be silent for trial.silence, a quarter of an hour at least
NOWHERE = "http://127.0.0.1:9"  # no MLflow: the publisher finds that out at once


@dataclass(frozen=True)
class Round:
    """One sweep from its begin to its end, and all that went wrong."""

    where: str  # here or ray
    kind: str
    hits: int  # signals that hit somebody
    continued: int  # times that the command was given again
    wrong: tuple[str, ...]
    seconds: float


Losses = Mapping[str, tuple[str, tuple[tuple[int, float], ...]]]


class Place:
    """A folder for one sweep, with a temporary folder of its own; all of it goes in the end."""

    def __init__(self, cache: Path, number: str) -> None:
        # Ray's sockets are in the temporary folder, and their paths must be short.
        self.home = Path(tempfile.mkdtemp(prefix="flt"))
        self.temporary = self.home / "t"
        self.temporary.mkdir()
        (self.home / "space.yaml").write_text(SPACE)
        self.run = self.home / "runs" / "faults"
        self.family = Family(str(self.home))
        # Tables are made once; what a baseline came to must not come from another round.
        self._cache = self.home / "cache"
        shutil.copytree(cache, self._cache)
        self._log = self.home / f"{number}.log"

    def start(self, where: str) -> subprocess.Popen[bytes]:
        """The command, the same each time."""
        command = [sys.executable, "-m", "sweep", "run", "space.yaml", "--plain"]
        command += ["--here"] if where == "here" else []
        variables = {
            "TMPDIR": str(self.temporary),
            "SWEEP_CACHE": str(self._cache),
            "MLFLOW_TRACKING_URI": NOWHERE,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path[1:2]]),
            "SWEEP_FAULTS": str(self.home),  # by which its processes are told
        }
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.home,
                env={**os.environ, **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self) -> str:
        """The end of what it printed."""
        lines = self._log.read_text(errors="replace").splitlines()
        return " | ".join(lines[-3:])[-300:]

    def events(self) -> int:
        """Lines of its journal."""
        journal = self.run / "journal.jsonl"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    def tables(self) -> list[Path]:
        """Tokens that were prepared."""
        return [path for path in self._cache.iterdir() if path.is_file()]

    def close(self) -> None:
        self.family.kill()
        shutil.rmtree(self.home, ignore_errors=True)


def undisturbed(cache: Path, where: str, kept: Path | None = None) -> tuple[Losses, int, float]:
    """Its trials, events and seconds where nobody is hit.

    kept   where a copy of the run folder goes
    """
    place = Place(cache, "undisturbed")
    try:
        began = time.monotonic()
        code = _wait(place, place.start(where))
        if code != 0:
            raise SystemExit(f"the undisturbed sweep ends with {code}: {place.said()}")
        for table in place.tables():
            shutil.copy(table, cache)
        if kept:
            shutil.copytree(place.run, kept)
        return losses(place.run), place.events(), time.monotonic() - began
    finally:
        place.close()


def one_round(
    cache: Path, where: str, kind: str, expected: tuple[Losses, int, float], draw: random.Random
) -> Round:
    """Run a sweep, hit it some times, let it end; hold it against the undisturbed one."""
    place, began = Place(cache, "round"), time.monotonic()
    goes_on = (HERE if where == "here" else ON_RAY)[kind]
    hits, starts, wrong = 0, 0, list[str]()
    try:
        driver, starts = place.start(where), 1
        for _ in range(draw.randint(1, KILLS_OF_A_SWEEP)):
            if not _reach(place, driver, draw, expected):
                break  # it has ended before
            if not _hit(place.family, driver, kind, draw):
                continue  # nobody of that kind was there yet
            hits += 1
            if not goes_on:
                driver.wait()
                driver, starts = place.start(where), starts + 1
        patience = SECONDS_TO_END_SLOWLY if kind in SLOW else SECONDS_TO_END
        code = _wait(place, driver, patience)
        if goes_on and code not in (0, None):
            # It may give up, if it says so: then the same command continues.
            driver, starts = place.start(where), starts + 1
            code = _wait(place, driver, patience)
        wrong += ["it hangs"] if code is None else []
        wrong += [f"it ends with {code}: {place.said()}"] if code else []
        left = place.family.wait_until_gone(SECONDS_TO_GO)
        wrong += [f"left running: {_named(p)}" for p in left]
        if code == 0:
            wrong += _damage(place, expected[0])
    finally:
        place.close()
    return Round(where, kind, hits, starts - 1, tuple(wrong), time.monotonic() - began)


def losses(run: Path) -> Losses:
    """The outcome of each trial and its losses, as the journal has them."""
    its: dict[str, list[tuple[int, float]]] = {}
    outcomes: dict[str, str] = {}
    for line in (run / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "observation":
            its.setdefault(event["trial"], []).append((event["basis_points"], event["val_loss"]))
        elif event["event"] == "outcome":
            outcomes[event["trial"]] = event["outcome"]
    return {name: (outcomes.get(name, "none"), tuple(marks)) for name, marks in its.items()}


def _reach(
    place: Place,
    driver: subprocess.Popen[bytes],
    draw: random.Random,
    expected: tuple[Losses, int, float],
) -> bool:
    """Wait for a random moment of what is left of it; whether it still runs then.

    Moments are uniform over the events of a sweep, with the start of a driver as long as a third.
    """
    _, events, seconds = expected
    before = place.events()
    target = before + round(draw.uniform(-0.5, 1) * max(1, events - before))
    until = time.monotonic() + SECONDS_TO_END
    while driver.poll() is None and place.events() < target and time.monotonic() < until:
        place.family.look()
        time.sleep(SECONDS_BETWEEN_LOOKS)
    late = draw.uniform(0, seconds / 3 if target <= before else seconds / 20)
    until = time.monotonic() + late
    while driver.poll() is None and time.monotonic() < until:
        place.family.look()
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return driver.poll() is None


def _hit(family: Family, driver: subprocess.Popen[bytes], kind: str, draw: random.Random) -> bool:
    """Hit who is meant; whether anybody was there."""
    if kind == "driver":
        driver.send_signal(signal.SIGKILL)
    elif kind == "group":
        os.killpg(driver.pid, signal.SIGKILL)
    elif kind == "tree":
        family.kill()
    else:
        there = [process for word in WORDS[kind] for process in victims(family, word)]
        if not there:
            return False
        stops = kind in ("frozen", "stopped")
        send(draw.choice(there), signal.SIGSTOP if stops else signal.SIGKILL)
    return True


def _wait(
    place: Place, driver: subprocess.Popen[bytes], patience: float = SECONDS_TO_END
) -> int | None:
    """Its exit code; None if it takes more than so many seconds."""
    until = time.monotonic() + patience
    while (code := driver.poll()) is None and time.monotonic() < until:
        place.family.look()
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return code


def _damage(place: Place, expected: Losses) -> list[str]:
    """What is otherwise than after an undisturbed sweep."""
    wrong = []
    now = losses(place.run)
    for name in sorted(expected.keys() | now.keys()):
        if expected.get(name) != now.get(name):
            wrong.append(f"trial {name}: {_told(expected.get(name))}, now {_told(now.get(name))}")
    seen = Counter[tuple[object, ...]]()
    for line in (place.run / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] in ("observation", "outcome"):
            seen[event["event"], event["trial"], event.get("basis_points")] += 1
    wrong += [f"twice in the journal: {key}" for key, count in seen.items() if count > 1]
    wrong += [f"sweep doctor: {its.file} {its.what}" for its in examine(place.run)]
    left = [path.name for path in place.temporary.iterdir()]
    left += [path.name for path in place.run.glob(".*")]
    wrong += [f"left on the disk: {', '.join(sorted(left))}"] if left else []
    return wrong


def _told(trial: tuple[str, tuple[tuple[int, float], ...]] | None) -> str:
    if trial is None:
        return "not there"
    outcome, marks = trial
    return f"{outcome} with {len(marks)} evaluations, the last {marks[-1][1]!r}"


def _named(process: Process) -> str:
    return f"{process.pid} {process.command[:80]}"
