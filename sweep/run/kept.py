"""Which weights of a run folder stay, and why: those a promise rests on, and then the best."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

from model.training.release import BEFORE, CHECKPOINT
from sweep.errors import SweepError
from sweep.folder import ENSEMBLE, JOURNAL, RESOLVED, TEACHERS, TRIALS
from sweep.format import GIGABYTE, ordinal
from sweep.journal import read_events
from sweep.records import Outcome, Role
from sweep.results import report
from sweep.space import KeepConfig
from sweep.view import TrialView, View

NAMING = ("train.teacher", "gpt.init")  # settings that name networks by their path


@dataclass(frozen=True)
class Weights:
    """The trials that have weights: who keeps them and why, and who gives them up, in that order.

    over   bytes that those who stay take beyond the room there is for them
    """

    stays: Mapping[str, str]
    goes: tuple[TrialView, ...]
    over: int = 0


def checkpoints(trial: Path) -> list[Path]:
    """Those of a trial: its own, and where it is several networks that of each."""
    names = (CHECKPOINT, BEFORE)
    paths = [
        path for name in names for path in (trial / name, *sorted(trial.glob(f"member-*/{name}")))
    ]
    return [path for path in paths if path.exists()]


def weight(folder: Path, name: str) -> int:
    """Bytes of a trial's checkpoints; 0 where it has none, or they go just now."""
    total = 0
    for path in checkpoints(folder / TRIALS / name):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def remove(folder: Path, name: str) -> int:
    """Remove the checkpoints of a trial; the bytes that gives back."""
    total = 0
    for path in checkpoints(folder / TRIALS / name):
        with suppress(OSError):  # room is a wish
            size = path.stat().st_size
            path.unlink()
            total += size
    return total


def sort_out(folder: Path, view: View, keep: KeepConfig, bytes_of: Mapping[str, int]) -> Weights:
    """Who of the trials with weights, `bytes_of` them, keeps those under `keep`.

    Promises come first: they are kept, also where that is more than the room there is.
    """
    why = promised(folder, view)
    rest = [view.trials[name] for name in bytes_of if name in view.trials and name not in why]
    complete = [t for t in view.searches() if t.outcome is Outcome.COMPLETE]
    best = nsmallest(keep.best, complete, key=lambda trial: trial.val_loss)
    places = {trial.name: f"the {ordinal(n)} best by loss" for n, trial in enumerate(best, 1)}
    if not keep.best:
        places = {trial.name: "keep.best is 0: all stay" for trial in rest}
    goes = [trial for trial in rest if trial.name not in places]
    stays = {name: why.get(name) or places[name] for name in bytes_of if name in {**why, **places}}
    over = sum(bytes_of[name] for name in stays) - keep.max_gb * GIGABYTE if keep.max_gb else 0.0
    for trial in sorted((t for t in rest if t.name in stays), key=_worth):
        if over > 0:
            over -= bytes_of[trial.name]
            goes.append(trial)
            del stays[trial.name]
    return Weights(stays, tuple(sorted(goes, key=_worth)), max(0, round(over)))


def _worth(trial: TrialView) -> tuple[int, float]:
    """What is missed least comes first: what failed or was stopped, the baseline, then by loss."""
    if trial.outcome is not Outcome.COMPLETE:
        return 0, 0.0
    return (2, -trial.val_loss) if trial.role is Role.SEARCH else (1, 0.0)


def promised(folder: Path, view: View) -> dict[str, str]:
    """Trials whose weights something else rests on, and what that is."""
    why = _named_elsewhere(folder) | _in_ensemble(folder) | _teachers(folder)
    for trial in view.trials.copy().values():
        if trial.role is Role.CONFIRM:
            why.setdefault(trial.name, "a run with a fresh seed")
    why |= dict.fromkeys((view.confirm or {}).get("finalists") or (), "a finalist")
    why |= {trial.name: "unfinished" for trial in view.running()}
    best = report.winner(view)
    return why | ({best.name: "the best"} if best else {})


def _in_ensemble(folder: Path) -> dict[str, str]:
    """The members of the latest ensemble."""
    return dict.fromkeys(_members(folder / ENSEMBLE), f"in {ENSEMBLE}")


def _teachers(folder: Path) -> dict[str, str]:
    """Who teaches whom: the same lesson can be asked for again with another seed."""
    why: dict[str, str] = {}
    for path in sorted((folder / TEACHERS).glob("*.json")):
        why |= dict.fromkeys(_members(path), f"teaches {path.stem}")
    return why


def _members(path: Path) -> list[str]:
    """The runs of this folder that a file of members names; none where there is no such file."""
    try:
        return [Path(its["folder"]).name for its in json.loads(path.read_text())["members"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise SweepError(
            f"{path} cannot be read: {error!r}",
            hint="It says whose weights must stay. Put it right, or remove it.",
        ) from None


def _named_elsewhere(folder: Path) -> dict[str, str]:
    """Trials that a run in the folder beside this one, or below that, learns or begins from.

    What such a run names may be a path from wherever it was started, or lead through a link. So
    whatever ends like the path of a trial here counts for one.
    """
    runs, below = folder.absolute().parent, (folder / TRIALS).resolve()
    named = re.compile(
        rf"(?:(?<![\w.+-]){re.escape(folder.absolute().name)}/|(?<![\w./+-])(?:\./)?)"
        rf"{TRIALS}/([\w.+-]+)"
    )
    why: dict[str, str] = {}
    for journal in sorted([*runs.glob(f"*/{JOURNAL}"), *runs.glob(f"*/*/{JOURNAL}")]):
        who = f"named by {journal.parent.relative_to(runs)}"
        with suppress(OSError):  # `sweep train` has none
            text = (journal.parent / RESOLVED).read_text(encoding="utf-8", errors="replace")
            why |= dict.fromkeys(named.findall(text), who)
        with suppress(SweepError):  # a damaged one says so where it is read
            event, _ = next(read_events(journal), ({}, 0))
            fixed = event.get("fixed", {})
            for word in {str(fixed[name]) for name in NAMING if fixed.get(name)}:
                why |= dict.fromkeys(named.findall(word), who)
                path = Path(word).resolve()
                if below in path.parents:
                    why[path.relative_to(below).parts[0]] = who
    return why
