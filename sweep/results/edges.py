"""Searched settings whose best value is the last of what was searched: beyond may be better.

What counts is the whole group that cannot be told from the best. One of many trials is at some end
by chance; where a recipe inside does as well, nothing says that the best lies beyond.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import SETTINGS, Config, ConfigError, Value
from sweep.format import three_digits
from sweep.records import SEEDS
from sweep.results.confirmation_report import confirmed
from sweep.results.ranking import gaps, ranking, tied
from sweep.space import Choice, Constraint, Hyperparameter, Range, Space, is_number
from sweep.space.constraint import violations
from sweep.space.language import saved_space
from sweep.space.points import share_of
from sweep.space.space import BUDGET
from sweep.view import TrialView, View

NEAR = 0.05  # share of a range, of a log range's logarithm, that counts as its end
LEAST = 4  # recipes that finished, before which any of them is at an end by chance
STEP = 2.0  # by how much a list grows at least where its last two numbers say less
OF_RANGE = 0.5  # by which a range grows


@dataclass(frozen=True)
class Edge:
    """A setting of the best trial at an end of what was searched."""

    hp: Hyperparameter
    value: Value  # the best trial's
    end: Value  # what was searched ends here
    high: bool
    wider: Value | None  # how far to search next; None where nothing beyond can be trained
    held: str  # by which constraint, where one is why
    inside: tuple[str, ...]  # trials tied with the best that are not at this end

    @property
    def firm(self) -> bool:
        """Whether all that is tied with the best is at this end too."""
        return not self.inside

    @property
    def advice(self) -> str:
        """What to do about it, for a sentence that begins with "widen"."""
        side = "above" if self.high else "below"
        return f"{self.hp.setting} {side} {three_digits(self.end)} (to {three_digits(self.wider)})"


def edges_of(view: View, space: Space) -> list[Edge]:
    """The ends of the space at which the best trial is."""
    ranked = ranking(view)
    if len(ranked) < LEAST:
        return []
    group = _best_and_tied(view)
    best = group[0]
    edges = []
    for hp in space.hyperparameters:
        if hp.setting in (BUDGET, *SEEDS) or not is_of(hp, best):
            continue
        value = best.searched[hp.setting]
        high = _end_of(hp.domain, value)
        if high is None:
            continue
        end = _numbers(hp.domain)[-1 if high else 0]
        if is_natural(hp.setting, end, high):
            continue
        inside = [t.name for t in group if is_of(hp, t) and not _is_at(hp, t, high)]
        wider, held = _beyond(hp, best, high, space.constraints)
        edges.append(Edge(hp, value, end, high, wider, held, tuple(inside)))
    return edges


def _best_and_tied(view: View) -> list[TrialView]:
    """The best trial, as confirmed if it was, and those that cannot be told from it."""
    now = confirmed(view)
    if now is not None and now.over:
        return [view.trials[name] for name in (now.leader, *now.tied)]
    names = [ranking(view)[0].name, *tied(gaps(view))]
    return [view.trials[name] for name in names]


def is_of(hp: Hyperparameter, trial: TrialView) -> bool:
    """Whether the trial chose its value by this hyperparameter."""
    chosen = trial.searched
    return hp.setting in chosen and hp.active(chosen) and hp.domain.has(chosen[hp.setting])


def _is_at(hp: Hyperparameter, trial: TrialView, high: bool) -> bool:
    return _end_of(hp.domain, trial.searched[hp.setting]) is high


def _numbers(domain: Choice | Range) -> list[float]:
    """The ends of a domain, or all that is listed, rising; nothing where values have no order."""
    if isinstance(domain, Range):
        ends = [domain.low, domain.high]
        return [int(end) for end in ends] if domain.whole else ends
    numbers = [value for value in domain.values if is_number(value)]
    return sorted(numbers) if len(numbers) == len(domain.values) > 1 else []


def _end_of(domain: Choice | Range, value: Value) -> bool | None:
    """True at the upper end, False at the lower one, None inside or where nothing has an order."""
    numbers = _numbers(domain)
    if not numbers or not is_number(value):
        return None
    if value in (numbers[0], numbers[-1]):
        return bool(value == numbers[-1])
    if isinstance(domain, Choice):
        return None
    share = share_of(domain, value)
    return None if NEAR < share < 1 - NEAR else share > 0.5


def is_natural(name: str, end: float, high: bool) -> bool:
    """Whether a setting has no values beyond, as dropout has none below 0."""
    setting = SETTINGS[name]
    limit = setting.high if high else setting.low
    return limit is not None and (end >= limit if high else end <= limit)


def _beyond(
    hp: Hyperparameter, best: TrialView, high: bool, constraints: Sequence[Constraint]
) -> tuple[Value | None, str]:
    """How far to search next, and which constraint forbids that."""
    wider = _wider(hp, high)
    settings = {**best.settings, hp.setting: wider}
    try:
        checked = SETTINGS[hp.setting].check(wider)
        Config.from_settings(settings)
    except ConfigError:
        return None, ""
    broken = [name for name, beyond in violations(settings, constraints).items() if beyond > 0]
    return (None, broken[0]) if broken else (checked, "")


def _wider(hp: Hyperparameter, high: bool) -> float:
    """The next number beyond the end: a list goes on as it ends, a range grows by half of itself.

    Two digits, and never beyond what the setting allows.
    """
    domain, setting = hp.domain, SETTINGS[hp.setting]
    numbers = _numbers(domain)
    end, before = (numbers[-1], numbers[-2]) if high else (numbers[0], numbers[1])
    if isinstance(domain, Range) and domain.step:
        steps = max(1, round(OF_RANGE * (domain.high - domain.low) / domain.step))
        number = end + domain.step * steps * (1 if high else -1)
    elif min(numbers) > 0 and (isinstance(domain, Choice) or domain.log):
        ratio = end / before
        if isinstance(domain, Range):
            ratio = ratio**OF_RANGE
        ratio = max(ratio, STEP) if high else min(ratio, 1 / STEP)
        number = float(f"{end * ratio:.2g}")
    else:
        share = OF_RANGE if isinstance(domain, Range) else 1.0
        number = _beyond_in_few_digits(end + share * (end - before), end)
        if end > 0 and not high:  # 0 is endlessly far from what is above it
            number = max(number, end / STEP)
    if setting.high is not None:
        number = min(number, setting.high)
    if setting.low is not None:
        number = max(number, setting.low)
    whole = setting.kind is int
    return (math.ceil(number) if high else math.floor(number)) if whole else number


def _beyond_in_few_digits(number: float, end: float) -> float:
    """`number` in two digits, or in as many as it takes to stay halfway beyond `end`."""
    for digits in range(2, 17):
        rounded = float(f"{number:.{digits}g}")
        if abs(rounded - number) <= abs(number - end) / 2:
            return rounded
    return number


def edges_text(view: View, folder: Path) -> str:
    """At which edges of the space the best trial is, and what to widen; empty where at none."""
    space = saved_space(folder)
    return edge_sentences(edges_of(view, space)) if space else ""


def edges_data(view: View, folder: Path) -> list[dict[str, Any]]:
    """The same as plain data, for --json."""
    space = saved_space(folder)
    return [
        {
            "setting": edge.hp.setting,
            "value": edge.value,
            "end": edge.end,
            "side": "high" if edge.high else "low",
            "widen_to": edge.wider,
            "held_by": edge.held or None,
            "tied_inside": list(edge.inside),
        }
        for edge in (edges_of(view, space) if space else [])
    ]


def edge_sentences(edges: Iterable[Edge]) -> str:
    """What to do about `edges`, a sentence a line."""
    edges = list(edges)
    lines = []
    firm = [edge for edge in edges if edge.firm and edge.wider is not None]
    if firm:
        *others, last = (edge.advice for edge in firm)
        what = f"{', '.join(others)} and {last}" if others else last
        lines.append(f"The winner sits at the edge of the space: widen {what}.")
    for edge in edges:
        last = "largest" if edge.high else "smallest"
        at = f"{edge.hp.setting} {three_digits(edge.value)}"
        if edge.held:
            lines.append(f"{at} is the {last} searched; the constraint {edge.held} allows no next.")
        elif edge.inside:
            names = ", ".join(edge.inside[:3]) + " and more" * (len(edge.inside) > 3)
            have = "has" if len(edge.inside) == 1 else "have"
            lines.append(
                f"{at} is near the {last} searched too, but {names}, tied with it, {have} other "
                f"values: that the best lies beyond is not shown."
            )
    return "\n".join(lines)
