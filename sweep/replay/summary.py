"""The figures of many replays of one method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from sweep.records import Outcome
from sweep.replay.bank import Bank
from sweep.replay.simulator import TOP, Replay

Z = 1.96  # normal quantile of a 95 % interval


@dataclass(frozen=True)
class Summary:
    """Over orders; compute in shares of what training every cell of the bank once takes."""

    orders: int
    complete: float  # trials a sweep, mean
    pruned: float
    compute: float  # median
    saved: float  # mean share of the compute that pruning left out
    reached: float  # share of orders that came within the noise floor of the best
    to_best: tuple[float, float, float]  # compute until then: quartiles; inf where not reached
    killed: float  # false-kill rate: share of the eventual best three that were pruned
    killed_interval: tuple[float, float]
    regret: float  # median of the final best loss over the bank's best, nats per token

    def to_dict(self) -> dict[str, Any]:
        """For JSON: what was not reached is None."""
        quartiles = [q if math.isfinite(q) else None for q in self.to_best]
        regret = self.regret if math.isfinite(self.regret) else None
        return {**asdict(self), "to_best": quartiles, "regret": regret}


def summarise(
    replays: Sequence[Replay],
    orders: Sequence[int],
    banks: Sequence[Bank],
    cost: str,
    floor: float,
) -> Summary:
    """The replays of one method; the i-th is that of `orders[i]` on `banks[i]`.

    floor  distance from the best, in nats, at which a sweep counts as having reached it
    """
    wholes = [whole_bank(bank, cost) for bank in banks]
    bests = [best_of(bank, order) for bank, order in zip(banks, orders, strict=True)]
    every = list(zip(replays, bests, wholes, strict=True))
    to_best = [r.compute_to(best + floor) / whole for r, best, whole in every]
    tops = [min(TOP, len({trial.cell for trial in r.trials})) for r in replays]
    killed, top = sum(r.killed() for r in replays), sum(tops)
    count = len(replays)
    return Summary(
        orders=count,
        complete=sum(r.count(Outcome.COMPLETE) for r in replays) / count,
        pruned=sum(r.count(Outcome.PRUNED) for r in replays) / count,
        compute=median(r.compute / whole for r, _, whole in every),
        saved=sum(r.saved for r in replays) / count,
        reached=sum(map(math.isfinite, to_best)) / count,
        to_best=quartiles(to_best),
        killed=killed / top if top else 0.0,
        killed_interval=wilson(killed, top),
        regret=median(r.best_after(math.inf) - best for r, best, _ in every),
    )


def whole_bank(bank: Bank, cost: str) -> float:
    """Compute of training every cell once."""
    return math.fsum(float(getattr(curves[0], cost)) for curves in bank.cells.values())


def best_of(bank: Bank, order: int) -> float:
    """The lowest final loss that a sweep of this order could have found."""
    finals = [bank.final(curve) for curve in bank.repetition(order).values()]
    return min(final for final in finals if not math.isnan(final))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The quartiles as values that occurred, so that infinity may be one of them."""
    ordered = sorted(values)
    lower, middle, upper = (
        ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
        for share in (0.25, 0.5, 0.75)
    )
    return lower, middle, upper


def wilson(hits: int, among: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927): not of width 0 when nothing was hit.

    Orders share their curves: it covers other orders on this bank, not other grids.
    """
    if not among:
        return 0.0, 1.0
    rate, spread = hits / among, Z**2 / among
    middle = (rate + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(rate * (1 - rate) / among + spread / (4 * among))
    return max(0.0, middle - half), min(1.0, middle + half)
