"""What a sweep searches: settings, each with its domain and the condition it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from model.setting import Value


@dataclass(frozen=True)
class Choice:
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Axis:
    """One searched setting, or one of its alternatives under a condition."""

    setting: str
    domain: Choice | Range
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    line: int = field(default=0, compare=False)

    @property
    def parameter(self) -> str:
        """Its name in the study: alternatives of one setting are parameters of their own."""
        conditions = ", ".join(f"{name}={'|'.join(map(str, v))}" for name, v in self.when)
        return f"{self.setting} [{conditions}]" if self.when else self.setting

    def active(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the settings chosen so far meet the condition."""
        return all(chosen.get(name) in values for name, values in self.when)
