"""Searches the training recipe that makes a fixed, small corpus go furthest.

In Python: `sweep.open_run("runs/quickstart").trials`; docs/notebook.md has the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.notebook import Run, Runs, open_run, open_runs

__all__ = ["Run", "Runs", "open_run", "open_runs"]


def __getattr__(name: str) -> Any:
    """What is for notebooks, imported when it is first asked for: pandas alone takes 0.3 s."""
    if name in __all__:
        return getattr(import_module("sweep.notebook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
