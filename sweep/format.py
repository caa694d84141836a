"""Numbers, durations and tables as people read them."""

from __future__ import annotations

import math
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

GIGABYTE = 1e9  # bytes, as disks are sold and limits on room are given
NARROWEST = 16  # letters of a column of text, below which wrapping it helps nobody
# How settings are called where there is little room; others by their last word.
SHORT_NAMES = {
    "optim.name": "optimizer",
    "optim.weight_decay_multiplier": "wd",
    "optim.decay_timescale": "timescale",
    "data.train_tokens": "tokens",
}


def terminal_width() -> int | None:
    """Columns of the terminal that standard output goes to; None if it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(rows: list[list[str]], width: int | None = None) -> str:
    """Columns as wide as they need to be; the first row is the header.

    width   of the terminal: a table that is wider breaks its headings, then wraps its longest text.
            None, as for a pipe: a row is a line, whatever its length
    """
    cells = [[[cell] for cell in row] for row in rows]
    if width is not None and _width(cells) > width:
        cells[0] = [_broken(name, column) for name, column in zip(*_columns(rows), strict=True)]
    if (over := _width(cells) - (width or math.inf)) > 0:
        column = max(range(len(rows[0])), key=lambda at: _widest(cells[1:], at))
        room = max(NARROWEST, _widest(cells[1:], column) - int(over))
        for row in cells[1:]:
            row[column] = textwrap.wrap(row[column][0], room) or [""]
    widths = [_widest(cells, column) for column in range(len(rows[0]))]
    return "\n".join(line for row in cells for line in _lines(row, widths, row is cells[0]))


def short_names(names: Sequence[str]) -> dict[str, str]:
    """What each of these settings is called where there is little room: no two alike."""
    short = {name: SHORT_NAMES.get(name, name.rpartition(".")[2]) for name in names}
    taken = Counter(short.values())
    return {name: its if taken[its] == 1 else name for name, its in short.items()}


Cells = list[list[list[str]]]  # rows of cells of lines


def _columns(rows: list[list[str]]) -> tuple[list[str], list[int]]:
    """The headings, and how wide the cells below each are."""
    below = [max((len(row[at]) for row in rows[1:]), default=0) for at in range(len(rows[0]))]
    return rows[0], below


def _broken(heading: str, width: int) -> list[str]:
    """`heading` in lines of at most `width` letters, as far as dots, blanks and _ allow."""
    lines: list[str] = []
    for word in re.findall(r"[^._ ]*[._ ]?", heading):
        if lines and len(lines[-1] + word.rstrip()) <= width:
            lines[-1] += word
        elif word:
            lines.append(word)
    return lines or [""]


def _widest(rows: Cells, column: int) -> int:
    return max((len(line) for row in rows for line in row[column]), default=0)


def _width(rows: Cells) -> int:
    return sum(_widest(rows, column) + 2 for column in range(len(rows[0]))) - 2


def _lines(row: list[list[str]], widths: list[int], is_header: bool) -> list[str]:
    """A row as lines: headings stand on the ones below them, texts hang from their first line."""
    height = max(map(len, row))
    filled = [
        [""] * (height - len(cell)) + cell if is_header else cell + [""] * (height - len(cell))
        for cell in row
    ]
    lines = zip(*filled, strict=True)
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


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


def without_infinity(value: Any) -> Any:
    """Plain data with null for every number in it that is not finite, as JSON has to have it."""
    if isinstance(value, float):
        return finite_or_none(value)
    if isinstance(value, dict):
        return {key: without_infinity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinity(item) for item in value]
    return value


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


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def markdown_text(text: str) -> str:
    """`text` in a line of Markdown, where nothing in it is HTML, a link, a picture or code."""
    plain = text.replace("\n", " ").replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`\[\]|])", r"\\\1", plain)


def markdown_block(text: str, language: str = "") -> str:
    """`text` as it is, between fences longer than any in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
