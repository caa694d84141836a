"""What the ledger's file has, read without Optuna and without writing, beside what the journal has.

The ledger is written before the journal and never has less. Where it has, it is not the one that
this journal was written beside: to go on would train trials again that are paid for.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sweep.errors import REFUSED_TO_CONTINUE, SweepError
from sweep.folder import LEDGER
from sweep.records import Outcome, Role, read_kind
from sweep.session.enqueue import INFEASIBLE, REJECTED_ATTR, SETTINGS_ATTR
from sweep.session.migration import SPACE_ATTR
from sweep.view import TrialView, View

OUTCOMES = {"COMPLETE": Outcome.COMPLETE, "PRUNED": Outcome.PRUNED, "FAIL": Outcome.FAILED}
NAMED = 3  # trials that a refusal names


@dataclass(frozen=True)
class LedgerTrial:
    """A trial as the ledger has it."""

    searched: Mapping[str, Any]
    outcome: Outcome | None  # None while it runs
    marks: frozenset[int]  # basis points of its reports


def read_ledger(path: Path) -> dict[str, LedgerTrial]:
    """Every trial of the ledger at `path` that was begun, by the name that the journal gives it.

    None where there is no file, or an empty one. Raises SweepError if it is damaged.
    """
    if not path.exists() or not path.stat().st_size:
        return {}
    with _opened(path) as database:
        if (check := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _damaged(path, check)
        studies = dict(database.execute("SELECT study_name, study_id FROM studies"))
        whole = {
            study
            for (study,) in database.execute(
                "SELECT study_id FROM study_user_attributes WHERE key = ?", (SPACE_ATTR,)
            )
        }
        trials: dict[str, LedgerTrial] = {}
        for role in Role:
            study = _newest(studies, whole, role.value)
            if study is not None:
                trials |= _trials(database, study, role)
    return trials


def disagreements(view: View, ledger: Mapping[str, LedgerTrial]) -> list[str]:
    """What the journal has of trials and the ledger lacks, or has otherwise: a line a trial."""
    lines = [_disagreement(trial, ledger.get(trial.name)) for trial in view.trials.values()]
    return [line for line in lines if line]


def require_agreement(folder: Path, view: View) -> None:
    """Raise SweepError unless the ledger in `folder` has all that its journal, the `view`, has."""
    if not view.trials:
        return
    lines = disagreements(view, read_ledger(folder / LEDGER))
    if lines:
        more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
        raise SweepError(
            f"{folder / LEDGER} lacks what the journal has: it was lost, or an older copy was put "
            "back",
            [*lines[:NAMED], *more],
            hint=f"Going on would train again what is paid for. Put the right one back, or write "
            f"it anew from the journal: sweep doctor {folder} --repair",
            code=REFUSED_TO_CONTINUE,
        )


def _disagreement(trial: TrialView, there: LedgerTrial | None) -> str:
    how = f"{trial.outcome}" if trial.outcome else f"unfinished at {trial.done:.0%}"
    if there is None:
        return f"{trial.name} is {how}; the ledger does not know it"
    searched = {name: there.searched[name] for name in trial.searched if name in there.searched}
    if any(value != searched.get(name, value) for name, value in trial.searched.items()):
        return f"{trial.name} has other settings in the ledger: {searched}"
    if trial.outcome and there.outcome is not trial.outcome:
        return f"{trial.name} is {how}; in the ledger it is {there.outcome or 'unfinished'}"
    lacking = {event["basis_points"] for event in trial.observations} - there.marks
    if lacking and there.outcome is None:
        return f"{trial.name} is {how}; the ledger lacks {len(lacking)} of its evaluations"
    return ""


def _newest(studies: Mapping[str, int], whole: set[int], name: str) -> int | None:
    """The latest study of a role that is whole, as `migration` counts them."""
    version, study = 1, studies.get(name)
    while (later := studies.get(f"{name} {version + 1}")) is not None:
        version += 1
        study = later if later in whole else study
    return study


def _trials(database: sqlite3.Connection, study: int, role: Role) -> dict[str, LedgerTrial]:
    heads = database.execute(
        "SELECT trial_id, number, state FROM trials WHERE study_id = ? ORDER BY number", (study,)
    ).fetchall()
    noted: dict[int, dict[str, Any]] = {}
    for trial, key, text in database.execute(
        "SELECT a.trial_id, key, value_json FROM trial_user_attributes a JOIN trials t "
        "ON a.trial_id = t.trial_id WHERE study_id = ?",
        (study,),
    ):
        noted.setdefault(trial, {})[key] = text
    marks: dict[int, set[int]] = {}
    for trial, step in database.execute(
        "SELECT v.trial_id, step FROM trial_intermediate_values v JOIN trials t "
        "ON v.trial_id = t.trial_id WHERE study_id = ?",
        (study,),
    ):
        marks.setdefault(trial, set()).add(step)
    trials: dict[str, LedgerTrial] = {}
    for trial, number, state in heads:
        its = noted.get(trial, {})
        if SETTINGS_ATTR not in its or INFEASIBLE in its:
            continue  # a crash came before it was noted, or it was never to be trained
        searched = json.loads(its[SETTINGS_ATTR])
        name = read_kind(role, searched).name(number)
        if REJECTED_ATTR not in its or name not in trials:
            outcome, reported = OUTCOMES.get(state), frozenset(marks.get(trial, ()))
            trials[name] = LedgerTrial(searched, outcome, reported)
    return trials


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database at `path` to be read. Raises SweepError for what SQLite cannot."""
    try:
        uri = f"file:{quote(str(path.absolute()))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=60)) as database:
            yield database
    except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, why: object) -> SweepError:
    return SweepError(
        f"{path} cannot be read: {str(why).strip().splitlines()[-1]}",
        hint=f"Put a copy back, or write it anew from the journal: sweep doctor {path.parent} "
        "--repair",
        code=REFUSED_TO_CONTINUE,
    )
