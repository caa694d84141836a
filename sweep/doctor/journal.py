"""The journal: whole lines that are events, each of a trial that began and only once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from model.config import trial_flops
from model.files import replaced
from model.progress import WHOLE
from model.training.release import read_run
from sweep.doctor.damage import Aside, Damage
from sweep.errors import SweepError
from sweep.folder import JOURNAL, LEDGER, TRIALS
from sweep.format import without_infinity
from sweep.journal import fold, read_lines
from sweep.records import Event, Role
from sweep.session import read_ledger
from sweep.space.language import saved_space
from sweep.view import View

DOUBLED = "doubled"
LINES_SHOWN = 3


def check(folder: Path) -> list[Damage]:
    """What is wrong with the journal, as one repair: all its lines are written anew."""
    path = folder / JOURNAL
    wrong: dict[str, list[int]] = {}
    for number, _, _, why in _judged(path):
        if why:
            wrong.setdefault(why, []).append(number)
    damages = [_damage(path, why, lines) for why, lines in wrong.items()]
    whole = sum(len(line) for line, _, _ in read_lines(path))
    if (torn := path.stat().st_size - whole) > 0:
        damages.append(
            Damage(
                JOURNAL,
                f"its last line is torn: {torn} bytes",
                "a crash cut what nobody had acted on; the next driver drops it too",
                "cuts it off",
                partial(_rewrite, folder),
            )
        )
    kept = [event for _, _, event, why in _judged(path) if event is not None and not why]
    for trial, marks in _restorable(folder, kept).items():
        at = ", ".join(f"{mark / WHOLE:.0%}" for mark in sorted(marks))
        damages.append(
            Damage(
                JOURNAL,
                f"trial {trial} lacks its evaluation at {at}, which its checkpoint has",
                "its curve has a hole, and if it is the last a sweep does not go on",
                "puts it back from the checkpoint",
                partial(_rewrite, folder),
            )
        )
    return damages


def _damage(path: Path, why: str, lines: list[int]) -> Damage:
    shown = ", ".join(map(str, lines[:LINES_SHOWN])) + (", ..." if len(lines) > LINES_SHOWN else "")
    where = f"line{'s' * (len(lines) > 1)} {shown}"
    if why == DOUBLED:
        return Damage(
            JOURNAL,
            f"{where}: {len(lines)} events of trials that had ended, or of evaluations it has",
            "trials were trained twice, as if a study.db was lost: the first time counts",
            "takes the later ones out",
            partial(_rewrite, path.parent),
        )
    return Damage(
        JOURNAL,
        f"{where}: {why}",
        "nothing of this sweep can be read or continued",
        "takes it out; what the ledger or a checkpoint has of it is put back",
        partial(_rewrite, path.parent),
    )


def _judged(path: Path) -> Iterator[tuple[int, bytes, Event | None, str]]:
    """Each whole line: its number, itself, its event if it is one, and why it cannot stay.

    Before what a trial did whose own line is damaged comes that line again, as the ledger has it.
    """
    view, ended = View(), set[str]()
    marks: Counter[tuple[str, int]] = Counter()
    for number, (line, event, wrong) in enumerate(read_lines(path), 1):
        if event is None:
            yield number, line, None, wrong
            continue
        trial, kind = event.get("trial", ""), event["event"]
        at = (trial, event.get("basis_points", 0))
        again = kind == "observation" and marks[at] > 0
        if (kind in ("trial", "observation", "outcome") and trial in ended) or again:
            yield number, line, event, DOUBLED
            continue
        if kind in ("observation", "outcome") and trial not in view.trials:
            begun = _begun(path.parent, trial, event["time"], view)
            if begun is not None:
                view.apply(begun)
                yield number, _line(begun), begun, ""
        try:
            fold(view, event, path, 0)
        except SweepError as error:
            yield number, line, event, str(error).partition(": ")[2].splitlines()[0]
            continue
        if kind == "observation":
            marks[at] += 1
        if kind == "outcome":
            ended.add(trial)
        yield number, line, event, ""


def _begun(folder: Path, name: str, time: int, view: View) -> Event | None:
    """The line with which the search trial `name` began; None if the ledger does not know it."""
    space = saved_space(folder)
    try:
        its = read_ledger(folder / LEDGER).get(name)
    except SweepError:
        return None
    if its is None or space is None or not name.isdecimal():  # others have settings of their own
        return None
    settings = {**space.fixed, **its.searched}
    return {
        "event": "trial",
        "time": time,
        "trial": name,
        "role": Role.SEARCH,
        "searched": dict(its.searched),
        "settings": settings,
        "flops": trial_flops(settings),
        "devices": max((trial.devices for trial in view.trials.values()), default=0.0),
    }


def _restorable(folder: Path, events: list[Event]) -> dict[str, dict[int, dict[str, Any]]]:
    """Evaluations that the checkpoint of a trial has and the journal lacks, though it went on."""
    view = View()
    for event in events:
        view.apply(event)
    lacking: dict[str, dict[int, dict[str, Any]]] = {}
    for trial in view.trials.values():
        marks = {event["basis_points"] for event in trial.observations}
        run = read_run(folder / TRIALS / trial.name)
        if run is None or any(run["settings"].get(k, v) != v for k, v in trial.settings.items()):
            continue
        last = WHOLE if trial.ending else max(marks, default=0)
        holes = {
            its["basis_points"]: its
            for its in run["history"]
            if its["basis_points"] <= last and its["basis_points"] not in marks
        }
        if holes:
            lacking[trial.name] = holes
    return lacking


def _rewrite(folder: Path, aside: Aside) -> None:
    """Write the journal with the lines that can stay, and what checkpoints have of the others.

    Once for all that is wrong with it: another call finds nothing to do.
    """
    path = folder / JOURNAL
    judged = list(_judged(path))
    kept = [(line, event) for _, line, event, why in judged if event is not None and not why]
    holes = _restorable(folder, [event for _, event in kept])
    if b"".join(line for line, _ in kept) == path.read_bytes() and not holes:
        return
    aside.copy(path)
    with replaced(path) as part, part.open("wb") as file:
        for line, event in kept:
            trial = event.get("trial", "")
            if event["event"] in ("observation", "outcome") and trial in holes:
                before = event.get("basis_points", WHOLE + 1)
                for mark in sorted(m for m in holes[trial] if m < before):
                    file.write(_observation(trial, event["time"], holes[trial].pop(mark)))
            file.write(line)


def _observation(trial: str, time: int, its: dict[str, Any]) -> bytes:
    gap = {"gap": its["raw_loss"] - its["train_loss"]}
    return _line({"event": "observation", "time": time, "trial": trial, **gap, **its})


def _line(event: Event) -> bytes:
    return json.dumps(without_infinity(event), allow_nan=False).encode() + b"\n"
