"""Distil an ensemble into one network, or a chain of networks each into the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from model.training.release import CHECKPOINT
from sweep.errors import SweepError
from sweep.folder import JOURNAL, LEDGER, TRIALS, locked
from sweep.journal import Journal, read_view
from sweep.records import Event, Role
from sweep.results.students import Students
from sweep.run.confirmation import searched_space
from sweep.run.driver import Job, Options, drive
from sweep.run.local import Train, shared_trainer
from sweep.run.teachers import Lesson, recipes, student_of
from sweep.session import Session
from sweep.space import BudgetConfig


def distill(
    folder: Path,
    members: Sequence[tuple[str, float]],
    of: str,
    lesson: Lesson,
    links: int,
    budget: BudgetConfig,
    options: Options,
    train: Train = shared_trainer,
) -> tuple[int, list[str]]:
    """Train the recipe of `of` with a teacher; the exit code, and the names of the runs.

    members   runs in the folder that teach together, each with its weight (Hinton et al. 2015,
              1503.02531)
    links     so many networks one after another, each taught by the one before alone and the
              first by `members` (NanoGPT Slowrun #31); each has another fresh seed

    They are runs like those of a confirmation: journalled, resumed, never in the ranking of the
    search. The same request finds what it has trained. Raises SweepError for what the user can
    mend.
    """
    with locked(folder):
        view = read_view(folder / JOURNAL)
        space = searched_space(folder, budget)
        searched = {trial.name for trial in view.ranked()}
        if of not in searched:
            raise SweepError(
                f"{folder} has no complete search trial {of}",
                hint="sweep status shows which there are.",
            )
        gone = [name for name, _ in members if not (folder / TRIALS / name / CHECKPOINT).exists()]
        if gone:
            raise SweepError(
                "the teacher lacks networks: " + ", ".join(gone) + " have no checkpoint any more",
                hint="--only chooses the teacher among others.",
            )
        runs, taught_by = [], list(members)
        for seed in range(1, links + 1):
            runs.append((student_of(folder, of, taught_by, lesson), seed))
            taught_by = [(f"{runs[-1][0]}-s{seed}", 1.0)]
        settings = recipes(folder, view)

        def open_session(journal: Journal, watch: Callable[[Event], None]) -> Session:
            from sweep.session import Confirming, FinalistTrials, open_storage

            finalists = FinalistTrials(open_storage(folder / LEDGER), space, settings)
            students = Confirming(finalists, Students(tuple(runs), settings))
            session = Session(space, students, journal, watch)
            session.note("students", of=of, runs=[f"{name}-s{seed}" for name, seed in runs])
            return session

        code = drive(Job(space, folder, open_session, Role.CONFIRM), options, train)
        return code, [f"{name}-s{seed}" for name, seed in runs]
