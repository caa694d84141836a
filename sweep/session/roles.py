"""Where trials come from, by role: a search, the plain baseline, a confirmation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from model.config import Value
from sweep.errors import SweepError
from sweep.records import (
    SEED,
    SEEDS,
    BaselinePoint,
    FinalistRun,
    Outcome,
    Proposal,
    Role,
    Trial,
    TrialEnding,
    read_baseline_point,
    read_finalist_run,
)
from sweep.results.confirmation import FreshMembers, Rounds
from sweep.results.students import Students
from sweep.search import Certificate
from sweep.session.baseline import Fate, missing
from sweep.session.distributions import suggest
from sweep.session.enqueue import (
    INFEASIBLE,
    OPEN_ATTR,
    REJECTED_ATTR,
    SETTINGS_ATTR,
    Fits,
    anything,
    enqueue_next,
    has_pending,
    seed,
)
from sweep.session.ledger import Ledger
from sweep.session.migration import open_study
from sweep.session.pruner import make_pruner
from sweep.session.samplers import Earlier, descent, make_sampler, settled
from sweep.space import Constraint, Space
from sweep.space.baseline import baseline_points, baseline_settings
from sweep.space.constraint import SECONDS, violations

GAIN_ATTR = "expected_gain"
MOST_ASKED = 200  # proposals in a row that break a constraint, before none is thought to keep it
Limits = tuple[Constraint, ...]
FRESH_SEEDS = 1_000_000  # above those that anyone searches with


class SearchTrials:
    """Trials that search: points of the space and repeats first, then what the sampler proposes."""

    role = Role.SEARCH

    def __init__(self, storage: BaseStorage, space: Space, earlier: Earlier = ()) -> None:
        """earlier: sweeps whose trials inform the sampler and count nowhere."""
        self._space, self._earlier = space, earlier
        study = open_study(storage, self.role, space)
        study.pruner = make_pruner(space.prune)
        self.ledger = Ledger(study, self._as_trial)

    def ask(
        self,
        at_random: bool = False,
        fits: Fits = anything,
        learned: Limits = (),
        away: bool = False,
    ) -> Trial | None:
        """Propose the next trial. The proposal depends on the ledger and its number alone.

        fits      whether settings fit the budget: what it rejected is asked again when they do
        learned   constraints that trials of the sweep have shown, beside those of the space
        away      whether to propose what is unlike the trials that have just failed
        A proposal that breaks a constraint is not trained: the study notes it, another is made.
        None if no proposal keeps what was learned.
        """
        study, limited = self.ledger.study, self._space
        if learned:  # else samplers that remember pools by their space would forget them
            limited = replace(limited, constraints=(*limited.constraints, *learned))
        for asked in range(MOST_ASKED):
            # A sampler may ask for the same again and again where only a corner is left.
            anyhow = at_random or (bool(learned) and asked >= MOST_ASKED // 2)
            config = replace(limited.sampler, name="random") if anyhow else limited.sampler
            enqueue_next(study, self._space, fits)
            its = config, len(self.ledger), limited, self._earlier
            study.sampler = make_sampler(*its, away and not anyhow)
            trial = self._draw(self._begun())
            if not self._infeasible(trial, limited.constraints):
                return trial
        if learned:
            return None
        raise SweepError(
            f"{MOST_ASKED} proposals in a row break a constraint",
            map(str, self._space.constraints),
            hint="Loosen it, or search smaller networks or fewer epochs.",
        )

    def _begun(self) -> optuna.Trial:
        """A new trial that notes which others were open: of those, its proposal saw no end.

        All others with a lower number had ended. So every proposal can be made again from the
        ledger: it is a function of its number and of what the ledger had when it was made.
        """
        running = self.ledger.trials(TrialState.RUNNING)
        live = self.ledger.study.ask()
        if running:
            live.set_user_attr(OPEN_ATTR, {str(t.number): t.last_step or 0 for t in running})
        return live

    def nothing_left(self, fits: Fits = anything) -> str:
        """Why there is nothing left to ask, such as all around the best tried; empty otherwise."""
        why = settled(self.ledger.study, self._space)
        return "" if why and self.has_pending(fits) else why

    def has_pending(self, fits: Fits = anything) -> bool:
        """Whether a point of the space or a seed is still to be asked."""
        return has_pending(self.ledger.study, self._space, fits)

    def unfinished(self) -> list[Trial]:
        """Trials that an earlier driver left running, with the numbers and settings they had."""
        trials = [self._adopt(frozen) for frozen in self.ledger.trials(TrialState.RUNNING)]
        return [trial for trial in trials if not self._infeasible(trial)]

    def should_prune(self, trial: Trial) -> bool:
        """Whether the pruner stops `trial` after its latest report."""
        return bool(self.ledger.live(trial).should_prune())

    def expected_gain(self, trial: Trial) -> float | None:
        """Nats that any trial was expected to gain at most when `trial` was proposed.

        None where its sampler expects nothing, or expected nothing yet.
        """
        gain: float | None = self.ledger.live(trial).user_attrs.get(GAIN_ATTR)
        return gain

    def certificate(self) -> Certificate | None:
        """The certificate of coordinate descent around its best; None from other samplers."""
        return descent(self.ledger.study, self._space)[1]

    def _adopt(self, frozen: FrozenTrial) -> Trial:
        # A crash may have come between the proposal's parameters: the rest are drawn now.
        self.ledger.study.sampler = make_sampler(
            self._space.sampler, frozen.number, self._space, self._earlier
        )
        return self._draw(self.ledger.reopen(frozen))

    def _draw(self, live: optuna.Trial) -> Trial:
        """Draw the trial's parameters, or get back what was drawn."""
        searched = suggest(live, self._space.hyperparameters)
        gain = self.ledger.study.sampler.gain
        if math.isfinite(gain):
            live.set_user_attr(GAIN_ATTR, gain)
        if self._space.repeat > 1:
            searched[SEED] = seed(live.user_attrs, self._space)
        return self.ledger.begin(live, searched)

    def _infeasible(self, trial: Trial, constraints: Limits | None = None) -> bool:
        """Whether `trial` breaks a constraint known before training; then it is ended here.

        As pruned, with how far it is beyond: samplers that know constraints learn where not to go.
        """
        limits = self._space.constraints if constraints is None else constraints
        if not limits:
            return False
        live = self.ledger.live(trial)
        beyond = violations(trial.settings, limits)
        for name, violation in beyond.items():
            if name not in live.constraints:  # a driver may have died just here
                live.set_constraint(name, violation)
        broken = [name for name, violation in beyond.items() if violation > 0]
        if broken:
            live.set_user_attr(INFEASIBLE, broken)
            timed = [limit for limit in limits if limit.quantity == SECONDS]
            unspent = {str(limit): limit.violation(0.0) for limit in timed}
            reason = f"breaks {', '.join(broken)}"
            self.ledger.tell(trial, TrialEnding.INFEASIBLE, reason, None, unspent)
        return bool(broken)

    def _as_trial(self, number: int, searched: Mapping[str, Any]) -> Trial:
        return Trial(number, Proposal(dict(searched)), {**self._space.fixed, **searched})


