"""Charts of how the search went: the best so far, curves, compute and data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from sweep.format import count_text
from sweep.records import Event, Outcome, TrialEnding
from sweep.report.facts import Facts
from sweep.report.svg import (
    Axis,
    Pair,
    bar,
    clipped,
    figure,
    frame,
    line,
    mark,
    steps,
    x_axis,
    y_axis,
)
from sweep.view import TrialView

CURVES = 10  # best trials whose curves are drawn
SETTLED_IN = 0.25  # fraction of a schedule, before which losses are too high to be shown with it
LOSS = "val loss (nats per token)"


def kind_of(facts: Facts, trial: TrialView) -> str:
    """How a trial is drawn everywhere."""
    if trial.name == facts.best.name:
        return "best"
    if trial.outcome is Outcome.COMPLETE:
        return "tied" if trial.name in facts.tied_names else "complete"
    if trial.ending is TrialEnding.DIVERGED:
        return "diverged"
    return "failed" if trial.outcome is Outcome.FAILED else "pruned"


def progress(facts: Facts) -> Iterator[str]:
    """Best loss, and best data efficiency, by what was spent on searching."""
    ended, total = _ended(facts)
    shown = [(at, trial) for at, trial in ended if math.isfinite(trial.val_loss)]
    x = x_axis("device-seconds of training, all search trials", [0.0, total or 1.0])
    losses = [trial.val_loss for _, trial in shown if trial.outcome is Outcome.COMPLETE]
    y = y_axis(LOSS, losses_near_best(losses))
    marks, best, path = [], math.inf, []
    for at, trial in shown:
        loss = trial.val_loss
        kind = kind_of(facts, trial)
        if kind not in ("pruned", "diverged", "failed"):
            if trial.name in facts.shown_names:
                marks.append(placed(kind, x, y, at, loss, trial.name))
            if loss < best:
                best = loss
                path.append((x.at(at), y.at(loss)))
    inside = clipped(line(steps(path, x.at(total)), "best"), x, y) + "".join(marks)
    yield figure("Best loss so far", frame(x, y) + inside, "Each mark is a trial where it ended.")
    if facts.figures is None or not facts.figures.spent:
        return
    hours = [(hours * 3600, worth.lines) for hours, worth in facts.figures.spent]
    between = [(at, its.low.value, its.high.value) for at, its in hours if its.low and its.high]
    ends = [end for _, low, high in between for end in (low, high)]
    x = x_axis(
        f"{facts.figures.hour.replace('-hours', '-seconds')} of training", [0.0, total or 1.0]
    )
    y = y_axis("data efficiency (x)", [1.0, *ends, *(its.point.value for _, its in hours)])
    points = [(x.at(at), y.at(its.point.value)) for at, its in hours]
    whiskers = "".join(bar(x.at(at), y.at(low), y.at(high)) for at, low, high in between)
    dots = "".join(
        mark(
            "best" if n == len(hours) - 1 else "complete",
            px,
            py,
            worth.name,
            str(worth.lines.point),
        )
        for n, ((px, py), (_, worth)) in enumerate(zip(points, facts.figures.spent, strict=True))
    )
    inside = clipped(line(steps(points, x.at(total)), "best") + whiskers, x, y) + dots
    yield figure(
        "Data efficiency so far",
        frame(x, y) + inside,
        "How many times the data the plain baseline would need for the same loss"
        f"{', with 95 % intervals' * bool(between)}; noise {facts.figures.noise}.",
    )


def _ended(facts: Facts) -> tuple[list[tuple[float, TrialView]], float]:
    """Search trials with the device-seconds that all had spent when each ended, and the total."""
    events: list[tuple[int, int, float, TrialView | None]] = []
    for trial in facts.view.searches():
        before = 0.0
        for event in trial.observations:
            spent = (event["seconds"] - before) * (trial.devices or 1.0)
            before = event["seconds"]
            events.append((event["time"], 0, spent, None))
        if trial.ended is not None:
            events.append((trial.ended, 1, 0.0, trial))
    total, ended = 0.0, []
    for _, _, spent, who in sorted(events, key=itemgetter(0, 1)):
        total += spent
        if who is not None:
            ended.append((total, who))
    return ended, total


def losses_near_best(losses: Sequence[float]) -> list[float]:
    """What an axis of losses should have: all of them, without the worst where they are far off."""
    finite = sorted(loss for loss in losses if math.isfinite(loss))
    if len(finite) < 5:
        return finite
    most = finite[0] + 1.5 * (finite[int(0.85 * (len(finite) - 1))] - finite[0])
    return [loss for loss in finite if loss <= most] or finite


def placed(kind: str, x: Axis, y: Axis, at: float, loss: float, trial: str, tip: str = "") -> str:
    """A mark, or above the axis a triangle at its end."""
    if loss > y.high:
        shape = "rug" if kind == "pruned" else "beyond"
        said = tip or f"{loss:.4f}, beyond the axis"
        return mark(f"{kind} {shape}", x.at(at), y.end + 5, trial, said, shape)
    return mark(kind, x.at(at), y.at(loss), trial, tip)


def curves(facts: Facts) -> Iterator[str]:
    """Losses of the best trials by fraction of their schedule, by epoch and by token."""
    shown = list(reversed(facts.complete[:CURVES]))
    by: list[tuple[str, str, Callable[[Event], float]]] = [
        ("fraction", "fraction of its schedule (%)", lambda event: event["basis_points"] / 100),
        ("epoch", "epoch (passes over the unique tokens)", lambda event: event["epoch"]),
        ("tokens", "training tokens, repeats counted", lambda event: event["tokens"]),
    ]
    early = [_first_late(trial) for trial in shown]
    shown_losses = [*(trial.val_loss for trial in shown), sorted(early)[len(early) // 2]]
    for title, label, place in by:
        if not all(_has(event, place) for trial in shown for event in trial.observations):
            continue
        spots = [place(event) for trial in shown for event in trial.observations]
        x = x_axis(label, [0.0, *spots])
        y = y_axis(LOSS, shown_losses)
        lines, dots = [], []
        for trial in shown:
            points = [
                (x.at(place(event)), y.at(event["val_loss"]))
                for event in trial.observations
                if math.isfinite(event["val_loss"])
            ]
            kind = kind_of(facts, trial)
            lines.append(line(points, kind, trial.name))
            if points and y.has(trial.val_loss):
                dots.append(mark(kind, *points[-1], trial.name))
        inside = frame(x, y) + clipped("".join(lines), x, y) + "".join(dots)
        yield figure(f"The best {len(shown)} by {title}", inside)


def _first_late(trial: TrialView) -> float:
    """Its loss where the steep beginning is over."""
    late = (e for e in trial.observations if e["basis_points"] >= SETTLED_IN * 10_000)
    return float(next(late)["val_loss"])


def _has(event: Event, place: Callable[[Event], float]) -> bool:
    try:
        return math.isfinite(place(event))
    except (KeyError, TypeError):  # journals of earlier versions lack some of them
        return False


def compute(facts: Facts) -> str:
    """Loss by the FLOPs that a trial was trained with, and which no cheaper trial beats."""
    spent = [(flops, t) for t in facts.view.searches() if (flops := _flops(t)) > 0]
    finite = [(flops, trial) for flops, trial in spent if math.isfinite(trial.val_loss)]
    if not finite:
        return ""
    x = x_axis("training FLOPs", [flops for flops, _ in finite], log=True)
    y = y_axis(LOSS, losses_near_best([t.val_loss for _, t in finite]))
    front, best = [], math.inf
    for flops, trial in sorted(finite, key=lambda pair: (pair[0], pair[1].val_loss)):
        if trial.outcome is Outcome.COMPLETE and trial.val_loss < best:
            best = trial.val_loss
            front.append((x.at(flops), y.at(best)))
    marks = [
        placed(kind_of(facts, trial), x, y, flops, trial.val_loss, trial.name)
        for flops, trial in finite
        if trial.name in facts.shown_names
    ]
    inside = clipped(line(front, "front"), x, y) + "".join(reversed(marks))
    return figure(
        "Loss by compute",
        frame(x, y) + inside,
        "The line is the Pareto front: no trial on fewer FLOPs has a lower final loss. Trials that "
        "were stopped stand where they were stopped.",
    )


def _flops(trial: TrialView) -> float:
    """What was trained, which for a trial that was stopped is a part of its schedule."""
    done = trial.last["basis_points"] / 10_000 if trial.last else 0.0
    return trial.flops * (1.0 if trial.outcome is Outcome.COMPLETE else done)


def data(facts: Facts) -> str:
    """Loss by unique tokens: the plain baseline, the trials, and what the best is worth."""
    figures = facts.figures
    if figures is None:
        return ""
    curve = figures.baseline.curve
    runs = [(run.tokens, run.loss) for run in facts.view.baseline_runs if math.isfinite(run.loss)]
    own = list(figures.points.values())
    best = figures.points.get(facts.best.name)
    reach = [tokens for tokens, _ in [*curve, *own]]
    x = x_axis(
        "unique training tokens", reach, log=True, marks=tuple(sorted({t for t, _ in curve}))
    )
    y = y_axis(LOSS, [*losses_near_best([loss for _, loss in own]), *(loss for _, loss in curve)])
    points: list[Pair] = [(x.at(tokens), y.at(loss)) for tokens, loss in curve]
    parts = [line(points, "baseline")]
    parts += [
        mark("baseline", x.at(t), y.at(loss), tip=_at(t, loss), shape="pruned") for t, loss in runs
    ]
    for name, (tokens, loss) in reversed(figures.points.items()):
        if name in facts.shown_names:
            kind = kind_of(facts, facts.view.trials[name])
            parts.append(placed(kind, x, y, tokens, loss, name))
    if best is not None:
        worth = next((w for w in figures.trials if w.name == facts.best.name), None)
        if worth is not None:
            tokens, loss = best
            to = x.at(min(worth.lines.point.value * tokens, x.high))
            parts.append(f'<path class="reach" d="M{x.at(tokens):.1f} {y.at(loss):.1f}H{to:.1f}"/>')
            low, high = worth.lines.low, worth.lines.high
            if low and high:
                left, right = (x.at(min(end.value * tokens, x.high)) for end in (low, high))
                parts.append(bar(y.at(loss), left, right, "whisker wide", flat=True))
            parts.append(
                f'<text class="note halo" x="{to:.1f}" y="{y.at(loss) - 8:.1f}" text-anchor="end">'
                f"{_escaped(str(worth.lines))}</text>"
            )
    return figure(
        "Loss by data, beside a plain baseline",
        frame(x, y) + "".join(parts),
        f"Baseline {facts.view.baseline_source}: "
        + ", ".join(f"{count_text(t)} tokens {loss:.4f}" for t, loss in curve)
        + ". The dashed line leads from the best to the data that the baseline needs for its loss, "
        "the bar is the 95 % interval of that.",
    )


def _at(tokens: float, loss: float) -> str:
    return f"baseline, {count_text(tokens)} tokens: {loss:.4f}"


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")
