"""Earlier sweeps and runs of others that inform a search: read once, and kept in its run folder.

The earlier folder may change or go: what is kept is what was read when the sweep first named it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.config import SETTINGS, ConfigError, Value
from model.config.presets import overridden
from model.files import replaced
from sweep.errors import SweepError
from sweep.folder import EARLIER, EXTERNAL, JOURNAL
from sweep.journal import read_view
from sweep.results.external import read_kept
from sweep.results.external_reader import ExternalRun, read_external
from sweep.search import EarlierSweep, EarlierTrial, lessons
from sweep.space import Space

IMPORTED = "imported runs of {}"


def take_over(space: Space, folder: Path) -> list[EarlierSweep]:
    """What `sampler.warm_start` names: as kept in the run folder, else read from where it lies.

    Raises SweepError listing everything named that teaches nothing.
    """
    kept = {sweep.name: sweep for sweep in _read_copies(folder)}
    sweeps, problems = [], []
    for name in map(str, space.sampler.warm_start):
        try:
            sweeps.append(kept.get(name) or _read(name, space, folder))
        except SweepError as error:
            problems += str(error).splitlines()
    if problems:
        raise SweepError(
            "sampler.warm_start names what cannot inform this sweep",
            problems,
            hint="Name run folders with finished trials, or files that `sweep import` reads.",
        )
    return sweeps


def keep(folder: Path, sweeps: Sequence[EarlierSweep]) -> None:
    """Keep the trials of `sweeps` in the run folder, a line each, beside those kept before."""
    kept = {sweep.name: sweep for sweep in _read_copies(folder)}
    if all(sweep.name in kept for sweep in sweeps):
        return
    lines = [
        json.dumps({"from": sweep.name, "val_loss": trial.loss, "settings": dict(trial.settings)})
        for sweep in (kept | {sweep.name: sweep for sweep in sweeps}).values()
        for trial in sweep.trials
    ]
    with replaced(folder / EARLIER) as beside:
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def informing(space: Space, folder: Path) -> tuple[EarlierSweep, ...]:
    """All that informs the search in `folder`: what is kept there, and runs imported into it.

    Nothing where the sampler has no use for it.
    """
    if space.sampler.name != "surface":
        return ()
    by_file: dict[str, list[ExternalRun]] = {}
    for run in read_kept(folder) if (folder / EXTERNAL).exists() else ():
        by_file.setdefault(run.source, []).append(run)
    imported = [_placed(IMPORTED.format(source), runs, space) for source, runs in by_file.items()]
    return (*take_over(space, folder), *imported)


def described(space: Space, sweeps: tuple[EarlierSweep, ...]) -> list[dict[str, Any]]:
    """What each of `sweeps` teaches, for the journal: trials that count, and why others do not."""
    if not sweeps:
        return []
    taught = lessons(space, sweeps)
    return [
        {"from": sweep.name, "trials": count, "left_out": dict(left_out)}
        for sweep, count, left_out in zip(sweeps, taught.trials, taught.left_out, strict=True)
    ]


def _read(name: str, space: Space, folder: Path) -> EarlierSweep:
    path = Path(name).expanduser()
    if path.is_dir() and path.resolve() == folder.resolve():
        raise SweepError(f"{name}: is this sweep itself")
    if path.is_dir() and (path / JOURNAL).exists():
        ended = [t for t in read_view(path / JOURNAL).ranked() if math.isfinite(t.val_loss)]
        trials = tuple(EarlierTrial(dict(t.settings), t.val_loss) for t in ended)
        if not trials:
            raise SweepError(f"{name}: no trial of it has finished")
        return EarlierSweep(name, trials)
    if path.is_dir():
        raise SweepError(f"{name}: no run folder: it has no {JOURNAL}")
    if not path.is_file():
        raise SweepError(f"{name}: no such run folder, and no such file")
    sweep = _placed(name, read_external(path).runs, space)
    if not any(trial.settings for trial in sweep.trials):
        searched = ", ".join(space.searched)
        raise SweepError(
            f"{name}: none of its {len(sweep.trials)} runs names all of {searched}; columns must "
            "be called as the settings are"
        )
    return sweep


def _placed(name: str, runs: Sequence[ExternalRun], space: Space) -> EarlierSweep:
    """Runs of others with the settings that their exports name, and this sweep's for the rest.

    Without settings, if one that is searched is not named or has no value we know.
    """
    trials = [EarlierTrial(_settings(run.params, space), run.val_loss) for run in runs]
    return EarlierSweep(name, tuple(t for t in trials if math.isfinite(t.loss)))


def _settings(params: Mapping[str, str], space: Space) -> dict[str, Value]:
    try:
        named = {n: SETTINGS[n].check(text) for n, text in params.items() if n in SETTINGS}
    except ConfigError:
        return {}
    settings: dict[str, Any] = overridden(space.fixed, named)
    active = [hp for hp in space.hyperparameters if hp.active(settings)]
    return settings if all(hp.setting in named for hp in active) else {}


def _read_copies(folder: Path) -> list[EarlierSweep]:
    path = folder / EARLIER
    if not path.exists():
        return []
    trials: dict[str, list[EarlierTrial]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            trial = EarlierTrial(dict(entry["settings"]), float(entry["val_loss"]))
            trials.setdefault(entry["from"], []).append(trial)
        except (ValueError, KeyError, TypeError):
            raise SweepError(
                f"{path} is damaged at line {number}",
                hint="Remove it, and it is read again from what sampler.warm_start names.",
                code=1,
            ) from None
    return [EarlierSweep(name, tuple(some)) for name, some in trials.items()]