class BaselineTrials:
    """Trials that measure the plain baseline, point by point."""

    role = Role.BASELINE

    def __init__(self, storage: BaseStorage, space: Space) -> None:
        self._space = space
        self.ledger = Ledger(open_study(storage, self.role, space), self._as_trial)
        self._recalled: set[BaselinePoint] = set()

    def ask(self) -> Trial:
        """Begin the next of the points that are missing."""
        return self.ledger.begin(self.ledger.study.ask(), self.missing()[0].searched)

    def missing(self) -> list[BaselinePoint]:
        """Points that nobody has measured or is measuring, the next to run first."""
        left = [point for point in baseline_points(self._space) if point not in self._recalled]
        noted = [t for t in self.ledger.trials() if SETTINGS_ATTR in t.user_attrs]
        return missing(
            left,
            [(read_baseline_point(t.user_attrs[SETTINGS_ATTR]), _fate(t)) for t in noted],
        )

    def recall(self, point: BaselinePoint) -> None:
        """Leave out a point that an earlier sweep measured."""
        self._recalled.add(point.first)

    def unfinished(self) -> list[Trial]:
        """Trials that an earlier driver left running."""
        return [self._adopt(frozen) for frozen in self.ledger.trials(TrialState.RUNNING)]

    def _adopt(self, frozen: FrozenTrial) -> Trial:
        # A crash may have come before the study noted which point the trial measures.
        noted = frozen.user_attrs.get(SETTINGS_ATTR)
        return self.ledger.begin(self.ledger.reopen(frozen), noted or self.missing()[0].searched)

    def _as_trial(self, number: int, searched: Mapping[str, Any]) -> Trial:
        point = read_baseline_point(searched)
        return Trial(number, point, baseline_settings(self._space, point))


