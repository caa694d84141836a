"""Distil an ensemble into one network, or a chain of networks each into the next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model.training.release import CHECKPOINT
from sweep.errors import SweepError
from sweep.folder import JOURNAL, TRIALS, locked
from sweep.journal import read_view
from sweep.records import Role
from sweep.results.students import Students
from sweep.run.confirmation import opener, require_complete, searched_space
from sweep.run.driver import Job, Options, drive
from sweep.run.local import Train, shared_trainer
from sweep.run.teachers import Lesson, recipes, student_of
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
        require_complete(folder, view, of)
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
        names = [f"{name}-s{seed}" for name, seed in runs]
        plan = Students(tuple(runs), recipes(folder, view))
        opened = opener(space, folder, plan, "students", of=of, runs=names)
        return drive(Job(space, folder, opened, Role.CONFIRM), options, train), names
