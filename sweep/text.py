"""Tables as text."""

from __future__ import annotations


def table(rows: list[list[str]]) -> str:
    """Columns as wide as they need to be; the first row is the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
