"""What else lies in a run folder: its definition, records for people, and MLflow's cursors."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from model.files import write_text
from sweep.doctor.damage import Aside, Damage
from sweep.errors import SweepError
from sweep.folder import (
    EARLIER,
    ENSEMBLE,
    ENVIRONMENT,
    EXTERNAL,
    JOURNAL,
    LEDGER,
    RESOLVED,
    SEALED,
    SWEEP_ID,
)
from sweep.journal import mark, read_events, read_view
from sweep.space.language import saved_space
from sweep.view import View

# What is lost with a file that is no JSON.
MEANS = {
    ENVIRONMENT: "nothing reads it but people; the next driver writes it",
    ENSEMBLE: "the ensemble cannot be shown; sweep ensemble makes it again",
    EARLIER: "no sweep goes on; without it, it is read again from what sampler.warm_start names",
    EXTERNAL: "runs of others cannot be shown; sweep import reads them again",
}


def check_definition(folder: Path) -> list[Damage]:
    """Whether what was searched can be read."""
    path = folder / RESOLVED
    there, kept = path.exists(), str(read_view(folder / JOURNAL).header.get("resolved", ""))
    if (there and saved_space(folder) is not None) or not (
        there or kept or (folder / LEDGER).exists()
    ):
        return []
    what = "it cannot be read as a space" if there else "it is missing"
    means = "whether a sweep is the same cannot be told, so none goes on"
    if not kept:  # of an earlier version, or of outside trainers
        return [Damage(RESOLVED, what, f"{means}; the journal does not have it: put a copy back")]

    def write(aside: Aside) -> None:
        if path.exists():
            aside.copy(path)
        write_text(path, kept)

    return [Damage(RESOLVED, what, means, "writes that of the journal", write)]


def check(folder: Path) -> list[Damage]:
    """What is wrong with the rest."""
    view = read_view(folder / JOURNAL)
    damages = [*_check_id(folder, view), *_check_sealed(folder, view), *_check_cursors(folder)]
    for name, means in MEANS.items():
        if why := _unreadable(folder / name):
            damages.append(Damage(name, why, means))
    return damages


def _check_id(folder: Path, view: View) -> list[Damage]:
    path, noted = folder / SWEEP_ID, view.header.get("id", "")
    if not (folder / RESOLVED).exists() or not noted:
        return []
    if path.exists() and path.read_text(errors="replace") == noted:
        return []

    def write(aside: Aside) -> None:
        if path.exists():
            aside.copy(path)
        write_text(path, noted)

    what = "it is not that of the journal" if path.exists() else "it is missing"
    means = "MLflow would take what comes next for another sweep"
    return [Damage(SWEEP_ID, what, means, "writes that of the journal", write)]


def _check_sealed(folder: Path, view: View) -> list[Damage]:
    looks = [{key: value for key, value in look.items() if key != "event"} for look in view.sealed]
    path = folder / SEALED
    there = _read(path) if path.exists() else []
    if there == json.loads(json.dumps(looks)):
        return []

    def write(aside: Aside) -> None:
        if path.exists():
            aside.copy(path)
        write_text(path, json.dumps(looks, indent=2))

    what = f"the journal has {len(looks)} looks at the test split, it has others"
    means = "other sweeps of this text are not told of them"
    return [Damage(SEALED, what, means, "writes those of the journal", write)]


def _check_cursors(folder: Path) -> list[Damage]:
    """MLflow's cursors: each stands after a line of this journal."""
    damages, after = [], {0}
    try:
        after |= {offset for _, offset in read_events(folder / JOURNAL)}
    except SweepError:
        return []
    for path in sorted(folder.glob("tracking*.json")):
        its = _read(path)
        offset = its.get("offset") if isinstance(its, dict) else None
        noted = its.get("mark") if isinstance(its, dict) else None
        same = not noted or (offset in after and noted == mark(folder / JOURNAL, offset))
        if offset in after and same:
            continue
        what = "it is no JSON" if offset is None else "it stands where no line of the journal ends"
        if offset in after:
            what = "the journal's lines before it are not those that were sent"
        means = "the store may have points that the journal lacks, as after a crash"
        damages.append(
            Damage(
                path.name,
                what,
                means,
                "moves it aside: the next driver, or sweep publish, takes such runs out of the "
                "store and sends all again",
                partial(Aside.move, path=path),
            )
        )
    return damages


def _unreadable(path: Path) -> str:
    if not path.exists():
        return ""
    if path.suffix == ".json":
        return "it is no JSON" if _read(path) is None else ""
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            if isinstance(json.loads(line), dict):
                continue
        except ValueError:
            pass
        return f"line {number} is no JSON object"
    return ""


def _read(path: Path) -> Any:
    """What is in a JSON file; None if it is none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
