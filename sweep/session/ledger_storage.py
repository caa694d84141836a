"""Where ledgers are kept: one SQLite file in the run folder."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage

LEDGER = "study.db"  # in a run folder

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(path: Path | None) -> BaseStorage:
    """SQLite at `path`, or memory. One driver writes; readers may look on meanwhile."""
    if path is None:
        return InMemoryStorage()
    return RDBStorage(
        f"sqlite:///{path.absolute()}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
