"""What of a run folder can be removed, and what that loses: said before anything goes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.errors import SweepError
from sweep.folder import CURSOR, JOURNAL, SEALED, TRIALS, TRUNKS, size
from sweep.format import bytes_text, time_text
from sweep.results import report
from sweep.run.kept import checkpoints, promised
from sweep.view import TrialView, View


@dataclass(frozen=True)
class Removal:
    """Files and folders to delete, in that order, with what they are and what stays."""

    paths: tuple[Path, ...]
    bytes: int
    lines: tuple[str, ...]


def of_everything(folder: Path, view: View) -> Removal:
    """The whole run folder. Its journal goes last: what is left of a killed removal is found."""
    seconds = sum(trial.seconds for trial in view.trials.values())
    lines = [
        f"{folder}: {bytes_text(size(folder))}, {len(view.trials)} trials that took "
        f"{time_text(seconds)} of training: their results, settings, curves and weights"
    ]
    if best := report.winner(view):
        lines.append(f"its best, {report.winner_line(view)}: {best.kind}")
    if (folder / SEALED).exists():
        lines.append(f"{SEALED}: that its test split was looked at, which other sweeps are told")
    if (folder / CURSOR).exists():
        lines.append("MLflow's runs of it stay")
    inside = sorted(folder.iterdir(), key=lambda path: path.name == JOURNAL)
    return Removal((*inside, folder), size(folder), tuple(lines))


def of_trials(folder: Path, trials: Sequence[TrialView]) -> Removal:
    """All files of these trials. What the journal and the study know of them stays."""
    there = [t for t in trials if (folder / TRIALS / t.name).exists()]
    paths = [folder / TRIALS / trial.name for trial in there]
    lines = [
        f"{path}: {bytes_text(size(path))}, {_what(trial)}"
        for path, trial in zip(paths, there, strict=True)
    ]
    lines.append("the journal and the study keep their settings, curves and losses")
    return Removal(tuple(paths), sum(map(size, paths)), tuple(lines))


def of_checkpoints(folder: Path, view: View, named: Sequence[TrialView]) -> Removal:
    """Weights of the trials `named`; without any, of all that nothing else rests on."""
    kept = promised(folder, view)
    trials = named or [trial for trial in view.trials.values() if trial.name not in kept]
    paths = [(t, path) for t in trials for path in checkpoints(folder / TRIALS / t.name)]
    whole = sum(path.stat().st_size for _, path in paths)
    if named:
        lines = [f"{path}: {bytes_text(path.stat().st_size)}, {_what(t)}" for t, path in paths]
    else:
        of = {trial.name for trial, _ in paths}
        lines = [f"checkpoints of {len(of)} trials: {bytes_text(whole)}"]
    trunks = [] if named or not (folder / TRUNKS).exists() else [folder / TRUNKS]
    lines += [
        f"{path}: {bytes_text(size(path))}; later trials train those steps" for path in trunks
    ]
    if kept and not named:
        which = ", ".join(f"{name} ({why})" for name, why in kept.items() if name in view.trials)
        lines.append(f"those of {which} stay; --trial takes one by its name")
    lines.append("settings, curves, losses and log-probabilities stay")
    whole += sum(map(size, trunks))
    return Removal((*(path for _, path in paths), *trunks), whole, tuple(lines))


def remove(removal: Removal, folder: Path) -> None:
    """Delete it. Raises SweepError where the system refuses.

    Also, before anything goes, where a link leads out of the run folder.
    """
    require_inside(removal.paths, folder)
    for path in removal.paths:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            raise SweepError(f"cannot remove {path}: {error.strerror or error}") from None


def require_inside(paths: Iterable[Path], folder: Path) -> None:
    """Raise SweepError where a link leads out of the run folder to one of `paths`."""
    inside = folder.resolve()
    for path in paths:
        above = path.parent.resolve()
        if path != folder and inside not in (above, *above.parents):
            raise SweepError(
                f"{path} is not in {folder} but in {above}, where a link leads",
                hint="Nothing was removed. Remove that link first.",
            )


def _what(trial: TrialView) -> str:
    """What is lost with the files of a trial."""
    if trial.outcome is None:
        return f"unfinished at {trial.done:.0%}: it would begin anew"
    return f"{trial.outcome}, val loss {trial.val_loss:.4f}, {time_text(trial.seconds)} of training"
