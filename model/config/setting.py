"""What a setting is: type, unit, default, bounds and meaning, and how its values are read."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from model.config.number import read_number

Value = int | float | str | bool | tuple[Any, ...]


class ConfigError(Exception):
    """Settings that cannot be trained with; `problems` holds every one found, a line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Setting:
    """What is known about one setting before any value is given."""

    name: str
    kind: type
    default: Value
    unit: str
    meaning: str
    low: float | None
    above: float | None
    high: float | None
    choices: tuple[str, ...]
    words: tuple[str, ...] = ()  # that stand for a number which is known later

    @property
    def bounds(self) -> str:
        """The allowed values, as a reader would write them."""
        if self.choices:
            return " | ".join(self.choices)
        if self.kind is bool:
            return "true | false"
        low = f">= {self.low:g}" if self.low is not None else ""
        low = f"> {self.above:g}" if self.above is not None else low
        high = f"<= {self.high:g}" if self.high is not None else ""
        numbers = ", ".join(part for part in (low, high) if part) or "any"
        return " | ".join((numbers, *self.words))

    @property
    def _is_share(self) -> bool:
        """Whether 5% can be meant."""
        of = self.unit.startswith("of ") or (not self.unit and (self.high or 2) <= 1)
        return of and self.kind is float

    def check(self, value: object) -> Value:
        """`value` in this setting's type, or one of its words.

        Raises ConfigError saying what was expected.
        """
        if isinstance(value, str) and value.strip() in self.words:
            return value.strip()
        if isinstance(value, bool) and (word := "yes" if value else "no") in self.choices:
            value = word  # YAML reads yes and no as true and false
        reason = ""
        try:
            typed = _as_kind(value, self.kind, self.unit, self._is_share)
        except ValueError as error:
            typed, reason = None, f"; {error}" if str(error) else ""
        if typed is None:
            expected = {
                int: "a whole number",
                float: "a number",
                bool: "true or false",
                tuple: "a list",
            }
            shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:60]}..."
            raise ConfigError([f"expected {expected.get(self.kind, 'text')}, got {shown}{reason}"])
        if self.choices and typed not in self.choices:
            hint = did_you_mean(str(typed), self.choices)
            raise ConfigError([f"expected one of {', '.join(self.choices)}, got {typed!r}{hint}"])
        if isinstance(typed, int | float) and not isinstance(typed, bool):
            inside = (
                math.isfinite(typed)
                and (self.low is None or typed >= self.low)
                and (self.above is None or typed > self.above)
                and (self.high is None or typed <= self.high)
            )
            if not inside:
                raise ConfigError([f"must be {self.bounds}, got {typed:g}"])
        return typed


LARGEST = 1e300  # leaves out infinities, and whole numbers that no float holds


def _as_kind(value: object, kind: type, unit: str, share: bool) -> Value | None:
    """YAML reads 1e-4 as text and people write 100M: numbers are understood, nothing else is.

    None, or ValueError with the reason, for what is of another kind.
    """
    if kind is str:
        return value if isinstance(value, str) else None
    if kind is tuple:
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return None
        return tuple(part for part in parts if part != "")
    if kind is bool:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        number: float = read_number(value, unit, share=share)
    elif isinstance(value, int | float):
        number = value
    else:
        return None
    if not abs(number) < LARGEST:
        return None
    if kind is int:
        return int(number) if math.isfinite(number) and number == int(number) else None
    return float(number)


def closest(word: str, words: Iterable[str]) -> str:
    """Which of `words` a misspelt one probably is; empty if it is like none."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return close[0] if close else ""


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """A suggestion to put at the end of a message, or nothing."""
    close = closest(word, words)
    return f"; did you mean {close}?" if close else ""


def setting(
    default: Any,
    unit: str,
    meaning: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that `sweep settings` can explain and that is checked when it is set."""
    bounds = {"low": low, "above": above, "high": high, "choices": choices, "words": words}
    return field(default=default, metadata={"unit": unit, "meaning": meaning, **bounds})


def describe(part: str, config: Any) -> dict[str, Setting]:
    """The settings of one config class by dotted name, in the order they are written."""
    defaults = config()
    return {
        name: Setting(name=name, kind=type(default), default=default, **f.metadata)
        for f in fields(config)
        for name, default in [(f"{part}.{f.name}", getattr(defaults, f.name))]
    }
