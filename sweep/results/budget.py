"""What may be spent, what has been, and whether one more trial fits in what is left.

No trial is ever cut short for a budget: what does not fit is not started, what runs ends.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from heapq import heapify, heappop, heappush
from statistics import median

from sweep.format import finite_or_none
from sweep.records import End, Ending, Outcome, Role
from sweep.space import BudgetConfig
from sweep.view import TrialView, View

SEARCHING = (Role.SEARCH, Role.BASELINE)  # a baseline is part of what a search costs
NEIGHBOURS = 5  # trials of nearest cost whose speed tells that of another
HOUR = 3600.0
ROUNDING = 1 + 1e-9  # sums of the same terms in another order differ


@dataclass(frozen=True)
class Expense:
    """Training that is still to be done; seconds are not a number where nothing tells them."""

    flops: float
    seconds: float
    device_seconds: float


@dataclass(frozen=True)
class Spent:
    """What trials and their drivers have used so far.

    flops, device_seconds   as of each trial's latest observation: work that a kill undid and that
                            was then repeated counts once
    seconds                 of drivers at work, from their first event to their last
    best_loss               nats per token, of a complete search trial; infinite before the first
    spared_flops            that shared trunks made unnecessary; not among `flops`
    """

    flops: float
    seconds: float
    device_seconds: float
    best_loss: float
    spared_flops: float = 0.0


def spent(view: View, roles: Collection[Role], now: int | None = None) -> Spent:
    """What trials of `roles` have used; `now` as for View.wall_seconds."""
    trials = _of(view, roles)
    searches = [t for t in trials if t.role is Role.SEARCH]
    complete = [t.val_loss for t in searches if t.outcome is Outcome.COMPLETE]
    return Spent(
        flops=math.fsum(t.flops * t.trained for t in trials),
        seconds=sum(view.wall_seconds(role, now) for role in roles),
        device_seconds=math.fsum(t.devices * t.seconds for t in trials),
        best_loss=min(complete, default=math.inf),
        spared_flops=math.fsum(t.flops * (t.done - t.trained) for t in trials),
    )


def cost_left(
    view: View,
    flops: float,
    devices: float,
    trial: TrialView | None = None,
    spared: float = 0.0,
) -> Expense:
    """What a trial of so many FLOPs on so many devices still needs.

    trial    its past
    spared   the fraction of its schedule that a shared trunk spares it, if it has none
    """
    if trial is not None:
        spared = trial.done if trial.last else trial.spared
    left = flops * (1 - spared)
    trained = ((t.flops * t.trained, t.seconds) for t in view.trials.values())
    seconds = expected_seconds(left, trained)
    return Expense(left, seconds, devices * seconds)


def expected_seconds(flops: float, seen: Iterable[tuple[float, float]]) -> float:
    """How long `flops` will take, by what took how long; not a number if nothing did.

    seen   (FLOPs done, seconds) of trials

    The median speed of the trials that were nearest in cost: small networks do fewer operations a
    second than large ones, and one trial on a busy machine must not decide.
    """
    if flops == 0:
        return 0.0
    rates = [(abs(math.log(f / flops)), s / f) for f, s in seen if f > 0 and s > 0]
    nearest = [rate for _, rate in sorted(rates)[:NEIGHBOURS]]
    return flops * median(nearest) if nearest else math.nan


def row_expense(row: Sequence[Expense], running: Sequence[Expense] = (), slots: int = 1) -> Expense:
    """What the runs of `row` need together, if they begin in this order as slots become free.

    running   what is left to those that occupy slots now
    seconds   from now until the last of the row has ended
    """
    free_at = [its.seconds for its in running] + [0.0] * (slots - len(running))
    heapify(free_at)
    ends = []
    for its in row:
        ends.append(heappop(free_at) + its.seconds)
        heappush(free_at, ends[-1])
    unknown = any(math.isnan(its.seconds) for its in (*row, *running))
    return Expense(
        math.fsum(its.flops for its in row),
        math.nan if unknown else max(ends, default=0.0),
        math.fsum(its.device_seconds for its in row),
    )


def misfit(budget: BudgetConfig, used: Spent, running: Sequence[Expense], more: Expense) -> str:
    """Why a trial that needs `more` cannot end within the budget; empty if it can.

    running   what trials that have begun still need
    An unknown duration never rejects a trial; the first one has to run to measure it.
    """
    begun = row_expense(running, slots=len(running))
    limits = [
        ("FLOPs", budget.flops, used.flops, begun.flops, more.flops),
        (
            "device-hours",
            budget.device_hours,
            used.device_seconds / HOUR,
            begun.device_seconds / HOUR,
            more.device_seconds / HOUR,
        ),
        ("hours", budget.hours, used.seconds / HOUR, 0.0, more.seconds / HOUR),
    ]
    for unit, limit, gone, promised, needed in limits:
        if math.isnan(promised + needed):
            promised = needed = 0.0
        if limit and gone + promised + needed > limit * ROUNDING:
            free = max(0.0, limit - gone - promised)
            return f"needs about {needed:.3g} {unit}, {free:.3g} are left"
    return ""


def exhausted(budget: BudgetConfig, used: Spent) -> End | None:
    """Which budget is spent, or that the target is reached; None while a trial may start."""
    if budget.target_loss and used.best_loss <= budget.target_loss:
        return End(Ending.TARGET_REACHED, f"target loss {budget.target_loss:g} reached")
    for line, limit, gone in _limits(budget, used):
        if limit and gone >= limit:
            return End(Ending.BUDGET_SPENT, f"budget spent: {line}")
    return None


def spending(budget: BudgetConfig, used: Spent) -> str:
    """What is spent of each budget that was given, in a line; empty if none was."""
    parts = [line for line, limit, _ in _limits(budget, used) if limit]
    if budget.target_loss:
        best = f"{used.best_loss:.4f}" if math.isfinite(used.best_loss) else "none"
        parts.append(f"best loss {best}, target {budget.target_loss:g}")
    return f"spent: {', '.join(parts)}" if parts else ""


def spent_data(used: Spent) -> dict[str, float | None]:
    """What is spent as plain data, for --json."""
    return {key: finite_or_none(amount) for key, amount in asdict(used).items()}


def _limits(budget: BudgetConfig, used: Spent) -> list[tuple[str, float, float]]:
    amounts = [
        ("hours", budget.hours, used.seconds / HOUR),
        ("device-hours", budget.device_hours, used.device_seconds / HOUR),
        ("FLOPs", budget.flops, used.flops),
    ]
    return [(f"{gone:.3g} of {limit:.3g} {unit}", limit, gone) for unit, limit, gone in amounts]


def _of(view: View, roles: Collection[Role]) -> list[TrialView]:
    # Copied first: a live view reads this while the driver adds trials.
    return [t for t in list(view.trials.values()) if t.role in roles]
