"""Settings of sections that are lists: their members checked, typed and put in order."""

from __future__ import annotations

import math
from functools import partial

from model.config.aliases import suggestion
from model.config.config import SETTINGS
from model.config.setting import Value
from sweep.space.baseline import as_entries, read_entries
from sweep.space.language.yaml_nodes import Problems

NUMBERS: dict[str, tuple[type, str]] = {
    "reference.multiples": (int, "different whole numbers"),
    "reference.sizes": (float, "different numbers above 0"),
}


def as_list(name: str, found: object) -> object:
    """What a file gives for setting `name`, as the list that `--set` takes."""
    return as_entries(found) if name == "reference.table" else found


def read_list(name: str, value: Value, line: int, problems: Problems) -> Value:
    """`value` with what its members must be; anything but a known list stays as it is."""
    if not isinstance(value, tuple):
        return value
    if name in NUMBERS:
        kind, expected = NUMBERS[name]
        numbers = {n for text in value if (n := _positive(str(text), kind)) is not None}
        is_sizes = name == "reference.sizes"
        if len(numbers) != len(value) or (is_sizes and not numbers):
            problems.add(line, name, f"expected {expected}, got {list(value)}")
        return tuple(sorted(numbers)) or (1.0,) * is_sizes
    if name == "reference.table":
        return read_entries(value, partial(problems.add, line, name))
    if name == "prune.peers":
        for peer in map(str, value):
            if peer not in SETTINGS:
                problems.add(line, name, f"{peer} is no such setting{suggestion(peer, SETTINGS)}")
    return value


def _positive(text: str, kind: type) -> float | None:
    if kind is int and not text.isdecimal():
        return None
    try:
        number: float = kind(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
