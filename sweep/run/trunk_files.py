"""The trunks in a run folder: who trains with them, and which are deleted."""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

from model.config import SharedTrunks
from sweep.folder import TRUNKS
from sweep.format import GIGABYTE
from sweep.records import Outcome
from sweep.run.local import Train, shared_trainer
from sweep.space import Space
from sweep.space.trunks import epoch_counts, useless_trunks
from sweep.view import View

CHECKPOINT = "checkpoint.safetensors"


def trainer(space: Space, folder: Path) -> Train:
    """The trainer of a search in the run folder; its trials share trunks if the space says so."""
    if not space.trial.share_trunks:
        return shared_trainer
    trunks = SharedTrunks((folder / TRUNKS).absolute(), epoch_counts(space))
    return partial(shared_trainer, trunks=trunks)


def tidy(space: Space, folder: Path, view: View) -> None:
    """Delete trunks that no trial can begin from any more, and the oldest beyond the room.

    A trial that was handed out and finds its trunk gone begins earlier, to the same end.
    """
    # One that is not whole yet is being written.
    kept = [path.parent for path in (folder / TRUNKS).glob(f"*/*/{CHECKPOINT}")]
    by_recipe: dict[str, list[int]] = {}
    for path in kept:
        by_recipe.setdefault(path.parent.name, []).append(int(path.name))
    ended = [t.settings for t in view.searches() if t.outcome not in (None, Outcome.FAILED)]
    useless = useless_trunks(space, ended, by_recipe)
    left = []
    for path in kept:
        if int(path.name) in useless.get(path.parent.name, ()):
            shutil.rmtree(path, ignore_errors=True)
        else:
            left.append(path)
    _make_room(left, space.trial.trunk_room * GIGABYTE)


def _make_room(kept: list[Path], room: float) -> None:
    """Delete the oldest of `kept` until the others take at most `room` bytes."""
    files = []
    for path in kept:
        with suppress(FileNotFoundError):  # a worker found it damaged and deleted it
            about = (path / CHECKPOINT).stat()
            files.append((about.st_mtime, about.st_size, path))
    taken = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if taken <= room:
            return
        shutil.rmtree(path, ignore_errors=True)
        taken -= size
