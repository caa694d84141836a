"""Confirm a finished search in its own run folder: the best trials again with fresh seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import AS_THERE_IS, Config, ConfigError
from model.files import write_text
from sweep.errors import REFUSED_TO_CONTINUE, SweepError
from sweep.folder import JOURNAL, LEDGER, RESOLVED, SEALED, TRIALS, locked
from sweep.journal import Journal, read_view
from sweep.records import OUTSIDE, Event, FinalistRun, Outcome, Role
from sweep.results.confirmation import OPTIMAL, ConfirmationPlan, FreshMembers, Rounds
from sweep.results.confirmation_report import confirmed, sealed_text
from sweep.results.ranking import ranking
from sweep.results.sequential import means_anytime
from sweep.results.students import Students
from sweep.run.driver import Job, OpenSession, Options, drive
from sweep.run.interrupt import Interrupt
from sweep.run.local import Train, shared_trainer
from sweep.run.manifest import digest_of_trainer, read_resolved, trial_and_keep
from sweep.run.teachers import recipes
from sweep.session import Session
from sweep.space import BudgetConfig, Space
from sweep.view import View

# Loss of the finished run in a folder on the test split, and its standard error over the text.
Evaluate = Callable[[Path], tuple[float, float]]


@dataclass(frozen=True)
class Request:
    """What the user asks of `sweep confirm`."""

    top: int
    seeds: int
    until_separated: bool
    budget: BudgetConfig
    test: bool | None = None  # look at the test split; None: once the plan is through
    again: bool = False  # even if it was looked at before


def evaluate_on_test(folder: Path) -> tuple[float, float]:
    """Test loss and its standard error, by the shared trainer.

    The trainer is imported here: the driver of a cluster needs no torch before.
    """
    from model.training import sealed_split

    evaluation = sealed_split.evaluate_on_test(folder)
    return evaluation.loss, evaluation.standard_error


def confirm(
    folder: Path,
    request: Request,
    options: Options,
    train: Train = shared_trainer,
    evaluate: Evaluate = evaluate_on_test,
) -> int:
    """Do, or go on with, what `request` asks in the run folder; the exit code.

    Raises SweepError for what the user can mend.
    """
    with locked(folder):
        view = read_view(folder / JOURNAL)
        space = searched_space(folder, request.budget)
        best = ranking(view)[: request.top]
        if not best:
            raise SweepError(f"no trial in {folder} is complete yet", code=1)
        if request.test:
            _refuse_look(view, request.again)
        names = tuple(recipe.name for recipe in best)
        plan = ConfirmationPlan(names, request.seeds, request.until_separated)

        def finish(session: Session, interrupt: Interrupt) -> None:
            _note_result(session)
            if _may_open(request, session):
                with interrupt.allowed():
                    look = _look(folder, session.journal.view, evaluate)
                session.note("sealed", **look)
            looks = [_plain(event) for event in session.journal.view.sealed]
            if looks:  # written again: a crash may have come between journal and record
                write_text(folder / SEALED, json.dumps(looks, indent=2))

        opened = opener(
            space,
            folder,
            Rounds(plan, recipes(folder, view)),
            "confirm",
            finalists=list(plan.finalists),
            seeds=plan.seeds,
            until_separated=plan.until_separated,
            allocation=OPTIMAL,
        )
        return drive(Job(space, folder, opened, Role.CONFIRM, finish), options, train)


def opener(
    space: Space, folder: Path, plan: Rounds | FreshMembers | Students, event: str, **asked: Any
) -> OpenSession:
    """Open the session that follows `plan`, and note as `event` what was `asked`."""

    def open_session(journal: Journal, watch: Callable[[Event], None]) -> Session:
        from sweep.session import Confirming, FinalistTrials, open_storage

        finalists = FinalistTrials(open_storage(folder / LEDGER), space, plan.settings)
        session = Session(space, Confirming(finalists, plan), journal, watch)
        session.note(event, **asked)
        return session

    return open_session


def has_test_split(view: View) -> bool:
    """Whether the sweep's data has tokens that a confirmation can be tested on."""
    from model.data.batches import open_table  # with Arrow, which a start need not wait for

    best = view.ranked()[0]  # data.test_tokens is never searched: each trial has the same
    data = Config.from_settings(best.settings).data
    if data.test_tokens != AS_THERE_IS:
        return data.test_tokens > 0
    try:
        return not data.path or len(open_table(data).test) > 0
    except ConfigError:
        return True  # the look itself says what is wrong


