"""What trials of an earlier sweep save a search, and what misleading ones cost it.

    OPENBLAS_NUM_THREADS=1 python benchmarks/warm.py replay --orders 12
    OPENBLAS_NUM_THREADS=1 python benchmarks/warm.py synthetic --orders 8
    OPENBLAS_NUM_THREADS=1 python benchmarks/warm.py largest --orders 16

`replay` splits a bank of recorded curves (benchmarks/bank.parquet, or `--bank`): one part is
searched, 30 cells of the other are the earlier sweep, drawn by the order, with 0.3 nats added to
their losses. Splits: all of it again; or by a setting, what has its last value after what has
others. Compute until within the noise floor of the best of the part, in percent of training all of
it once. The earlier sweep is

    nothing      there is none
    true         as recorded
    mirrored     each cell has the loss of the cell at the other end of every setting with numbers:
                 the optimum is elsewhere
    permuted     losses are dealt out among the cells

`synthetic` does so with losses in closed form of benchmarks/synthetic.py: the earlier sweep has 30
random trials, with the optimum where it is now, moved by about a tenth of each range, drawn anew
like all else, or permuted; nats above the optimum after so many trials.

`largest` leaves the largest size out (`--column` another setting): which recipe would be tried
there by trials of the smaller ones alone? Nats above the best recipe there, mean and worst order.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from search import OURS, OWN, arguments_of, kept, played, read_bank, shares_to_best, varied
from synthetic import NOISE, OPTIMUM, SHAPES, Loss, make_loss

from model.config import Value
from sweep.cli.replay import percent
from sweep.format import table
from sweep.replay.bank import Bank, Cell
from sweep.replay.simulator import Replay, simulate
from sweep.replay.summary import best_of
from sweep.search.acquisition import propose
from sweep.search.coordinates import pool_of
from sweep.search.earlier import EarlierSweep, EarlierTrial, lessons
from sweep.search.seen import Seen, learn
from sweep.space.points import draws
from sweep.space.settings import PruneConfig, SamplerConfig

LEVEL, TRIALS = 0.3, 30  # nats that an earlier sweep's losses lie higher; and how many it has
KINDS = ("nothing", "true", "mirrored", "permuted")
AGAIN = "again"
SPLITS = (AGAIN, "gpt.scale", "optim.name")


def parts(bank: Bank, split: str, order: int) -> tuple[list[Cell], list[Cell]]:
    """Cells to search, and those that the earlier sweep had to choose from."""
    cells = list(bank.cells)
    if split == AGAIN:
        return cells, cells
    column = bank.names.index(split)
    last = max(cell[column] for cell in cells)
    return [c for c in cells if c[column] == last], [c for c in cells if c[column] != last]


def earlier_of(bank: Bank, cells: Sequence[Cell], kind: str, order: int) -> EarlierSweep:
    """Some of `cells` as the trials of an earlier sweep, with other seeds where there are any."""
    curves, draw = bank.repetition(order + 1000), random.Random(order)
    drawn = draw.sample(list(cells), min(TRIALS, len(cells)))
    losses = [bank.final(curves[mirror(bank, c) if kind == "mirrored" else c]) for c in drawn]
    if kind == "permuted":
        draw.shuffle(losses)
    trials = [
        EarlierTrial({**bank.fixed, **settings_of(bank, cell)}, loss + LEVEL)
        for cell, loss in zip(drawn, losses, strict=True)
        if math.isfinite(loss)
    ]
    return EarlierSweep(kind, tuple(trials))


def settings_of(bank: Bank, cell: Cell) -> dict[str, Value]:
    return {n: v for n, v in zip(bank.names, cell, strict=True) if v is not None}


def mirror(bank: Bank, cell: Cell) -> Cell:
    """The cell at the other end of every setting with numbers, sizes apart."""
    texts = [n for n, value in enumerate(cell) if isinstance(value, str)]
    alike = [other for other in bank.cells if all(other[n] == cell[n] for n in texts)]
    mirrored = []
    for column, value in enumerate(cell):
        if isinstance(value, int | float) and bank.names[column] != "gpt.scale":
            values = sorted({other[column] for other in alike})
            value = values[len(values) - 1 - values.index(value)]
        mirrored.append(value)
    return tuple(mirrored)


def replayed(
    path: Path, vary: bool, floors: float, split: str, kind: str, expect: bool, order: int
) -> Replay:
    whole = varied(path, order) if vary else read_bank(path)
    now, before = parts(whole, split, order)
    bank = kept(whole, now)
    sampler, prune = OWN[OURS if expect else "ours, expecting nothing"]
    earlier = () if kind == "nothing" else (earlier_of(whole, before, kind, order),)
    target = best_of(bank, order) + floors * read_bank(path).noise()
    most = len(bank.cells)
    return simulate(bank, sampler, prune, order, trials=most, target=target, earlier=earlier)


def compare_replays(arguments: argparse.Namespace) -> None:
    orders = range(arguments.orders)
    rows = [["split", "earlier sweep", "median", "quartiles", "worst"]]
    results = []
    for split in arguments.splits or SPLITS:
        for kind in arguments.kinds or KINDS:
            terms = arguments.bank, arguments.vary, arguments.floors
            fixed = *terms, split, kind, not arguments.expect_nothing
            jobs = [Job(replayed, (*fixed, order)) for order in orders]
            replays = played(jobs, arguments.jobs, f"{split}, {kind}")
            banks = []
            for order in orders:
                whole = varied(arguments.bank, order) if arguments.vary else None
                whole = whole or read_bank(arguments.bank)
                banks.append(kept(whole, parts(whole, split, order)[0]))
            floor = arguments.floors * read_bank(arguments.bank).noise()
            shares = sorted(shares_to_best(replays, banks, orders, floor))
            quarter = len(shares) // 4
            between = f"{percent(shares[quarter])} to {percent(shares[-1 - quarter])}"
            rows.append([split, kind, percent(median(shares)), between, percent(shares[-1])])
            results.append([split, kind, shares])
            print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


SEARCHED = (5, 10, 20, 40)  # trials after which regret is told
CHANGES = ("nothing", "same", "near", "other", "permuted")


def changed(shape: str, order: int, change: str) -> Loss:
    """The loss that the earlier sweep saw."""
    loss, draw = make_loss(SHAPES[shape], order), np.random.default_rng([order, 5])
    if change == "near":
        moved = {n: at + draw.normal(0, 0.1) for n, at in loss.optimum.items()}
        return replace(loss, optimum={n: min(max(at, 0.0), 1.0) for n, at in moved.items()})
    return make_loss(SHAPES[shape], order + 500) if change == "other" else loss


def earlier_closed(shape: str, order: int, change: str) -> tuple[EarlierSweep, ...]:
    if change == "nothing":
        return ()
    loss, draw = changed(shape, order, change), random.Random(order)
    points = draws(loss.space.hyperparameters, TRIALS, seed=order + 77)
    losses = [loss(point) + LEVEL + draw.gauss(0, NOISE) for point in points]
    if change == "permuted":
        draw.shuffle(losses)
    both = zip(points, losses, strict=True)
    trials = tuple(EarlierTrial({**loss.space.fixed, **p}, at) for p, at in both)
    return (EarlierSweep(change, trials),)


def searched(shape: str, change: str, expect: bool, order: int) -> list[float]:
    """Nats above the optimum of the best trial, after each of SEARCHED trials of one worker."""
    loss, earlier = make_loss(SHAPES[shape], order), earlier_closed(shape, order, change)
    space = replace(loss.space, sampler=SamplerConfig(seed=order, expect=expect))
    noise, seen, regrets = np.random.default_rng([order, 99]), [], []
    for number in range(max(SEARCHED)):
        rng = np.random.default_rng([order, number])
        suggestion = propose(space, seen, rng, earlier)
        assert suggestion is not None
        regrets.append(loss(suggestion.point) - OPTIMUM)
        seen.append(Seen(suggestion.point, regrets[-1] + OPTIMUM + noise.normal(0, NOISE)))
    return [min(regrets[:count]) for count in SEARCHED]


def compare_closed(arguments: argparse.Namespace) -> None:
    rows = [["space", "earlier sweep", *(f"{count} trials" for count in SEARCHED)]]
    for shape in arguments.spaces or ("4", "4, far", "12"):
        for change in arguments.kinds or CHANGES:
            fixed = shape, change, not arguments.expect_nothing
            jobs = [Job(searched, (*fixed, order)) for order in range(arguments.orders)]
            regrets = list(zip(*played(jobs, arguments.jobs, f"{shape}, {change}"), strict=True))
            rows.append([shape, change, *(f"{median(r):.4f} (to {max(r):.4f})" for r in regrets)])
            print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows))


PLACED = ("surface", "surface, as an earlier sweep", "best of the next smaller", "before any trial")


def placed(path: Path, column: str, tried: int, expect: bool, order: int) -> dict[str, float]:
    """Nats above the best of the largest value of `column`, by how its recipe was chosen.

    From `tried` trials with smaller values, drawn by the order.
    """
    bank, at = read_bank(path), read_bank(path).names.index(column)
    values = sorted({cell[at] for cell in bank.cells})
    means = {c: fmean(bank.final(curve) for curve in curves) for c, curves in bank.cells.items()}
    largest = [cell for cell in bank.cells if cell[at] == values[-1]]
    smaller = [cell for cell in bank.cells if cell[at] != values[-1]]
    curves = bank.repetition(order)
    drawn = random.Random(order).sample(smaller, min(tried, len(smaller)))
    losses = [bank.final(curves[cell]) for cell in drawn]
    sampler = SamplerConfig(expect=expect)

    def lowest(bank: Bank, seen: list[Seen], earlier: tuple[EarlierSweep, ...] = ()) -> Cell:
        space = bank.space(sampler, PruneConfig(rule="none"), 1)
        taught = lessons(space, earlier) if earlier else None
        pool = taught.pool if taught else pool_of(space)
        surrogate = learn(space, pool, seen, taught.evidence if taught else None)
        return largest[
            int(np.argmin(surrogate.mean(pool.place([settings_of(bank, c) for c in largest]))))
        ]

    seen = [Seen(settings_of(bank, c), loss) for c, loss in zip(drawn, losses, strict=True)]
    trials = [EarlierTrial({**bank.fixed, **s.point}, s.loss or 0.0) for s in seen]
    next_smaller = [n for n, cell in enumerate(drawn) if cell[at] == values[-2]]
    best = drawn[min(next_smaller, key=losses.__getitem__)]
    chosen = {
        PLACED[0]: lowest(bank, seen),
        PLACED[1]: lowest(kept(bank, largest), [], (EarlierSweep("smaller", tuple(trials)),)),
        PLACED[2]: (*best[:at], values[-1], *best[at + 1 :]),
        PLACED[3]: lowest(bank, []),
    }
    return {how: means[cell] - min(means[c] for c in largest) for how, cell in chosen.items()}


def compare_placed(arguments: argparse.Namespace) -> None:
    rows = [["trials", *PLACED]]
    for tried in (12, 24, 48, 10**6):
        fixed = arguments.bank, arguments.column, tried, not arguments.expect_nothing
        jobs = [Job(placed, (*fixed, order)) for order in range(arguments.orders)]
        regrets: Any = played(jobs, arguments.jobs, f"{tried} trials")
        by_how = [[one[how] for one in regrets] for how in PLACED]
        rows.append([str(tried), *(f"{fmean(r):.4f} (to {max(r):.4f})" for r in by_how)])
    print(table(rows))


@dataclass(frozen=True)
class Job:
    """A call in another process."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __call__(self) -> Any:
        return self.call(*self.arguments)


WHATS = {"replay": compare_replays, "synthetic": compare_closed, "largest": compare_placed}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=WHATS)
    arguments_of(parser)
    parser.add_argument("--vary", action="store_true", help="a part of the bank an order")
    parser.add_argument("--expect-nothing", action="store_true", help="without the field's bowl")
    parser.add_argument("--splits", action="append", metavar="SETTING", help="or again")
    parser.add_argument("--floors", type=float, default=1.0, help="within so many noises")
    parser.add_argument("--column", default="gpt.scale", help="whose largest value is left out")
    parser.add_argument("--spaces", action="append", choices=SHAPES)
    parser.add_argument("--kinds", action="append", choices={*KINDS, *CHANGES})
    arguments = parser.parse_args()
    WHATS[arguments.what](arguments)


if __name__ == "__main__":
    main()