class FinalistTrials:
    """Trials that run the best of a search again with fresh seeds."""

    role = Role.CONFIRM

    def __init__(
        self, storage: BaseStorage, space: Space, finalists: Mapping[str, Mapping[str, Value]]
    ) -> None:
        """finalists: settings of the search trials that may be confirmed, by name."""
        self._finalists = finalists
        self.ledger = Ledger(open_study(storage, self.role, space), self._as_trial)

    def ask(self, finalist: str, fresh: int) -> Trial:
        """Run `finalist` with the fresh seed of that number, if need be as another attempt."""
        failed = sum(
            ending.outcome is Outcome.FAILED
            and isinstance(trial.kind, FinalistRun)
            and (trial.kind.finalist, trial.kind.seed) == (finalist, fresh)
            for trial, ending, _ in self.ledger.finished()
        )
        run = FinalistRun(finalist, fresh, failed + 1)
        return self.ledger.begin(self.ledger.study.ask(), run.searched)

    def unfinished(self) -> list[Trial]:
        """Trials that an earlier driver left running; those it had not noted yet are ended."""
        running = self.ledger.trials(TrialState.RUNNING)
        noted = [frozen for frozen in running if SETTINGS_ATTR in frozen.user_attrs]
        for frozen in running:
            if frozen not in noted:
                self.ledger.give_up(frozen.number, "a crash came before it was noted")
        return [
            self.ledger.begin(self.ledger.reopen(frozen), frozen.user_attrs[SETTINGS_ATTR])
            for frozen in noted
        ]

    def _as_trial(self, number: int, searched: Mapping[str, Any]) -> Trial:
        run = read_finalist_run(searched)
        fresh = dict.fromkeys(SEEDS, FRESH_SEEDS + run.seed)
        return Trial(number, run, {**self._finalists[run.finalist], **fresh})


def _fate(frozen: FrozenTrial) -> Fate:
    """Whether a baseline run measured its point."""
    if REJECTED_ATTR in frozen.user_attrs:
        return Fate.REJECTED
    return Fate.FAILED if frozen.state is TrialState.FAIL else Fate.MEASURED


@dataclass(frozen=True)
class Searching:
    """The studies of a session that searches."""

    baseline: BaselineTrials
    search: SearchTrials

    @classmethod
    def open(cls, storage: BaseStorage, space: Space, earlier: Earlier = ()) -> Searching:
        """Make both studies in `storage`, or find them there.

        earlier   sweeps whose trials inform the search
        """
        return cls(BaselineTrials(storage, space), SearchTrials(storage, space, earlier))


@dataclass(frozen=True)
class Confirming:
    """The study and the plan of a session that confirms."""

    finalists: FinalistTrials
    rounds: Rounds | FreshMembers | Students
