"""Faults on purpose: processes that are killed and input that is broken, and what comes of it.

    python benchmarks/faults.py                       # some minutes on two cores
    python benchmarks/faults.py --kinds driver,tree --where here --rounds 10
    python benchmarks/faults.py --kinds journals --cases 5000 --seed 3

Kills. Small sweeps, by the plain loop (here) and on Ray (ray), are hit by SIGKILL at random
moments: the driver; its process group; every process of it (tree); on Ray also a worker, the
raylet, its agent or the GCS; or raylet or GCS are stopped (frozen, by SIGSTOP). With --kinds
stopped it is a worker that never reports, which takes as long as trial.silence waits. After a kill
of the driver the same command continues, after another the driver is to go on by itself. Once a
sweep has ended it must have the trials and losses, to the last bit, of one that nobody disturbed;
nothing twice in its journal; a ledger that agrees with it (sweep doctor); no process left, and
nothing in its temporary folder.

Input. Spaces, --set words, journals, exports of others and data files, broken at random, go through
the command line in this process: no traceback, no exit code that is not documented, no hanging.

Everything random follows from --seed: a case is made again by --kinds KIND --first NUMBER --cases 1
(of a kill only who is hit when; what else runs decides what that meets). It works in temporary
folders and ends what it has started. Linux only: processes are read from /proc. Exit 1 if anything
went wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import fault_kills as kills
from fault_inputs import Inputs

from sweep.format import table

INPUTS = ("spaces", "overrides", "journals", "imports", "data")
KILLS = tuple(kills.ON_RAY)
DEFAULT = tuple(kind for kind in (*KILLS, *INPUTS) if kind not in kills.SLOW)


@dataclass
class Row:
    """What came of one kind of fault."""

    tried: int = 0
    hits: int = 0
    continued: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def main() -> None:
    asked = arguments()
    until = time.monotonic() + asked.seconds
    home = Path(tempfile.mkdtemp(prefix="faults"))
    rows: dict[str, Row] = defaultdict(Row)
    os.environ["SWEEP_CACHE"] = str(home / "cache")
    os.environ["MLFLOW_TRACKING_URI"] = kills.NOWHERE
    (home / "cache").mkdir()
    try:
        _all(asked, home, rows, until)
    except KeyboardInterrupt:
        print("stopped; what there is:", file=sys.stderr)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    cells = [["fault", "tried", "hits", "continued", "wrong", "seconds"]]
    for name, row in rows.items():
        numbers = row.tried, row.hits or "-", row.continued or "-", len(row.wrong)
        cells.append([name, *map(str, numbers), f"{row.seconds:.0f}"])
    print(table(cells))
    for name, row in rows.items():
        for text in row.wrong:
            print(f"{name}: {text}")
    sys.exit(any(row.wrong for row in rows.values()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kinds", default=",".join(DEFAULT), help="Faults, by comma.")
    parser.add_argument("--where", default="here,ray", help="Where sweeps are killed.")
    parser.add_argument("--rounds", type=int, default=2, help="Sweeps of each kind of kill.")
    parser.add_argument("--cases", type=int, default=300, help="Inputs of each kind.")
    parser.add_argument("--first", type=int, default=0, help="Number of the first of them.")
    parser.add_argument("--seconds", type=float, default=3600, help="Begin nothing after that.")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.kinds, asked.where = asked.kinds.split(","), asked.where.split(",")
    if unknown := {*asked.kinds} - {*KILLS, *INPUTS} | {*asked.where} - {"here", "ray"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return asked


def _all(asked: argparse.Namespace, home: Path, rows: dict[str, Row], until: float) -> None:
    wanted = list(_kills(asked))
    broken = [kind for kind in asked.kinds if kind in INPUTS]
    expected = {}
    if wanted or broken:
        expected["here"] = kills.undisturbed(home / "cache", "here", home / "run")
    if any(where == "ray" for where, _ in wanted):
        losses, events, seconds = kills.undisturbed(home / "cache", "ray")
        if losses != expected["here"][0]:
            rows["ray, undisturbed"].wrong.append("other losses than here")
        expected["ray"] = losses, events, seconds
    # Round by round, so that a bound in seconds leaves out rounds and not kinds.
    for number in range(asked.first, asked.first + asked.rounds):
        for where, kind in wanted:
            if time.monotonic() > until:
                break
            draw = random.Random(f"{asked.seed} {where} {kind} {number}")
            its = kills.one_round(home / "cache", where, kind, expected[where], draw)
            row = rows[f"kill {kind}, {where}"]
            row.tried, row.hits = row.tried + 1, row.hits + its.hits
            row.continued, row.seconds = row.continued + its.continued, row.seconds + its.seconds
            row.wrong += [f"{number}: {text}" for text in its.wrong]
            _say(f"{kind}, {where}, {number}: {'; '.join(its.wrong) or 'as if undisturbed'}")
    (home / "inputs").mkdir()
    inputs = Inputs(home / "inputs", home / "run")
    for number in range(asked.first, asked.first + asked.cases):
        for kind in broken:
            row, began = rows[kind], time.monotonic()
            if began > until:
                break
            case = inputs.case(kind, f"{asked.seed} {kind} {number}")
            row.tried, row.seconds = row.tried + 1, row.seconds + time.monotonic() - began
            if case.wrong:
                words = " ".join(case.words)[:200]
                row.wrong.append(f"{number}: {words}: {case.wrong}")
                _say(f"{kind}, {row.wrong[-1]}")


def _kills(asked: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for where in asked.where:
        for kind in kills.HERE if where == "here" else kills.ON_RAY:
            if kind in asked.kinds:
                yield where, kind


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
