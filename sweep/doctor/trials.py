"""The trials' folders: each of a trial that the journal knows, with its own checkpoint."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from model.training.checksums import damage
from model.training.log_probs import NAME as LOG_PROBS
from model.training.release import CHECKPOINT, read_run
from sweep.doctor.damage import Aside, Damage
from sweep.doctor.ledger import lost_trials
from sweep.errors import SweepError
from sweep.folder import JOURNAL, LEDGER, TRIALS
from sweep.journal import read_view
from sweep.session import read_ledger
from sweep.view import TrialView, View


def check(folder: Path) -> list[Damage]:
    """What is wrong below `trials/`."""
    view = read_view(folder / JOURNAL)
    damages: list[Damage] = []
    below, paid = folder / TRIALS, _paid_for(folder, view)
    for path in sorted(below.iterdir()) if below.exists() else ():
        trial = view.trials.get(path.name)
        if trial is None and path.name in paid:
            damages.append(
                Damage(
                    f"{TRIALS}/{path.name}",
                    f"{LEDGER} has its end, the journal does not know it",
                    "it is kept where it is: put the right journal back",
                )
            )
            continue
        if trial is None:
            damages.append(
                Damage(
                    f"{TRIALS}/{path.name}",
                    "the journal knows no such trial",
                    "it takes room, and a trial that gets this name would find it",
                    "moves it aside",
                    partial(Aside.move, path=path),
                )
            )
            continue
        for file in (path / CHECKPOINT, *sorted(path.glob(f"member-*/{CHECKPOINT}"))):
            damages += _check_checkpoint(folder, file, trial)
        for file in (path / LOG_PROBS, *sorted(path.glob(f"member-*/{LOG_PROBS}"))):
            if file.exists() and (why := _unreadable(file)):
                damages.append(
                    Damage(
                        str(file.relative_to(folder)),
                        why,
                        "compare and ensemble stop at it",
                        "moves it aside: they predict anew from the checkpoint",
                        partial(Aside.move, path=file),
                    )
                )
    return damages


def _paid_for(folder: Path, view: View) -> set[str]:
    """Trials whose end only the ledger has."""
    try:
        return {*lost_trials(folder, view, read_ledger(folder / LEDGER))} - {*view.trials}
    except SweepError:
        return set()


def _check_checkpoint(folder: Path, path: Path, trial: TrialView) -> list[Damage]:
    """What is wrong with one checkpoint of `trial`."""
    if not path.exists():
        return []
    name, ended = str(path.relative_to(folder)), trial.ending is not None
    again = "the trial goes on from the checkpoint before it, or begins again, and says so"
    gone = "its weights are lost for text, ensembles and confirmation; settings and curve stay"
    if why := _unreadable(path):
        # Of one that goes on the trainer looks for the checkpoint before it.
        return [Damage(name, why, gone if ended else again)]
    run = read_run(path.parent)
    assert run is not None
    if path.parent.name != trial.name:  # a member, whose seeds are its own
        return []
    move = partial(Aside.move, path=path)
    other = [k for k, v in trial.settings.items() if k in run["settings"] and not _same(run, k, v)]
    if other:
        what = f"it was trained with another {', '.join(sorted(other)[:3])} than the journal has"
        return [
            Damage(name, what, gone if ended else "the trial would fail", "moves it aside", move)
        ]
    losses = {event["basis_points"]: event["val_loss"] for event in trial.observations}
    differs = [
        its["basis_points"]
        for its in run["history"]
        if its["basis_points"] in losses
        and its["val_loss"] == its["val_loss"]  # not a number is no other number
        and its["val_loss"] != losses[its["basis_points"]]
    ]
    if differs:
        what = f"its loss at {differs[0] / 100:g} % is not that of the journal"
        return [Damage(name, what, "it is of other weights than those that were judged")]
    return []


def _same(run: dict[str, object], key: str, value: object) -> bool:
    settings = run["settings"]
    assert isinstance(settings, dict)
    return bool(json.loads(json.dumps(value)) == settings[key])


def _unreadable(path: Path) -> str:
    """Why a file of tensors cannot be used; empty if it can."""
    try:
        return damage(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be read: {str(error) or type(error).__name__}"
