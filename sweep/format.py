"""Numbers, durations and tables as people read them."""

from __future__ import annotations

import math


def table(rows: list[list[str]]) -> str:
    """Columns as wide as they need to be; the first row is the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def three_digits(value: object) -> str:
    """A setting's value: a float with three digits at most, anything else in full."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def count_text(number: float) -> str:
    """A large number: 123.4M. Four digits tell any two presets apart."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return f"{number:g}"


def finite_or_none(value: float | None) -> float | None:
    """The number, or None for infinity and NaN, which JSON cannot hold."""
    return value if value is not None and math.isfinite(value) else None


def bytes_text(amount: float) -> str:
    """A number of bytes: 12 B, 3.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def time_text(seconds: float) -> str:
    """Seconds in the largest unit that fits twice: 45 s, 12 min, 3.5 h, 9 d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def clock_text(seconds: float) -> str:
    """Seconds as a clock shows them: 0:42, 12:05, 3:07:00."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
