"""What a session runs next, within its budget."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from model.config import ConfigError, trial_flops
from sweep.journal import Journal
from sweep.records import (
    FINALIST,
    FRESH,
    End,
    Ending,
    Role,
    Trial,
    TrialView,
    View,
)
from sweep.results import budget
from sweep.results.budget import SEARCHING, Expense, Spent
from sweep.results.confirmation import Rounds
from sweep.session.ledger import Ledger
from sweep.space import BudgetConfig, Space, TrialConfig

PROPOSALS = 32  # that may be handed back in a row because they do not fit, half of them at random
NOTHING_FITS = End(Ending.NOTHING_FITS, "budget spent: nothing that is left fits")


class Agenda:
    """First what an earlier driver left unfinished, then the baseline, then new proposals.

    A confirmation has its rounds instead of the last two. What cannot end within the budget is not
    begun: a proposal is handed back, a trial that was begun before stays as it is.
    """

    def __init__(
        self,
        space: Space,
        ledgers: Sequence[Ledger],
        journal: Journal,
        rounds: Rounds | None,
        note: Callable[..., None],
    ) -> None:
        self._space, self._view, self._rounds, self._note = space, journal.view, rounds, note
        self._ledgers = {ledger.role: ledger for ledger in ledgers}
        self._role = Role.SEARCH if rounds is None else Role.CONFIRM
        roles = SEARCHING if rounds is None else (Role.CONFIRM,)
        self.allowance = Allowance(space.budget, space.trial, journal.view, roles)
        self.nothing_fits = False  # until a trial that ends gives back what it was to cost
        self._begun_seed = 0  # which finalists are being given; none before the first
        self._left_out = False  # a trial begun by an earlier driver cannot end within this budget
        self._unfinished = deque(trial for ledger in ledgers for trial in ledger.unfinished())
        # A baseline run that fails is made up for by the next driver, when its cause may be gone.
        self._baselines_left = 0
        if rounds is None:
            self._baselines_left = len(self._ledgers[Role.BASELINE].missing())

    @property
    def has_work(self) -> bool:
        """Whether there is a trial to run."""
        if self._unfinished or self._baselines_left > 0:
            return True
        return not self.spent and (self._rounds is None or bool(self._rounds.wanted(self._view)))

    @property
    def spent(self) -> End | None:
        """Which budget is spent, or what was reached; None while another trial may start."""
        if self._ledgers[self._role].spent() >= self._space.budget.trials:
            return End(Ending.TRIALS_SPENT)
        if self.nothing_fits:
            return NOTHING_FITS
        if why := self._ledgers[self._role].settled():
            return End(Ending.NOTHING_LEFT, why)
        return self.allowance.exhausted

    @property
    def end(self) -> End:
        """Why there is nothing to run."""
        if self._rounds is None:
            return self.spent or End(Ending.TRIALS_SPENT)
        if self._rounds.over(self._view):
            return End(Ending.CONFIRMED)
        return self.spent or (NOTHING_FITS if self._left_out else End(Ending.RUNS_FAILED))

    def next(self, running: Collection[str]) -> Trial | None:
        """The trial to run beside those `running`; None if there is none, or none yet."""
        while self._unfinished:
            trial = self._unfinished.popleft()
            if self._resumes(trial, running):
                return trial
        return self._new(running) if self._rounds is None else self._again(self._rounds, running)

    def _resumes(self, trial: Trial, running: Collection[str]) -> bool:
        if self._rounds is not None:
            finalist, seed = str(trial.searched[FINALIST]), int(trial.searched[FRESH])  # type: ignore[arg-type]
            self._rounds.begun(finalist, seed)
            if finalist not in self._rounds.plan.finalists:
                return False
        why = self.allowance.misfit(trial, running)
        self._left_out = self._left_out or bool(why)
        if why and trial.name not in self._view.trials:
            self._ledgers[trial.role].hand_back(trial, why)
        return not why

    def _new(self, running: Collection[str]) -> Trial | None:
        while self._baselines_left > 0:
            self._baselines_left -= 1
            trial = self._ledgers[Role.BASELINE].ask()
            if self._fits(trial, running):
                return trial
        for asked in range(PROPOSALS):
            if self.spent:
                return None
            trial = self._ledgers[Role.SEARCH].ask(at_random=asked >= PROPOSALS // 2)
            if self._fits(trial, running):
                return trial
        self.nothing_fits = True
        return None

    def _again(self, rounds: Rounds, running: Collection[str]) -> Trial | None:
        """The next run of a confirmation. A seed is begun only if all who want it can end."""
        wanted = rounds.wanted(self._view)
        if not wanted or self.spent:
            return None
        finalist, seed = wanted[0]
        row = [rounds.settings[name] for name, its in wanted if its == seed]
        if seed == self._begun_seed:  # there was room for all of them
            row = row[:1]
        if self.allowance.misfit_all(row, running):
            self.nothing_fits = True
            return None
        self._begun_seed = seed
        rounds.begun(finalist, seed)
        return self._ledgers[Role.CONFIRM].repeat(finalist, seed)

    def _fits(self, trial: Trial, running: Collection[str]) -> bool:
        """Whether a proposal can end within the budget; if not, it is handed back."""
        why = self.allowance.misfit(trial, running)
        if why:
            self._ledgers[trial.role].hand_back(trial, why)
            self._note("handed back", searched=dict(trial.searched), reason=why)
        return not why


class Allowance:
    """A budget beside the view that tells what trials of `roles` have cost."""

    def __init__(
        self, config: BudgetConfig, trial: TrialConfig, view: View, roles: Collection[Role]
    ) -> None:
        # What each trial is given; a runner that finds out better says so.
        self.resources = {"cpu": trial.cpus, "gpu": max(0.0, trial.gpus)}
        self.slots = 1  # trials that run at once; a runner that has more says so
        self._config, self._view, self._roles = config, view, roles

    @property
    def devices(self) -> float:
        """GPUs of a trial, or CPU cores where it has none."""
        return self.resources.get("gpu", 0.0) or self.resources.get("cpu", 1.0)

    @property
    def exhausted(self) -> End | None:
        """Which budget is spent; None while a trial may start."""
        return budget.exhausted(self._config, self._used())

    def misfit(self, trial: Trial, running: Collection[str]) -> str:
        """Why `trial` cannot end within the budget beside those `running`; empty if it can."""
        past = self._view.trials.get(trial.name)
        more = self._expense(flops(trial.settings), self.devices, past)
        return budget.misfit(self._config, self._used(), self._left(running), more)

    def misfit_all(self, settings: Sequence[Mapping[str, Any]], running: Collection[str]) -> str:
        """The same for several new trials, begun in this order, of which all must fit."""
        left = self._left(running)
        row = [self._expense(flops(each), self.devices, None) for each in settings]
        more = budget.row_expense(row, left, self.slots)
        return budget.misfit(self._config, self._used(), left, more)

    def _left(self, running: Collection[str]) -> list[Expense]:
        """What those `running` still need."""
        trials = [self._view.trials[name] for name in running]
        return [self._expense(trial.flops, trial.devices, trial) for trial in trials]

    def _expense(self, whole: float, devices: float, past: TrialView | None) -> Expense:
        return budget.cost_left(self._view, whole, devices, past)

    def _used(self) -> Spent:
        return budget.spent(self._view, self._roles, int(time.time() * 1000))


def flops(settings: Mapping[str, Any]) -> float:
    """Training FLOPs; none for settings that the trainer is about to refuse."""
    try:
        return trial_flops(settings)
    except ConfigError:
        return 0.0
