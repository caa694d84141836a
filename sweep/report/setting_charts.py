"""Charts of the searched settings: the surface along each, what matters, all of them at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from model.config import Value
from sweep.format import three_digits
from sweep.records import SEEDS
from sweep.report.facts import Facts
from sweep.report.importance import Importance
from sweep.report.progress_charts import LOSS, kind_of, losses_near_best, placed
from sweep.report.slices import Slice
from sweep.report.svg import (
    MIDDLE,
    Axis,
    band,
    bar,
    category_axis,
    clipped,
    figure,
    frame,
    line,
    mark,
    tick_text,
    x_axis,
    y_axis,
)
from sweep.results.edges import is_of
from sweep.space import Choice, Hyperparameter, Range, is_number
from sweep.view import TrialView

LONGEST = 29  # letters of a setting beside a bar
WIDE, SIDE = 1160.0, 96.0  # pixels of parallel coordinates, and of their margin
ORDER = ("failed", "diverged", "pruned", "complete", "tied", "best")  # the last drawn is on top


def panels(facts: Facts, slices: Sequence[Slice]) -> Iterator[str]:
    """One chart for each hyperparameter: every trial, and the surface with its band."""
    if facts.space is None:
        return
    by_parameter = {cut.hp.parameter: cut for cut in slices}
    for hp in facts.space.hyperparameters:
        trials = [trial for trial in facts.shown if is_of(hp, trial)]
        if trials:
            yield _panel(facts, hp, trials, by_parameter.get(hp.parameter))


def _panel(facts: Facts, hp: Hyperparameter, trials: list[TrialView], cut: Slice | None) -> str:
    x = _axis_of(hp)
    final = [t.val_loss for t in trials if kind_of(facts, t) in ("best", "tied", "complete")]
    mean = cut.mean_C.tolist() if cut else []
    y = y_axis(LOSS, [*losses_near_best([*final, facts.best.val_loss]), *losses_near_best(mean)])
    inside = clipped(_surface(cut, x, y), x, y) if cut else ""
    marks = sorted(((kind_of(facts, t), t) for t in trials), key=lambda m: ORDER.index(m[0]))
    for kind, trial in marks:
        at = _place(hp, trial.searched[hp.setting], "" if kind == "best" else trial.name)
        if math.isfinite(trial.val_loss):
            inside += placed(kind, x, y, at, trial.val_loss, trial.name)
        else:
            inside += mark(kind, x.at(at), y.end + 5, trial.name, "diverged: no loss")
    caption = ""
    if cut is not None and cut.of != facts.best.name:
        caption = f"Other settings as {cut.of} has them, the best of this alternative."
    return figure(hp.parameter, frame(x, y) + inside, caption)


def _surface(cut: Slice, x: Axis, y: Axis) -> str:
    """A line with a band along numbers of a range, a whisker at each of listed values."""
    at = [_place(cut.hp, value) for value in cut.values]
    rows = zip(at, cut.mean_C.tolist(), cut.low_C.tolist(), cut.high_C.tolist(), strict=True)
    if isinstance(cut.hp.domain, Range):
        pixels = [(x.at(v), y.at(m), y.at(low), y.at(high)) for v, m, low, high in rows]
        area = band([(v, low) for v, _, low, _ in pixels], [(v, high) for v, _, _, high in pixels])
        return area + line([(v, mean) for v, mean, _, _ in pixels], "mean")
    parts = []
    for v, mean, low, high in rows:
        parts.append(bar(x.at(v), y.at(low), y.at(high), "band-bar"))
        parts.append(bar(y.at(mean), x.at(v) - 11, x.at(v) + 11, "mean-bar", flat=True))
    return "".join(parts)


def _axis_of(hp: Hyperparameter) -> Axis:
    """The axis of a hyperparameter: its own scale, or its values side by side."""
    if isinstance(hp.domain, Choice):
        return category_axis(hp.setting, [three_digits(value) for value in listed(hp.domain)])
    domain = hp.domain
    scale = " (log scale)" if domain.log else ""
    return x_axis(f"{hp.setting}{scale}", [domain.low, domain.high], domain.log)


def listed(domain: Choice) -> list[Value]:
    """The values of a list: numbers rising, others as they were written."""
    numbers = [value for value in domain.values if is_number(value)]
    return [*sorted(numbers)] if len(numbers) == len(domain.values) else list(domain.values)


def _place(hp: Hyperparameter, value: Value, name: str = "") -> float:
    """Where a value is on its axis; trials at one listed value stand beside each other."""
    if isinstance(hp.domain, Choice):
        beside = (hash_of(name) - 0.5) * 0.5 if name else 0.0
        return listed(hp.domain).index(_as_listed(hp.domain, value)) + beside
    assert is_number(value)
    return float(value)


def _as_listed(domain: Choice, value: Value) -> Value:
    return next(listed for listed in domain.values if listed == value)


def hash_of(name: str) -> float:
    """A number in [0, 1) that is the same for a name in every report."""
    number = sum(ord(letter) * 31**place for place, letter in enumerate(reversed(name)))
    return float(number * 0.6180339887 % 1)


def importance(shares: Sequence[Importance]) -> str:
    """Bars with intervals, the most important setting first."""
    if not shares:
        return ""
    row, left, right = 34.0, 182.0, 388.0
    height = len(shares) * row + 50
    x = Axis("share of the variance (%)", 0, 100, start=left, end=right)
    parts = []
    for n, its in enumerate(shares):
        y = 22 + n * row
        low, middle, high = (x.at(100 * share) for share in its.total)
        parts.append(
            f'<text class="tick" x="{left - 8:g}" y="{y + 4:g}" text-anchor="end">'
            f"{escape(_short(its.setting))}<title>{escape(its.setting)}</title></text>"
        )
        parts.append(
            f'<path class="fill" d="M{left:g} {y - 8:g}H{middle:.1f}V{y + 8:g}H{left:g}Z"/>'
        )
        alone = x.at(100 * its.alone[1])
        parts.append(
            f'<path class="alone" d="M{left:g} {y - 8:g}H{alone:.1f}V{y + 8:g}H{left:g}Z"/>'
        )
        parts.append(bar(y, low, high, "whisker", flat=True))
    bottom = 22 + len(shares) * row - 12
    for value, text in x.ticks():
        at = x.at(value)
        parts.append(f'<path class="grid" d="M{at:.1f} 6V{bottom:g}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 16:g}" {MIDDLE}>{text}</text>')
    parts.append(
        f'<text class="label" x="{(left + right) / 2:g}" y="{bottom + 36:g}" '
        f'text-anchor="middle">{x.label}</text>'
    )
    return figure(
        "What matters in this space",
        "".join(parts),
        "Bar: the share of the loss's variance over the space that a setting is part of, alone or "
        "with others; dark: by itself. Lines: 95 % intervals of surfaces that the trials leave "
        "possible. Functional ANOVA (Hutter et al. 2014) of the fitted surface; walls count by "
        "their logarithm.",
        height=height,
    )


def _short(setting: str) -> str:
    word = setting if len(setting) <= LONGEST else setting.rpartition(".")[2]
    return word if len(word) <= LONGEST else f"{word[: LONGEST - 1]}…"


def parallel(facts: Facts) -> str:
    """Every trial as a line through its settings to its loss."""
    if facts.space is None:
        return ""
    hps = [hp for hp in facts.space.hyperparameters if hp.setting not in SEEDS]
    trials = [t for t in facts.shown if math.isfinite(t.val_loss)]
    height, top, bottom = 330.0, 40.0, 290.0
    gap = (WIDE - 2 * SIDE + 40) / max(1, len(hps))
    axes = [_upright(hp, top, bottom) for hp in hps]
    best_first = losses_near_best([t.val_loss for t in trials])
    low, high = min(best_first, default=0.0), max(best_first, default=1.0)
    room = 0.03 * (high - low) or 0.05
    axes.append(Axis("val loss", high + room, low - room, start=bottom, end=top))
    ranked = sorted(trials, key=lambda t: (ORDER.index(kind_of(facts, t)), -t.val_loss))
    lines = []
    for trial in ranked:
        points = [
            (SIDE + n * gap, axis.at(_place(hp, trial.searched[hp.setting])))
            for n, (hp, axis) in enumerate(zip(hps, axes, strict=False))
            if is_of(hp, trial)
        ]
        worst = min(trial.val_loss, high + room)
        points.append((SIDE + len(hps) * gap, axes[-1].at(worst)))
        lines.append(line(points, f"thin {kind_of(facts, trial)}", trial.name))
    labels = [(_short(hp.setting), _condition(hp)) for hp in hps] + [("val loss", "lower is up")]
    parts = ["".join(lines)]
    for n, (axis, (label, below)) in enumerate(zip(axes, labels, strict=True)):
        at = SIDE + n * gap
        parts.append(f'<path class="axis" d="M{at:g} {top:g}V{bottom:g}"/>')
        parts.append(
            f'<text class="label" x="{at:g}" y="16" text-anchor="middle">{escape(label)}</text>'
        )
        parts.append(
            f'<text class="tick" x="{at:g}" y="30" text-anchor="middle">{escape(below)}</text>'
        )
        ends = axis.ticks() if axis.names else [(axis.low, ""), (axis.high, "")]
        for value, name in ends:
            text, y = name or tick_text(float(f"{value:.3g}")), axis.at(value)
            parts.append(
                f'<text class="tick halo" x="{at - 6:g}" y="{y + 4:.1f}" text-anchor="end">'
                f"{escape(text)}</text>"
            )
    return figure(
        "All settings at once",
        "".join(parts),
        "A line is a trial; click one to follow it through all charts. An alternative that a trial "
        "does not have is passed by. Losses far above the best end at the foot of the last axis.",
        width=WIDE,
        height=height,
        kind="wide",
    )


def _upright(hp: Hyperparameter, top: float, bottom: float) -> Axis:
    if isinstance(hp.domain, Choice):
        names = tuple(three_digits(value) for value in listed(hp.domain))
        return Axis("", -0.4, len(names) - 0.6, names=names, start=bottom, end=top)
    domain = hp.domain
    return Axis("", domain.low, domain.high, domain.log, start=bottom, end=top)


def _condition(hp: Hyperparameter) -> str:
    return ", ".join("|".join(map(str, values)) for _, values in hp.when)
