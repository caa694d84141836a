"""The files that define a sweep, in its run folder: another definition does not continue it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import model
from model.config import ConfigError
from model.files import write_text
from sweep.errors import REFUSED_TO_CONTINUE, SweepError
from sweep.folder import ENVIRONMENT, JOURNAL, RESOLVED, SPACE
from sweep.imports import imported_files
from sweep.journal import read_view
from sweep.space import RENAMED, KeepConfig, Space, TrialConfig
from sweep.space.compatibility import problems
from sweep.space.language import read_plain
from sweep.view import View

PARTS = {"name": str, "search": dict, "fixed": dict, "trial": dict}  # that every version wrote
PACKAGES = ("sweep", "torch", "ray", "optuna", "mlflow", "tiktoken", "pyarrow", "numpy")


def write_or_compare(folder: Path, space: Space, source: str, trainer: str = "") -> None:
    """Write what defines the sweep, or refuse to continue one that is defined differently.

    trainer   who trains it, if not ours
    """
    now = {**space.resolved(), "trainer": trainer or digest_of_trainer()}
    resolved = folder / RESOLVED
    view = read_view(folder / JOURNAL) if (folder / JOURNAL).exists() else View()
    if resolved.exists() or view.header:  # a journal alone is that of `sweep train`, or damage
        different = problems(read_resolved(resolved), now, space, view)
        if different:
            raise SweepError(
                f"{folder} holds a sweep that is not comparable with this one",
                different,
                hint="Continue it as it was, or give this one another --name. Budget, trial and "
                "keep may change, and the space may grow around every trial so far.",
                code=REFUSED_TO_CONTINUE,
            )
    write_text(folder / ENVIRONMENT, json.dumps(environment(), indent=2))
    write_text(folder / SPACE, source)
    write_text(resolved, yaml.safe_dump(now, sort_keys=False))


def read_resolved(path: Path) -> dict[str, Any]:
    try:
        before = read_plain(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError):
        before = None
    there = before if isinstance(before, dict) else {}
    parts = {RENAMED.get(part, part): value for part, value in there.items()}
    lacking = [part for part, kind in PARTS.items() if not isinstance(parts.get(part), kind)]
    if not isinstance(before, dict) or lacking:
        raise SweepError(
            f"{path} is missing or damaged, so whether this sweep is the same cannot be told",
            [f"it has no {part}" for part in lacking] if there else [],
            hint=f"Restore it (sweep doctor {path.parent} --repair does, if the journal has it) or "
            "begin anew with --name.",
            code=REFUSED_TO_CONTINUE,
        )
    return before


def trial_and_keep(folder: Path) -> tuple[TrialConfig, KeepConfig]:
    """What the folder's own space says of trials and of room. Raises SweepError if it does not."""
    resolved = read_resolved(folder / RESOLVED)
    try:
        keep = KeepConfig(**resolved.get("keep", {}))  # folders of before 2026-11 have none
        return TrialConfig(**resolved["trial"]), keep
    except (TypeError, ConfigError) as error:
        raise SweepError(
            f"{folder / RESOLVED} is damaged: trial or keep: {error}", hint="Put a copy of it back."
        ) from None


def digest_of_trainer(home: Path | None = None) -> str:
    """A digest of all code that training runs; other code in model/ may change under a sweep.

    home   the folder of the trainer's modules, if not ours
    """
    return _digest(home) if home else _own_digest()


@cache
def _own_digest() -> str:
    return _digest(Path(next(iter(model.__path__))))


def _digest(home: Path) -> str:
    digest = hashlib.sha256()
    for path in trainer_files(home):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def trainer_files(home: Path) -> list[Path]:
    """The module that trains and those of its package that it imports, at any depth."""
    return imported_files(home, [("training", "train")])


def environment() -> dict[str, Any]:
    commit = ""
    with suppress(OSError):  # git is not installed everywhere
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    return {
        "python": sys.version,
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": commit or None,
        "cores": len(os.sched_getaffinity(0)),
    }
