"""The loss surface along one setting at a time, all others as the best trial has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.config import Value
from sweep.report.facts import Facts
from sweep.results.edges import is_natural, is_of
from sweep.search import Landscape
from sweep.space import Choice, Hyperparameter, Point, Range, is_number
from sweep.space.points import at_share
from sweep.view import TrialView

ALONG = 41  # points along a range
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Slice:
    """The surface at C values of one hyperparameter."""

    hp: Hyperparameter
    centre: Value  # of the trial that the other settings are from
    of: str  # its name
    values: tuple[Value, ...]
    mean_C: Array  # nats per token
    low_C: Array  # 95 % band
    high_C: Array
    behind_C: Array  # the centre, in nats near the best and less where losses are far above it
    error_C: Array  # standard deviation of that

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers."""
        return all(map(is_number, self.values))

    @property
    def span(self) -> float:
        """By how much the worst value is behind the best, nats."""
        return float(self.mean_C.max() - self.mean_C.min())


def slices_of(facts: Facts) -> list[Slice]:
    """One for each hyperparameter that a finished trial has chosen by; none without a surface.

    Where the best trial has none of it, as of another optimizer's rate, the best one that has.
    """
    if facts.surface is None or facts.space is None:
        return []
    trials = [facts.best, *facts.complete]
    slices = []
    for hp in facts.space.hyperparameters:
        centre = next((trial for trial in trials if is_of(hp, trial)), None)
        if centre is not None and facts.surface.can_train(centre.searched):
            cut = _slice(facts.surface, hp, centre, trials)
            slices += [cut] if cut else []
    return slices


def _slice(
    surface: Landscape, hp: Hyperparameter, centre: TrialView, trials: Sequence[TrialView]
) -> Slice | None:
    hps, own = surface.space.hyperparameters, centre.searched[hp.setting]
    points = {
        value: moved(hps, centre.searched, hp, value, trials) for value in values_of(hp.domain, own)
    }
    points = {value: point for value, point in points.items() if surface.can_train(point)}
    if not points:
        return None
    band = surface.band(list(points.values()))
    behind, error = surface.behind(list(points.values()), centre.searched)
    return Slice(hp, own, centre.name, tuple(points), *band, behind, error)


def values_of(domain: Choice | Range, own: Value) -> list[Value]:
    """What is listed; of a range, values evenly along its own scale, and `own` among them."""
    if isinstance(domain, Choice):
        numbers = all(map(is_number, domain.values))
        return sorted(domain.values) if numbers else list(domain.values)
    shares = [min(n / (ALONG - 1), 1 - 1e-9) for n in range(ALONG)]
    along = dict.fromkeys([at_share(domain, share) for share in shares] + [own])
    return sorted(along)


def moved(
    hyperparameters: Sequence[Hyperparameter],
    centre: Point,
    target: Hyperparameter,
    value: Value,
    trials: Sequence[TrialView],
) -> Point:
    """`centre` with one setting changed; what that makes necessary is from the best that has it."""
    chosen: dict[str, Value] = {}
    for hp in hyperparameters:
        if not hp.active(chosen):
            continue
        if hp.setting == target.setting:
            chosen[hp.setting] = value
        elif hp.setting in centre and hp.domain.has(centre[hp.setting]):
            chosen[hp.setting] = centre[hp.setting]
        else:
            others = (trial.searched[hp.setting] for trial in trials if is_of(hp, trial))
            chosen[hp.setting] = next(others, at_share(hp.domain, 0.5))
    return chosen


@dataclass(frozen=True)
class Plateau:
    """How exactly a setting's best value is known: what cannot be told from it."""

    setting: str
    value: Value
    low: float  # the ends of what cannot be told apart; numbers only
    high: float
    open_low: bool  # whether that reaches the end of what was searched
    open_high: bool
    others: tuple[Value, ...]  # listed values that cannot be told from it
    rounded: Value  # with as few digits as that allows

    def __str__(self) -> str:
        """`optim.lr 0.03 (0.02 to 0.05 are within the noise)`."""
        text = f"{self.setting} {_short(self.rounded)}"
        if self.others:
            are = "is" if len(self.others) == 1 else "are"
            return f"{text} ({', '.join(map(_short, self.others))} {are} within the noise)"
        if self.low < self.high:
            end = " or more" if self.open_high else ""
            less = " or less" if self.open_low else ""
            between = f"{_short(self.low)}{less} to {_short(self.high)}{end}"
            return f"{text} ({between} are within the noise)"
        return text


def plateaus(facts: Facts, slices: Sequence[Slice]) -> list[Plateau]:
    """Of each setting of the best trial, what the noise leaves open.

    A value cannot be told from the best one if the surface puts it no further behind than two runs
    of one recipe differ by (one standard deviation), and what the surface itself does not know.
    """
    noise = math.sqrt(2) * facts.noise[0]
    flat = []
    for cut in slices:
        if cut.of != facts.best.name or not is_of(cut.hp, facts.best):
            continue
        near = cut.behind_C <= np.hypot(noise, cut.error_C)
        within = [value for value, is_near in zip(cut.values, near, strict=True) if is_near]
        if isinstance(cut.hp.domain, Range):
            flat.append(_of_range(cut, near))
        else:
            others = tuple(value for value in within if value != cut.centre)
            flat.append(Plateau(cut.hp.setting, cut.centre, 0, 0, False, False, others, cut.centre))
    return flat


def _of_range(cut: Slice, near: NDArray[np.bool_]) -> Plateau:
    """The stretch around the centre without a value that can be told from it."""
    at = cut.values.index(cut.centre)
    first, last = at, at
    while first > 0 and near[first - 1]:
        first -= 1
    while last < len(near) - 1 and near[last + 1]:
        last += 1
    low, high = float(cut.values[first]), float(cut.values[last])  # type: ignore[arg-type]
    assert is_number(cut.centre)
    return Plateau(
        cut.hp.setting,
        cut.centre,
        low,
        high,
        first == 0 and low < cut.centre and not is_natural(cut.hp.setting, low, False),
        last == len(near) - 1 and high > cut.centre and not is_natural(cut.hp.setting, high, True),
        (),
        rounded(cut.centre, low, high),
    )


def rounded(value: float, low: float, high: float) -> float:
    """`value` with the fewest digits that stay within a quarter of the way to either end."""
    if isinstance(value, int):
        return value
    for digits in range(1, 4):
        shorter = float(f"{value:.{digits}g}")
        if value - (value - low) / 4 <= shorter <= value + (high - value) / 4:
            return shorter
    return float(f"{value:.3g}")


def _short(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def rounded_settings(flat: Sequence[Plateau], settings: Mapping[str, Value]) -> dict[str, Value]:
    """The settings with what is known of them, no digit more."""
    return {**settings, **{its.setting: its.rounded for its in flat if its.setting in settings}}
