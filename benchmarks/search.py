"""What a search costs until it has found the best recipe: ours, random, and stock tools.

    python benchmarks/search.py                  # about 15 minutes of three cores
    python benchmarks/search.py --vary           # each order searches another part of the bank
    python benchmarks/search.py --only ours --only random --workers 1,8,64
    python benchmarks/search.py --bank nanochat.parquet --floors 0.3    # benchmarks/nanochat.py

Sweeps are replayed in virtual time on a bank of recorded curves (benchmarks/bank.py made it), with
`--orders` seeds of the proposals each; an order also draws which of a cell's recorded seeds a sweep
sees. Compute is training FLOPs, in percent of training every cell of the bank once: until a trial
has completed whose final loss is within the noise floor (standard deviation between seeds) of the
lowest that order could find. Median, quartiles and worst over orders; a dash where fewer found it
within `--budget` and as many proposals as there are cells. Time is what passes for all workers, in
percent of what one takes for the whole bank, median: with many of them compute says little, as all
train while the best does, and those that a stuck tool leaves idle cost nothing. Then the best loss
found, ours against random, at budgets along the way.

A cell that is proposed again costs nothing, which favours tools that repeat themselves; stock tools
are given the recorded values as lists and as ranges (snapped to the nearest); the better counts.
With `--vary` one value is left out of epochs, of decay and of size, another in each order: the best
lies elsewhere, also where no prior expects it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from stock import methods as stock_methods

from sweep.cli.replay import percent, row
from sweep.format import table
from sweep.records import Outcome
from sweep.replay.bank import Bank, Cell, make_bank
from sweep.replay.curves import read_about, read_curves
from sweep.replay.simulator import Replay, replay, simulate
from sweep.replay.summary import (
    Summary,
    best_of,
    summarise,
    whole_bank,
)
from sweep.space.settings import PruneConfig, SamplerConfig

BANK = Path(__file__).parent / "bank.parquet"
OURS, BLIND, CERTIFIED = "ours", "random", "coordinate descent, certificate"
NOTHING = PruneConfig(rule="none")
OWN: dict[str, tuple[SamplerConfig, PruneConfig]] = {
    CERTIFIED: (SamplerConfig(name="coordinate"), NOTHING),
    OURS: (SamplerConfig(), PruneConfig()),
    "ours, nothing pruned": (SamplerConfig(), NOTHING),
    "ours, expecting nothing": (SamplerConfig(expect=False), PruneConfig()),
    "ours, expecting nothing nor pruning": (SamplerConfig(expect=False), NOTHING),
    "Optuna TPE, our pruning": (SamplerConfig(name="tpe"), PruneConfig()),
}
BUDGETS = [0.01 * 1.25**step for step in range(18)]  # of the whole bank


@cache
def read_bank(path: Path, half: int | None = None) -> Bank:
    """The bank; or one half of its cells, the same at every call."""
    about = read_about(path)
    bank = make_bank(read_curves(path), about.get("settings"), about.get("noise", math.nan))
    return (
        bank
        if half is None
        else kept(bank, random.Random(0).sample(list(bank.cells), k=len(bank.cells))[half::2])
    )


@cache
def varied(path: Path, order: int) -> Bank:
    """The bank without one value, drawn by `order`, of each setting that has three or more."""
    bank, draw = read_bank(path), random.Random(order)
    cells = list(bank.cells)
    for column in range(len(bank.names)):
        by_kind = sorted({cell[column] for cell in cells}, key=str)
        if len(by_kind) >= 3 and bank.names[column] != "optim.lr":
            dropped = draw.choice(by_kind)
            cells = [cell for cell in cells if cell[column] != dropped]
    return kept(bank, cells)


def kept(bank: Bank, cells: Sequence[Cell]) -> Bank:
    return replace(bank, cells={cell: bank.cells[cell] for cell in cells})


@dataclass(frozen=True)
class Terms:
    """On what a comparison of methods is held."""

    path: Path
    vary: bool  # another part of the bank in each order
    budget: float  # of training all of it
    floor: float  # nats

    def bank(self, order: int) -> Bank:
        return varied(self.path, order) if self.vary else read_bank(self.path)


def play(terms: Terms, name: str, workers: int, order: int) -> Replay:
    """One sweep of one method, until it has found the best; random goes on to compare with."""
    bank = terms.bank(order)
    compute = terms.budget * whole_bank(bank, "flops")
    target = -math.inf if name == BLIND else best_of(bank, order) + terms.floor
    most = len(bank.cells)
    if name in OWN:
        sampler, prune = OWN[name]
        # The middle of this grid is its best cell, or next to it: descent begins anywhere.
        start = random.Random(order).choice(list(bank.cells))
        first = [_settings(bank, start)] if name == CERTIFIED else []
        limits: dict[str, Any] = {"compute": compute, "target": target, "first": first}
        return simulate(bank, sampler, prune, order, trials=most, workers=workers, **limits)
    search = AtMost(stock_methods(bank)[name](bank, order), most)
    return replay(search, bank, bank.repetition(order), workers, compute, target=target)


def _settings(bank: Bank, cell: Cell) -> dict[str, Any]:
    return {n: v for n, v in zip(bank.names, cell, strict=True) if v is not None}


class AtMost:
    """A search with a budget of trials, as every tool has one."""

    def __init__(self, search: Any, trials: int) -> None:
        self._search, self._left = search, trials
        self.observe, self.fail = search.observe, search.fail

    def next_trial(self) -> Any:
        self._left -= 1
        return self._search.next_trial() if self._left >= 0 else None


def played(jobs: Sequence[Callable[[], Replay]], processes: int, what: str) -> list[Replay]:
    """The replays of `jobs` in their order; how many are done is printed every ten seconds."""
    replays, printed = [], time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for replayed in pool.map(_call, jobs, chunksize=4):
            replays.append(replayed)
            if time.monotonic() - printed > 10 or len(replays) == len(jobs):
                printed = time.monotonic()
                print(f"{what}: {len(replays)}/{len(jobs)} sweeps", file=sys.stderr, flush=True)
    return replays


def _call(job: Callable[[], Replay]) -> Replay:
    return job()


def compare(arguments: argparse.Namespace) -> None:
    whole, orders = read_bank(arguments.bank), range(arguments.orders)
    floor = arguments.floors * whole.noise()
    terms = Terms(arguments.bank, arguments.vary, arguments.budget, floor)
    banks = [terms.bank(order) for order in orders]
    names = [*stock_methods(whole), *OWN]
    names = [n for n in names if not arguments.only or n in arguments.only]
    results: list[dict[str, Any]] = []
    print(bank_line(whole, arguments.orders))
    for workers in arguments.workers:
        rows, replays = [], {}
        for name in names:
            jobs = [partial(play, terms, name, workers, order) for order in orders]
            replays[name] = played(jobs, arguments.jobs, f"{workers} workers, {name}")
            summary = summarise(replays[name], orders, banks, "flops", floor)
            shares = shares_to_best(replays[name], banks, orders, floor)
            took = median(times_to_best(replays[name], banks, orders, floor))
            rows.append(line(name, summary, max(shares), took))
            every = [share if math.isfinite(share) else None for share in shares]
            results.append(
                {"method": name, "workers": workers, **summary.to_dict()}
                | {"orders_to_best": every, "time": took if math.isfinite(took) else None}
            )
            print("  ".join(rows[-1]), file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=1))
        print(f"\n{workers} workers\n{table([HEADER, *rows])}")
        if OURS in replays and BLIND in replays:
            print(against_random(banks, replays[OURS], replays[BLIND], orders), flush=True)


HEADER = [
    *("method", "to best", "quartiles", "worst", "time", "reached"),
    *("false kills", "95 %", "pruned", "regret"),
]


def shares_to_best(
    replays: Sequence[Replay], banks: Sequence[Bank], orders: Sequence[int], floor: float
) -> list[float]:
    """Compute to the best in shares of the bank, an order each; inf where it was not reached."""
    return [
        replayed.compute_to(best_of(bank, order) + floor) / whole_bank(bank, "flops")
        for replayed, bank, order in zip(replays, banks, orders, strict=True)
    ]


def times_to_best(
    replays: Sequence[Replay], banks: Sequence[Bank], orders: Sequence[int], floor: float
) -> list[float]:
    """Elapsed time to the best, in shares of what one worker takes for the whole bank."""
    return [
        min(
            (
                t.time
                for t in replayed.trials
                if t.outcome is Outcome.COMPLETE and t.final <= best_of(bank, order) + floor
            ),
            default=math.inf,
        )
        / whole_bank(bank, "flops")
        for replayed, bank, order in zip(replays, banks, orders, strict=True)
    ]


def line(name: str, summary: Summary, worst: float, took: float) -> list[str]:
    share = percent(summary.pruned / max(1e-9, summary.complete + summary.pruned))
    middle, quartiles, reached, kills, interval, regret = row(name, summary)[5:]
    shares = [middle, quartiles, percent(worst), percent(took)]
    return [name, *shares, reached, kills, interval, share, regret]


def against_random(
    banks: Sequence[Bank], ours: Sequence[Replay], blind: Sequence[Replay], orders: Sequence[int]
) -> str:
    """Median regret by budget: ours and random's."""

    def regret(replays: Sequence[Replay], budget: float) -> float:
        return median(
            replayed.best_after(budget * whole_bank(bank, "flops")) - best_of(bank, order)
            for replayed, bank, order in zip(replays, banks, orders, strict=True)
        )

    rows = [["compute", "ours", "random", ""]]
    for budget in BUDGETS:
        both = regret(ours, budget), regret(blind, budget)
        rows.append([percent(budget), *(f"{r:.4f}" for r in both), "worse" * (both[0] > both[1])])
    return table(rows)


def bank_line(bank: Bank, orders: int) -> str:
    return f"{len(bank.cells)} cells, {orders} orders, noise floor {bank.noise():.4f} nats"


def arguments_of(parser: argparse.ArgumentParser) -> None:
    """What every comparison on a bank takes."""
    parser.add_argument("--bank", type=Path, default=BANK)
    parser.add_argument("--orders", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--json", type=Path, help="where to write every figure")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments_of(parser)
    parser.add_argument(
        "--workers", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8]
    )
    parser.add_argument("--budget", type=float, default=0.6, help="of training all once")
    parser.add_argument("--vary", action="store_true", help="a part of the bank an order")
    parser.add_argument("--floors", type=float, default=1.0, help="within so many noises")
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
