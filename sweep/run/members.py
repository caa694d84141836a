"""Members for an ensemble: one trial of a finished search again, with fresh seeds."""

from __future__ import annotations

from pathlib import Path

from sweep.errors import SweepError
from sweep.folder import JOURNAL, locked
from sweep.journal import read_view
from sweep.records import Role
from sweep.results import report
from sweep.results.confirmation import FreshMembers
from sweep.run.confirmation import opener, require_complete, searched_space
from sweep.run.driver import Job, Options, drive
from sweep.run.local import Train, shared_trainer
from sweep.run.teachers import recipes
from sweep.space import BudgetConfig


def train_members(
    folder: Path,
    members: int,
    budget: BudgetConfig,
    options: Options,
    of: str = "",
    train: Train = shared_trainer,
) -> int:
    """Train the trial `of`, by default the winner, with each of so many fresh seeds; the exit code.

    They are runs like those of a confirmation: journalled, resumed, never in the ranking of the
    search, and what either has trained is not trained again. Raises SweepError for what the user
    can mend.
    """
    with locked(folder):
        view = read_view(folder / JOURNAL)
        space = searched_space(folder, budget)
        winner = report.winner(view)
        if winner is None:
            raise SweepError(f"no trial in {folder} is complete yet")
        name = of or winner.name
        require_complete(folder, view, name)
        plan = FreshMembers(name, members, recipes(folder, view))
        opened = opener(space, folder, plan, "members", of=name, members=members)
        return drive(Job(space, folder, opened, Role.CONFIRM), options, train)
