"""Evaluations that say which machine made them, for the journal to keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from model.config import Value
from model.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Placed(Progress):
    """An evaluation and the machine of the process that yields it: see model.training.machine."""

    machine: Mapping[str, Value] = field(default_factory=dict)


def placed(progress: Progress, machine: Mapping[str, Value]) -> Placed:
    """`progress` with the machine beside it."""
    values = {each.name: getattr(progress, each.name) for each in fields(Progress)}
    return Placed(**values, machine=machine)
