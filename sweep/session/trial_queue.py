"""Which trial runs next, within the budget: first those that an earlier driver left unfinished.

What cannot end within the budget is not begun. A new proposal is rejected; a trial that was begun
before stays as it is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from model.config import ConfigError, trial_flops
from sweep.records import End, Ending, FinalistRun, Role, Trial
from sweep.results import budget
from sweep.results.budget import SEARCHING, Expense, Spent
from sweep.results.settling import settled
from sweep.session.failures import Failures
from sweep.session.ledger import Ledger
from sweep.session.memory_limit import MemoryLimit
from sweep.session.roles import BaselineTrials, Confirming, Limits, Searching, SearchTrials
from sweep.space import Space
from sweep.space.trunks import kept_trunks, spared
from sweep.view import TrialView, View

PROPOSALS = 32  # that the budget may reject in a row, half of them drawn at random
FAILING = 2  # trials that fail in a row, from which on proposals are to be unlike them
NOTHING_FITS = End(Ending.NOTHING_FITS, "budget spent: nothing that is left fits")


class SearchQueue:
    """Hands out the trials of a search that fit in its budget.

    First come unfinished trials, then missing points of the baseline, then proposals: those asked
    ahead before new ones.
    """

    def __init__(
        self,
        space: Space,
        searching: Searching,
        view: View,
        note: Callable[..., None],
        memory: MemoryLimit,
        failures: Failures,
    ) -> None:
        self._memory, self._failures = memory, failures
        self._too_large: Limits = ()  # what no proposal kept to, when last asked
        self._space, self._view, self._note = space, view, note
        self._baseline, self._search = searching.baseline, searching.search
        self.budget = RemainingBudget(space, view, SEARCHING)
        self.nothing_fits = False  # until a trial ends: it may have cost less than was set aside
        searches = self._search.unfinished()
        begun = [trial for trial in searches if trial.name in view.trials]
        self._unfinished = deque([*self._baseline.unfinished(), *begun])
        # Proposed and in the ledger, but not begun.
        self._ahead = deque(trial for trial in searches if trial not in begun)
        # A baseline run that fails is made up for by the next driver, when its cause may be gone.
        self._baselines_left = len(self._baseline.missing())

    @property
    def has_work(self) -> bool:
        """Whether there is a trial to run."""
        ahead = self._ahead and self._over(()) is None
        return bool(self._unfinished or self._baselines_left or ahead) or self._spent(()) is None

    @property
    def end(self) -> End:
        """Why no trial is left to run."""
        return self._spent(()) or End(Ending.TRIALS_SPENT)

    def take_unfinished(self) -> list[Trial]:
        """The trials that an earlier driver left unfinished; `next` hands none of them out then."""
        trials = list(self._unfinished)
        self._unfinished.clear()
        return trials

    def next(self, running: Collection[str]) -> Trial | None:
        """The trial to run beside those `running`; None if there is none, or none yet."""
        while self._unfinished:
            trial = self._unfinished.popleft()
            ledger = self._of(trial).ledger
            if not _misfit(trial, running, self.budget, ledger, self._view):
                return trial
        while self._baselines_left > 0:
            self._baselines_left -= 1
            trial = self._baseline.ask()
            if self._accepts(trial, running):
                return trial
        while self._ahead and self._over(running) is None:
            trial = self._ahead.popleft()
            if self._accepts(trial, running):
                return trial
        for asked in range(PROPOSALS):
            if self._spent(running):
                return None
            at_random = asked >= PROPOSALS // 2
            limits = self._memory.constraints()
            fits = partial(self.budget.fits, running=running)
            proposed = self._search.ask(at_random, fits, limits, self._fails)
            if proposed is None:
                self._too_large = limits
                return None
            if self._accepts(proposed, running):
                return proposed
        self.nothing_fits = True
        return None

    def ask_ahead(self, running: Collection[str]) -> None:
        """Propose a trial before there is a slot for it, if a proposal is what comes next.

        Coordinate descent is never asked: its next step depends on how the last one ended.
        """
        if self._unfinished or self._baselines_left or self._space.sampler.name == "coordinate":
            return
        if self._spent(running):
            return
        fits, limits = partial(self.budget.fits, running=running), self._memory.constraints()
        trial = self._search.ask(False, fits, limits, self._fails)
        if trial is not None and self._accepts(trial, running):
            self._ahead.append(trial)

    @property
    def _fails(self) -> bool:
        """Whether trials fail in a row: a sampler that learns nothing from them asks for more."""
        return self._failures.in_a_row >= FAILING

    def _spent(self, running: Collection[str]) -> End | None:
        """Which budget is spent, or what was reached; None while another trial may start."""
        if self._search.ledger.spent() >= self._space.budget.trials:
            return End(Ending.TRIALS_SPENT)
        if self.nothing_fits:
            return NOTHING_FITS
        if self._too_large and self._too_large == self._memory.constraints():
            return End(Ending.NO_MEMORY, f"{Ending.NO_MEMORY}: {self._memory}")
        if why := self._search.nothing_left(lambda new: self.budget.fits(new, running)):
            return End(Ending.NOTHING_LEFT, why)
        return self._over(running)

    def _over(self, running: Collection[str]) -> End | None:
        """Why no trial may begin, not even one that was proposed ahead; None while one may."""
        if exhausted := self.budget.exhausted:
            return exhausted
        its = settled(self._view) if self._space.budget.settled == "stop" else None
        if its is None or self._search.has_pending(lambda new: self.budget.fits(new, running)):
            return None
        return End(Ending.SETTLED, str(its))

    def _accepts(self, trial: Trial, running: Collection[str]) -> bool:
        """Whether a proposal can end within the budget; if not, it is rejected."""
        why = self._memory.misfit(trial.settings) or self.budget.misfit(trial, running)
        if why:
            self._of(trial).ledger.reject(trial, why)
            self._note("rejected", role=trial.role, searched=dict(trial.searched), reason=why)
        return not why

    def _of(self, trial: Trial) -> BaselineTrials | SearchTrials:
        return self._baseline if trial.role is Role.BASELINE else self._search


class ConfirmationQueue:
    """Hands out the fresh runs that a confirmation or an ensemble wants, within its budget."""

    def __init__(self, space: Space, confirming: Confirming, view: View) -> None:
        self._space, self._view = space, view
        self._finalists, self._rounds = confirming.finalists, confirming.rounds
        self.budget = RemainingBudget(space, view, (Role.CONFIRM,))
        self.nothing_fits = False  # until a trial ends: it may have cost less than was set aside
        self._begun_seed = 0  # the seed that finalists are now run with; 0 before the first
        self._left_out = False  # a run begun by an earlier driver cannot end within this budget
        self._unfinished = deque(self._finalists.unfinished())

    @property
    def has_work(self) -> bool:
        """Whether there is a trial to run."""
        if self._unfinished:
            return True
        return self._spent is None and bool(self._rounds.wanted(self._view))

    @property
    def end(self) -> End:
        """Why no trial is left to run."""
        if self._rounds.over(self._view):
            return End(self._rounds.ending)
        return self._spent or (NOTHING_FITS if self._left_out else End(Ending.RUNS_FAILED))

    def next(self, running: Collection[str]) -> Trial | None:
        """The trial to run beside those `running`; None if there is none, or none yet."""
        while self._unfinished:
            trial = self._unfinished.popleft()
            if self._resumes(trial, running):
                return trial
        wanted = self._rounds.wanted(self._view)
        if not wanted or self._spent:
            return None
        finalist, seed = wanted[0]
        # A seed is begun only if all finalists that want it can end.
        row = [self._rounds.settings[name] for name, its in wanted if its == seed]
        if seed == self._begun_seed:  # there was room for all of them
            row = row[:1]
        if self.budget.misfit_all(row, running):
            self.nothing_fits = True
            return None
        self._begun_seed = seed
        self._rounds.begun(finalist, seed)
        return self._finalists.ask(finalist, seed)

    @property
    def _spent(self) -> End | None:
        """Which budget is spent; None while another trial may start."""
        if self._finalists.ledger.spent() >= self._space.budget.trials:
            return End(Ending.TRIALS_SPENT)
        return NOTHING_FITS if self.nothing_fits else self.budget.exhausted

    def _resumes(self, trial: Trial, running: Collection[str]) -> bool:
        """Whether to go on with a trial that an earlier driver began."""
        run = trial.kind
        assert isinstance(run, FinalistRun)
        self._rounds.begun(run.finalist, run.seed)
        if run.finalist not in self._rounds.plan.finalists:
            return False
        why = _misfit(trial, running, self.budget, self._finalists.ledger, self._view)
        self._left_out = self._left_out or bool(why)
        return not why


def _misfit(
    trial: Trial, running: Collection[str], remaining: RemainingBudget, ledger: Ledger, view: View
) -> str:
    """Why an unfinished trial cannot end within the budget. One that never began is rejected."""
    why = remaining.misfit(trial, running)
    if why and trial.name not in view.trials:
        ledger.reject(trial, why)
    return why


class RemainingBudget:
    """What trials of some roles may still cost: the budget less what their trials cost so far.

    It reads the trials from the view and answers whether another one fits.
    """

    def __init__(self, space: Space, view: View, roles: Collection[Role]) -> None:
        # Of each trial, as configured; the runner sets what each trial really gets.
        self.resources = {"cpu": space.trial.cpus, "gpu": max(0.0, space.trial.gpus)}
        self.slots = 1  # trials that run at once; a runner that runs more sets it
        self._space, self._config, self._view, self._roles = space, space.budget, view, roles

    @property
    def devices(self) -> float:
        """GPUs of a trial, or CPU cores where it has none."""
        return self.resources.get("gpu", 0.0) or self.resources.get("cpu", 1.0)

    @property
    def _unlimited(self) -> bool:
        """Whether anything fits: then nobody needs to look at what every trial took."""
        return not (self._config.flops or self._config.hours or self._config.device_hours)

    @property
    def exhausted(self) -> End | None:
        """Which budget is spent; None while a trial may start."""
        if self._unlimited and not self._config.target_loss:
            return None
        return budget.exhausted(self._config, self._used())

    def fits(self, settings: Mapping[str, Any], running: Collection[str]) -> bool:
        """Whether a new trial of these settings can end within the budget."""
        if self._unlimited:
            return True
        more = self._of_new(settings)
        return not budget.misfit(self._config, self._used(), self._left(running), more)

    def misfit(self, trial: Trial, running: Collection[str]) -> str:
        """Why `trial` cannot end within the budget beside those `running`; empty if it can."""
        if self._unlimited:
            return ""
        past = self._view.trials.get(trial.name)
        more = self._of_new(trial.settings)
        if past is not None:
            more = self._expense(flops(trial.settings), self.devices, past)
        return budget.misfit(self._config, self._used(), self._left(running), more)

    def misfit_all(self, settings: Sequence[Mapping[str, Any]], running: Collection[str]) -> str:
        """Why several new trials, begun in this order, cannot all fit; empty if they can."""
        if self._unlimited:
            return ""
        left = self._left(running)
        row = [self._of_new(each) for each in settings]
        more = budget.row_expense(row, left, self.slots)
        return budget.misfit(self._config, self._used(), left, more)

    def spared(self, settings: Mapping[str, Any]) -> float:
        """The fraction of its schedule that a shared trunk would spare a new trial."""
        if not self._space.trial.share_trunks or Role.SEARCH not in self._roles:
            return 0.0
        trials = [(t.settings, t.done) for t in self._view.searches() if t.last]
        return spared(self._space, settings, kept_trunks(self._space, trials))

    def _of_new(self, settings: Mapping[str, Any]) -> Expense:
        whole, part = flops(settings), self.spared(settings)
        return budget.cost_left(self._view, whole, self.devices, None, part)

    def _left(self, running: Collection[str]) -> list[Expense]:
        """The cost left of the trials `running`."""
        trials = [self._view.trials[name] for name in running]
        return [self._expense(trial.flops, trial.devices, trial) for trial in trials]

    def _expense(self, whole: float, devices: float, past: TrialView) -> Expense:
        return budget.cost_left(self._view, whole, devices, past)

    def _used(self) -> Spent:
        return budget.spent(self._view, self._roles, int(time.time() * 1000))


def flops(settings: Mapping[str, Any]) -> float:
    """Training FLOPs; 0 for settings that the trainer will refuse."""
    try:
        return trial_flops(settings)
    except ConfigError:
        return 0.0
