"""How long a driver that is at work still needs, and how fast its trials train.

What trials take beyond their training, such as the start of a worker, is time that a person waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean, median

from sweep.format import clock_text
from sweep.records import BaselinePoint, FinalistRun, Outcome, Role, read_baseline_point
from sweep.results.budget import SEARCHING, Expense, expected_seconds, row_expense, spent
from sweep.results.confirmation import losses_of, plan_of
from sweep.space import BudgetConfig
from sweep.view import View

LATEST = 8  # ended trials whose cost tells that of the next: a search moves towards dearer ones
HOUR = 3600.0


def time_left_text(view: View, now: int) -> str:
    """How long the driver of now still needs, in words.

    now   milliseconds since 1970
    """
    if view.end is not None:
        return ""
    if not view.slots:
        return "starting Ray" if view.header.get("ray") else "starting"
    seconds = seconds_left(view, now)
    if math.isnan(seconds):
        return "time left unknown"
    if seconds == 0 and not view.running():
        return "finishing"
    most = "at most" if view.role is Role.CONFIRM else "about"
    return f"{most} {clock_text(seconds)} left"


def seconds_left(view: View, now: int) -> float:
    """Seconds until the driver of now has no trial left; not a number where nothing tells them."""
    trials = list(view.trials.values())  # a live view reads this while the driver adds trials
    seen = [(t.flops * t.trained, t.seconds) for t in trials if t.last]
    starting = [t.clock_seconds - t.seconds for t in trials if t.last]
    start = max(0.0, median(starting)) if starting else 0.0
    running = []
    for trial in view.running():
        needed = expected_seconds(trial.flops * (1 - trial.done), seen)
        needed += 0.0 if trial.last else start
        running.append(Expense(0.0, max(0.0, needed - (now - trial.latest) / 1000), 0.0))
    waiting = [Expense(0.0, start + expected_seconds(flops, seen), 0.0) for flops in _waiting(view)]
    left = row_expense(waiting, running, max(view.slots, len(running))).seconds
    left = max([left, *(its.seconds for its in running)])  # not a number stays one, as the first
    return min([left, *_until_spent(view, now)])


def _waiting(view: View) -> Iterator[float]:
    """FLOPs of the runs that have not begun; not a number of those that nothing tells."""
    if view.role is Role.CONFIRM:
        yield from _waiting_finalists(view)
        return
    begun = {t.kind.first for t in list(view.trials.values()) if isinstance(t.kind, BaselinePoint)}
    for point, flops in baseline_points(view):
        if point not in begun and point not in view.recalled:
            yield flops
    searches = view.searches()
    running = sum(trial.outcome is None for trial in searches)
    ended = [t for t in searches if t.outcome in (Outcome.COMPLETE, Outcome.PRUNED)]
    costs = [t.flops * t.trained for t in ended if t.flops][-LATEST:]
    costs = costs or [t.flops for t in searches if t.flops]
    each = fmean(costs) if costs else view.header.get("expected_flops") or math.nan
    for _ in range(view.header["trials"] - len(ended) - running):
        yield each


def _waiting_finalists(view: View) -> Iterator[float]:
    """All that the plan may still begin; it ends sooner if the best is told apart."""
    if view.ensemble is not None:
        left = _of_ensemble(view) - _fresh_runs(view).keys()
        of = view.trials.get(view.ensemble["of"])
        for _ in left:
            yield of.flops if of else math.nan
        return
    plan = plan_of(view)
    if plan is None:
        return
    runs = [t for t in list(view.trials.values()) if isinstance(t.kind, FinalistRun)]
    begun = sum(isinstance(t.kind, FinalistRun) and t.kind.finalist in plan.finalists for t in runs)
    finalists = [view.trials[name].flops for name in plan.finalists if name in view.trials]
    for _ in range(plan.runs - begun if finalists else 0):
        yield fmean(finalists)


def _until_spent(view: View, now: int) -> Iterator[float]:
    """Seconds until the budgets of hours are spent, where there are any."""
    roles = SEARCHING if view.role is Role.SEARCH else (view.role,)
    budget, used = BudgetConfig(**view.budgets.get(view.role, {})), spent(view, roles, now)
    if budget.hours:
        yield max(0.0, budget.hours * HOUR - used.seconds)
    if budget.device_hours:
        devices = math.fsum(trial.devices for trial in view.running())
        if devices:
            yield max(0.0, budget.device_hours * HOUR - used.device_seconds) / devices


def baseline_points(view: View) -> list[tuple[BaselinePoint, float]]:
    """The runs that measure the plain baseline, each with its FLOPs, as the driver foresaw them."""
    foreseen = view.header.get("baseline_runs", [])
    return [(read_baseline_point(searched), flops) for searched, flops in foreseen]


def baseline_counts(view: View) -> str:
    """How many of the baseline's runs are measured, while it is; else empty."""
    points = baseline_points(view)
    if not points or view.baseline is not None:
        return ""
    ended = {
        t.kind.first
        for t in list(view.trials.values())
        if isinstance(t.kind, BaselinePoint) and t.outcome in (Outcome.COMPLETE, Outcome.PRUNED)
    }
    measured = sum(point in ended or point in view.recalled for point, _ in points)
    return f"baseline {measured}/{len(points)}"


def confirm_counts(view: View) -> str:
    """How many confirming runs have ended, of how many there may be."""
    if view.ensemble is not None:
        its, runs = _of_ensemble(view), _fresh_runs(view)
        ended = sum(runs.get(name) in (Outcome.COMPLETE, Outcome.PRUNED) for name in its)
        return f"{ended} of {len(its)} {view.ensemble['event']} ended"
    plan, losses = plan_of(view), losses_of(view)
    if plan is None:
        return "no confirming run yet"
    ended = sum(len(losses.get(name, {})) for name in plan.finalists)
    return f"{ended} of at most {plan.runs} confirming runs ended"


def _of_ensemble(view: View) -> set[str]:
    """The fresh runs that are the members, or the students, of what was last asked."""
    asked = view.ensemble or {}
    if "runs" in asked:
        return set(asked["runs"])
    return {f"{asked['of']}-s{seed}" for seed in range(1, asked["members"] + 1)}


def _fresh_runs(view: View) -> dict[str, Outcome | None]:
    """How each fresh run ended, its latest attempt; None while it runs."""
    trials = list(view.trials.values())
    kinds = [(t, t.kind) for t in trials if isinstance(t.kind, FinalistRun)]
    return {f"{kind.finalist}-s{kind.seed}": trial.outcome for trial, kind in kinds}


def speed_text(view: View) -> str:
    """Tokens that running trials train on in a second, together; empty before an evaluation."""
    speeds = []
    for trial in view.running():
        if trial.last is None:
            continue
        last, before = trial.last, {"tokens": 0, "seconds": 0.0}
        if len(trial.observations) > 1:
            before = trial.observations[-2]
        elif last.get("trunk_step"):  # the trunk's tokens took none of its seconds
            before = {"tokens": last["tokens"] * last["trunk_step"] / last["step"], "seconds": 0.0}
        seconds = last["seconds"] - before["seconds"]
        if seconds > 0:
            speeds.append((last["tokens"] - before["tokens"]) / seconds)
    return f"{rounded(math.fsum(speeds))} tokens/s" if speeds else ""


def rounded(speed: float) -> str:
    """Two digits are all that such a speed is known to: 41,000."""
    digits = 1 - math.floor(math.log10(speed)) if speed > 0 else 0
    return f"{round(speed, digits):,.0f}"
