"""The ledger: it has all that the journal has, or it is written anew from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from model.training.release import CHECKPOINT
from sweep.doctor.damage import Aside, Damage
from sweep.errors import SweepError
from sweep.folder import JOURNAL, LEDGER, RESOLVED, TRIALS
from sweep.journal import read_events, read_view
from sweep.records import Outcome
from sweep.session import LedgerTrial, disagreements, read_ledger, rebuild
from sweep.space.language import saved_space
from sweep.view import View

SHOWN = 3
ANEW = "writes it anew from the journal: trials, evaluations, ends, numbers"


def check(folder: Path) -> list[Damage]:
    """What the ledger lacks beside the journal, and what it has that the journal does not.

    Without a space there is none.
    """
    if not (folder / RESOLVED).exists():
        return []
    view = read_view(folder / JOURNAL)

    def write_anew(aside: Aside) -> None:
        _rebuild(folder, view, aside)

    try:
        ledger = read_ledger(folder / LEDGER)
    except SweepError as error:
        if not view.trials:
            return []
        why = str(error).splitlines()[0].partition(": ")[2]
        means = "no sweep goes on; what the journal has can be read"
        return [Damage(LEDGER, f"it cannot be read: {why}", means, ANEW, write_anew)]
    if (lost := lost_trials(folder, view, ledger)) and not all(lost.values()):
        return [
            Damage(
                JOURNAL,
                f"it lacks what {LEDGER} has: ends or evaluations of {_names([*lost])}",
                "it was cut or is an older copy, and those trials would be trained again, so "
                "nothing goes on; put the right one back",
            )
        ]
    damages = []
    if lines := disagreements(view, ledger):
        more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        gone = (
            "it is missing" if not (folder / LEDGER).exists() else "it lacks what the journal has"
        )
        means = "finished trials would be trained again, so nothing goes on"
        what = f"{gone}: {'; '.join(lines[:SHOWN])}{more}"
        damages.append(Damage(LEDGER, what, means, ANEW, write_anew))
    if lost and not damages:
        damages.append(
            Damage(
                LEDGER,
                f"it has ends or evaluations of {_names([*lost])} that the journal lacks",
                "the journal was cut or is an older copy: put the right one back if there is one",
                f"{ANEW}; those trials go on from their checkpoints",
                write_anew,
            )
        )
    return damages


def lost_trials(folder: Path, view: View, ledger: Mapping[str, LedgerTrial]) -> dict[str, bool]:
    """Trials whose end the ledger has and the journal lacks; whether a checkpoint has it too.

    Not one that was pruned: the next driver notes that, and its checkpoint could not go on.
    """
    return {
        name: name in view.trials and (folder / TRIALS / name / CHECKPOINT).exists()
        for name, trial in ledger.items()
        if trial.outcome in (Outcome.COMPLETE, Outcome.PRUNED)
        and (
            name not in view.trials
            or (trial.outcome is Outcome.COMPLETE and not trial.marks <= _marks(view, name))
        )
    }


def _names(trials: Sequence[str]) -> str:
    return ", ".join(trials[:SHOWN]) + (", ..." if len(trials) > SHOWN else "")


def _marks(view: View, name: str) -> set[int]:
    return {event["basis_points"] for event in view.trials[name].observations}


def _rebuild(folder: Path, view: View, aside: Aside) -> None:
    space = saved_space(folder)
    if space is None:
        raise SweepError(
            f"{folder / LEDGER} cannot be written anew: resolved.yaml says no space",
            hint="Put a copy of resolved.yaml back; then the same command does it.",
        )
    path = folder / LEDGER
    beside = path.with_name(f"{LEDGER}.part")
    for left in folder.glob(f"{beside.name}*"):  # of a repair that was killed
        left.unlink()
    events = [event for event, _ in read_events(folder / JOURNAL)]
    rebuild(beside, space, view, events)
    for old in sorted(folder.glob(f"{LEDGER}*")):  # with what SQLite keeps beside it
        if not old.name.startswith(beside.name):
            aside.move(old)
    beside.rename(path)
