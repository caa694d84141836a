"""Settings in which finished trials differ, as numbers; and whether they have seen the like.

Ratios matter, not differences: numbers go by their logarithm. A setting is only known as far as
trials varied it: what lies outside, or hangs on a single trial, has no place.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.config import Value
from sweep.records import SEEDS
from sweep.space import is_number

NARROW = 0.75  # octaves: a number whose range is narrower, both ways, matters less
MARGIN = 0.25  # of a number's range, beyond which nothing is known
LEVERAGE = 0.7  # of a trial on its own forecast, by one setting alone: two alike have a half each
ROUNDING = 1e-9


@dataclass(frozen=True)
class Number:
    """A setting with an order, by the log2 of its values in finished trials."""

    name: str
    least: float  # what counts for 0, before the logarithm
    low: float
    high: float
    mean: float
    spread: float  # sum of squares about the mean
    count: int  # trials that have it
    lacking: int  # and those that do not, by a condition

    def knows(self, value: Value | None) -> bool:
        """Whether enough trials were near."""
        if value is None:
            return _enough(self.lacking)
        if not is_number(value):
            return False
        at = _log(value, self.least)
        beyond = max(self.low - at, at - self.high)
        leverage = (at - self.mean) ** 2 / self.spread + 1 / self.count
        return beyond <= MARGIN * (self.high - self.low) and leverage <= LEVERAGE + ROUNDING

    def place(self, value: Value | None) -> list[float]:
        """Scaled to [-1, 1], at most."""
        if not is_number(value):
            return [0.0]
        half = max((self.high - self.low) / 2, NARROW)
        return [(_log(value, self.least) - (self.low + self.high) / 2) / half]


@dataclass(frozen=True)
class Category:
    """A setting without order, by the trials that each of its values had."""

    name: str
    counts: tuple[tuple[Value | None, int], ...]

    def knows(self, value: Value | None) -> bool:
        """Whether enough trials had it."""
        return _enough(dict(self.counts).get(value, 0))

    def place(self, value: Value | None) -> list[float]:
        """1 for the value, 0 for the others. Of two, one is the absence of the other."""
        values = [value for value, _ in self.counts]
        columns = values if len(values) > 2 else values[:1]
        return [float(value == column) for column in columns]


@dataclass(frozen=True)
class Terms:
    """The settings of finished trials: those that differ, and what all of them share."""

    numbers: tuple[Number, ...]
    categories: tuple[Category, ...]
    shared: tuple[tuple[str, Value | None], ...]

    @property
    def differing(self) -> tuple[Number | Category, ...]:
        return (*self.numbers, *self.categories)

    def know(self, settings: Mapping[str, Value]) -> bool:
        """Whether enough trials were like one with these settings, by each of them alone."""
        shared = dict(self.shared)
        named = (
            settings.keys() - set(SEEDS) - shared.keys() - {term.name for term in self.differing}
        )
        return (
            not named
            and all(settings.get(name) == value for name, value in self.shared)
            and all(term.knows(settings.get(term.name)) for term in self.differing)
        )

    def place(self, settings: Mapping[str, Value]) -> list[float]:
        """The D coordinates of a trial."""
        return [at for term in self.differing for at in term.place(settings.get(term.name))]


def make_terms(settings: Sequence[Mapping[str, Value]]) -> Terms:
    """The terms of finished trials with these settings."""
    numbers, categories, shared = [], [], []
    for name in sorted({name for one in settings for name in one} - set(SEEDS)):
        values = [one.get(name) for one in settings]
        present = [value for value in values if value is not None]
        if len(set(values)) == 1:
            shared.append((name, values[0]))
        elif all(map(is_number, present)) and len(set(present)) > 1:
            numbers.append(
                _number(
                    name, [float(v) for v in present if is_number(v)], len(values) - len(present)
                )
            )
        else:
            counts = sorted(Counter(values).items(), key=str)
            categories.append(Category(name, tuple(counts)))
    return Terms(tuple(numbers), tuple(categories), tuple(shared))


def _enough(trials: int) -> bool:
    """Whether so many trials alike tell what a value does."""
    return trials * LEVERAGE >= 1


def _number(name: str, values: Sequence[float], lacking: int) -> Number:
    least = min((value for value in values if value > 0), default=2.0) / 2
    logs = [_log(value, least) for value in values]
    mean = math.fsum(logs) / len(logs)
    spread = math.fsum((at - mean) ** 2 for at in logs)
    return Number(name, least, min(logs), max(logs), mean, spread, len(logs), lacking)


def _log(value: float, least: float) -> float:
    """0 counts as half the least value above it."""
    return math.log2(max(value, least))