def _refuse_look(view: View, again: bool) -> None:
    """Raise SweepError if there is nothing to look at, or if it was seen and not asked `again`."""
    if not has_test_split(view):
        raise SweepError(
            "there is no test split to look at: the data has none",
            hint="Leave --test away: fresh seeds are judged on the validation split. For another "
            "sweep data.test_tokens sets one aside.",
        )
    if view.sealed and not again:
        raise SweepError(
            f"the test split was looked at before: {sealed_text(view.sealed[-1])}",
            hint="A second look is chosen by the first. With --again it is taken, and every "
            "report says so.",
            code=REFUSED_TO_CONTINUE,
        )


def require_complete(folder: Path, view: View, name: str) -> None:
    """Raise SweepError if the search in `folder` has no complete trial of that name."""
    if all(trial.name != name for trial in view.ranked()):
        raise SweepError(
            f"{folder} has no complete search trial {name}",
            hint="sweep status shows which there are.",
        )


def searched_space(folder: Path, budget: BudgetConfig) -> Space:
    """What the sweep fixes, without its hyperparameters. Refuses if the trainer has changed."""
    resolved = read_resolved(folder / RESOLVED)
    if resolved.get("trainer") == OUTSIDE:
        raise SweepError(
            f"a loop outside trained what {folder} has: there is nothing to run again here",
            hint="Let it train every proposal with several seeds: repeat: {seeds: 3} in the space.",
            code=REFUSED_TO_CONTINUE,
        )
    if resolved.get("trainer") != digest_of_trainer():
        raise SweepError(
            f"{folder} was searched with another trainer: the code in model/ has changed",
            hint="Use the version of sweep that ran the search, or search anew.",
            code=REFUSED_TO_CONTINUE,
        )
    trial, keep = trial_and_keep(folder)
    return Space(resolved["name"], (), resolved["fixed"], budget=budget, trial=trial, keep=keep)


def _note_result(session: Session) -> None:
    now = confirmed(session.journal.view)
    if now is None:
        return
    its = means_anytime(now.losses)[now.leader]
    session.note(
        "confirmed",
        trial=now.leader,
        mean=its.value if its.runs else None,
        runs=its.runs,
        tied=list(now.tied),
        over=now.over,
    )


def _may_open(request: Request, session: Session) -> bool:
    """The test split, if any, is looked at when asked, or once when the plan is through."""
    view = session.journal.view
    now = confirmed(view)
    if now is None or request.test is False or now.leader in now.diverged:
        return False
    if not has_test_split(view):
        return False
    if session.gave_up or session.disk_full:  # such a look could not be noted, or is too early
        return False
    return bool(request.test) or (now.over and (request.again or not view.sealed))


def _look(folder: Path, view: View, evaluate: Evaluate) -> Event:
    """The test loss of each of the winner's confirming runs."""
    now = confirmed(view)
    assert now is not None
    runs = {
        trial.kind.seed: trial.name
        for trial in view.trials.values()
        if isinstance(trial.kind, FinalistRun)
        and trial.outcome is Outcome.COMPLETE
        and trial.kind.finalist == now.leader
        and trial.kind.seed in now.losses[now.leader]
    }
    try:
        evaluations = [evaluate(folder / TRIALS / runs[seed]) for seed in sorted(runs)]
    except ConfigError as error:
        raise SweepError("the test split cannot be evaluated", error.problems, code=1) from None
    return {
        "trial": now.leader,
        "seeds": sorted(runs),
        "losses": [loss for loss, _ in evaluations],
        "error": max(error for _, error in evaluations),
        "data": view.header["data"],
        "elsewhere": _elsewhere(folder, view.header["data"]),
    }


def _elsewhere(folder: Path, data: str) -> list[str]:
    """Other run folders beside this one that looked at the same tokens."""
    folders = []
    for path in sorted(folder.parent.glob(f"*/{SEALED}")):
        name = path.parent.name
        if name == folder.name:
            continue
        try:
            looked = any(look["data"] == data for look in json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, KeyError):
            looked, name = True, f"{name} (perhaps: its record is damaged)"
        if looked:
            folders.append(name)
    return folders


def _plain(look: Event) -> Event:
    return {key: value for key, value in look.items() if key != "event"}
