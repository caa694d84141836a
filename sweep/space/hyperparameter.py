"""What a sweep searches: settings, each with its domain and the condition it depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from model.config import Value


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether `value` has an order and a size, which true and false have not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_number(value: object) -> float:
    """`value` of a setting that is a number. Raises TypeError for what is none."""
    if not is_number(value):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)


@dataclass(frozen=True)
class Choice:
    """Listed values, all of one setting."""

    values: tuple[Value, ...]

    def has(self, value: object) -> bool:
        """Whether `value` is one of them; 1 is not true."""
        return any(
            value == v and isinstance(value, bool) == isinstance(v, bool) for v in self.values
        )


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    step: float = 0.0  # between values, from low on; 0: any value, or every whole one

    def has(self, value: object) -> bool:
        """Whether `value` is a number of the range: on its steps, and whole where all are."""
        if not is_number(value) or (self.whole and value % 1 != 0):
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return self.low <= value <= self.high and math.isclose(steps, round(steps), abs_tol=1e-9)


@dataclass(frozen=True)
class Prior:
    """Where the user expects the best value of a hyperparameter."""

    at: Value
    within: float = 0.0  # a factor above 1, or a distance; 0 where values have no order
    factor: bool = False

    def __str__(self) -> str:
        within = f" within {self.within:g}{'x' * self.factor}" if self.within else ""
        return f"{self.at:g}{within}" if is_number(self.at) else f"{self.at}{within}"

    def away(self, value: Value) -> float:
        """How far `value` lies from `at`, in units of `within`; 1 from what has no order."""
        if not is_number(value) or not is_number(self.at):
            return float(value != self.at)
        if self.factor:
            return math.log(value / self.at) / math.log(self.within)
        return (value - self.at) / self.within


@dataclass(frozen=True)
class Hyperparameter:
    """One searched setting, or one of its alternatives under a condition."""

    setting: str
    domain: Choice | Range
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    line: int = field(default=0, compare=False)
    prior: Prior | None = None

    @property
    def parameter(self) -> str:
        """Its name in the study: alternatives of one setting are parameters of their own."""
        conditions = ", ".join(f"{name}={'|'.join(map(str, v))}" for name, v in self.when)
        return f"{self.setting} [{conditions}]" if self.when else self.setting

    def active(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the settings chosen so far meet the condition."""
        return all(chosen.get(name) in values for name, values in self.when)

    def possible(self, chosen: Mapping[str, Value]) -> bool:
        """Whether settings not chosen yet could still meet the condition."""
        return all(chosen.get(name, values[0]) in values for name, values in self.when)
