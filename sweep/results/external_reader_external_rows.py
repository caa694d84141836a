"""The rows of an export: CSV, JSON or JSON lines, whatever they mean."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.errors import SweepError

Row = Mapping[str, Any]
Rows = list[tuple[int, Row]]  # with the line or place of each


def read_rows(path: Path, problems: list[str]) -> Rows:
    """(line or place, row) of a CSV, JSON or JSON lines file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise SweepError(f"cannot read {path}: {reason}") from None
    if not text.strip():
        problems.append("it is empty")
        return []
    if text.lstrip()[0] in "[{":
        return _json_rows(text, problems)
    reader = csv.reader(io.StringIO(text, newline=""))  # a quoted cell may have several lines
    try:
        header = next(reader)
        rows: Rows = []
        for cells in reader:
            if len(cells) != len(header) and any(cells):
                what = f"{len(cells)} cells under {len(header)} headings"
                problems.append(f"line {reader.line_num}: {what}")
            elif any(cells):
                rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}")
        return []
    if not rows and not problems:
        problems.append("it has headings and no rows")
    twice = sorted({column for column in header if header.count(column) > 1})
    problems += [f"heading {column} is there twice" for column in twice]
    return rows


def _json_rows(text: str, problems: list[str]) -> Rows:
    if text.lstrip()[0] == "[":
        try:
            found = list(enumerate(json.loads(text), 1))
        except (ValueError, RecursionError) as error:
            problems.append(f"not JSON: {error}")
            return []
        if not found:
            problems.append("it has no rows")
    else:
        found = []
        for number, line in enumerate(text.split("\n"), 1):  # JSON text may hold other line ends
            try:
                found += [(number, json.loads(line))] if line.strip() else []
            except (ValueError, RecursionError):
                problems.append(f"line {number}: not JSON")
    rows: Rows = []
    for number, row in found:
        if not isinstance(row, dict):
            problems.append(f"row {number}: expected an object, got {row!r:.40}")
            continue
        if not _is_unicode(row):
            problems.append(f"row {number}: has half a character, such as \\ud800")
            continue
        nested = {key: row.pop(key) for key in ("config", "summary") if key in row}
        merged = dict(row)
        for inner in nested.values():
            merged |= _flat(inner) if isinstance(inner, dict) else {}
        rows.append((number, merged))
    return rows


def _is_unicode(row: Row) -> bool:
    """Whether the texts of a row can be written: JSON can spell halves of surrogate pairs."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _flat(nested: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """{optim: {lr: 1}} as {optim.lr: 1}; W&B's own keys begin with _ and stay out."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict) and set(value) == {"value"}:
            value = value["value"]  # as W&B's config files have it
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{key}.")
        elif not key.startswith("_"):
            flat[before + key] = value
    return flat
