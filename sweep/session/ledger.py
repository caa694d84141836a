"""The ledger: one Optuna study in SQLite that both proposes and prunes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from model.config import Value
from sweep.errors import SweepError
from sweep.records import (
    ATTEMPT,
    FINALIST,
    FRESH,
    MULTIPLE,
    Outcome,
    Role,
    Trial,
    TrialEnding,
    baseline_point,
    trial_ending,
)
from sweep.search import Certificate
from sweep.session.baseline import Fate, missing
from sweep.session.distributions import suggest
from sweep.session.enqueue import (
    INFEASIBLE,
    SEED,
    enqueue_next,
    seed,
)
from sweep.session.migration import HANDED_BACK_ATTR, open_study
from sweep.session.pruner import SETTINGS_ATTR, make_pruner
from sweep.session.samplers import descent, make_sampler, settled
from sweep.space import SEEDS, Constraint, Space
from sweep.space.constraint import SECONDS, violations

REASON_ATTR = "reason"
ENDING_ATTR = "ending"
MOST_ASKED = 200  # proposals in a row that break a constraint, before none is thought to keep it
FRESH_SEEDS = 1_000_000  # above those that anyone searches with
STATES = {
    Outcome.COMPLETE: TrialState.COMPLETE,
    Outcome.PRUNED: TrialState.PRUNED,
    Outcome.FAILED: TrialState.FAIL,
}
OUTCOMES = {state: outcome for outcome, state in STATES.items()}


class Ledger:
    """Trials of one role: proposed, reported, judged and told, all in one Optuna study."""

    def __init__(
        self,
        storage: BaseStorage,
        role: Role,
        space: Space,
        finalists: Mapping[str, Mapping[str, Value]] | None = None,
    ) -> None:
        """finalists: settings of the trials that may be confirmed, by name."""
        self.role, self._space, self._finalists = role, space, finalists or {}
        self._study = open_study(storage, role, space)
        self._study.pruner = make_pruner(space.prune)
        self._live: dict[int, optuna.Trial] = {}
        self._recalled: set[tuple[tuple[str, Value], ...]] = set()

    def __len__(self) -> int:
        """Trials ever proposed."""
        return len(self._study.get_trials(deepcopy=False))

    def spent(self) -> int:
        """Trials that count against the budget: failed ones told nothing about their settings."""
        trials = self._study.get_trials(deepcopy=False)
        unspent = (TrialState.FAIL, TrialState.WAITING)
        return sum(t.state not in unspent and INFEASIBLE not in t.user_attrs for t in trials)

    def unfinished(self) -> list[Trial]:
        """Trials that an earlier driver left running, with the numbers and settings they had."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if self.role is Role.CONFIRM:  # one that a crash left without its seed is asked for again
            nameless = [frozen for frozen in running if SETTINGS_ATTR not in frozen.user_attrs]
            for frozen in nameless:
                self._give_up(frozen.number, "a crash came before it was noted")
            running = [frozen for frozen in running if frozen not in nameless]
        adopted = [self._adopt(frozen) for frozen in running]
        return [trial for trial in adopted if not self._turned_down(trial)]

    def ask(self, at_random: bool = False) -> Trial:
        """Propose the next trial. The proposal depends on the ledger and its number alone.

        Proposals that break a constraint are told so to the study, not trained, and replaced.
        """
        config = self._space.sampler
        config = replace(config, name="random") if at_random else config
        for _ in range(MOST_ASKED):
            if self.role is Role.SEARCH:
                enqueue_next(self._study, self._space)
            self._study.sampler = make_sampler(config, len(self), self._space)
            trial = self._settle(self._study.ask())
            if not self._turned_down(trial):
                return trial
        raise SweepError(
            f"{MOST_ASKED} proposals in a row break a constraint",
            map(str, self._space.constraints),
            hint="Loosen it, or search smaller networks or fewer epochs.",
        )

    def settled(self) -> str:
        """Why the sampler has nothing left to ask, such as all around its best; empty otherwise."""
        why = settled(self._study, self._space) if self.role is Role.SEARCH else ""
        if not why:
            return ""
        enqueue_next(self._study, self._space)  # points and seeds that were asked for come first
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return "" if waiting else why

    def certificate(self) -> Certificate | None:
        """What coordinate descent found around its best; None from other samplers."""
        return descent(self._study, self._space)[1] if self.role is Role.SEARCH else None

    def repeat(self, finalist: str, fresh: int) -> Trial:
        """Run a trial of the search again with fresh seeds, if need be as another attempt."""
        wanted: dict[str, Value] = {FINALIST: finalist, FRESH: fresh}
        failed = sum(
            ending is TrialEnding.FAILED and {**trial.searched, **wanted} == trial.searched
            for trial, ending, _ in self.finished()
        )
        again: dict[str, Value] = {ATTEMPT: failed + 1} if failed else {}
        live = self._study.ask()
        live.set_user_attr(SETTINGS_ATTR, {**wanted, **again})
        return self._settle(live)

    def hand_back(self, trial: Trial, reason: str) -> None:
        """Take back a proposal that was not begun: it counts nowhere and teaches nothing."""
        self._live.pop(trial.number)
        self._give_up(trial.number, reason)

    def _give_up(self, number: int, reason: str) -> None:
        frozen = self._study.get_trials(deepcopy=False)[number]
        live = optuna.Trial(self._study, frozen._trial_id)
        live.set_user_attr(HANDED_BACK_ATTR, reason)
        self._study.tell(number, None, TrialState.FAIL)

    def reported(self, trial: Trial) -> set[int]:
        """Steps, in basis points, that the ledger already has for `trial`."""
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        return set(frozen.intermediate_values)

    def report(self, trial: Trial, basis_points: int, loss: float) -> None:
        """Record one evaluation. A loss that is no number counts as infinitely bad."""
        worst = loss if math.isfinite(loss) else math.inf
        self._live[trial.number].report(worst, basis_points)

    def should_prune(self, trial: Trial) -> bool:
        """What the pruner says of `trial` after its latest report."""
        return self.role is Role.SEARCH and bool(self._live[trial.number].should_prune())

    def tell(
        self,
        trial: Trial,
        ending: TrialEnding,
        reason: str,
        loss: float | None,
        seconds: float = 0.0,
    ) -> None:
        """End `trial`.

        reason    in words, for people
        loss      its final one; only a complete trial has it
        seconds   of training, or what they would have come to: samplers learn what is too slow
        """
        live = self._live.pop(trial.number)
        live.set_user_attr(REASON_ATTR, reason)
        live.set_user_attr(ENDING_ATTR, ending)
        for limit in self._seconds_limits if ending is not TrialEnding.FAILED else ():
            live.set_constraint(str(limit), limit.violation(seconds))
        value = loss if ending is TrialEnding.FINISHED else None
        self._study.tell(live.number, value, STATES[ending.outcome])

    def finished(self) -> list[tuple[Trial, TrialEnding, str]]:
        """Every ended trial with why it ended, and that in words."""
        return [
            (self._trial(frozen), _ending(frozen), frozen.user_attrs.get(REASON_ATTR, ""))
            for frozen in self._study.get_trials(deepcopy=False, states=tuple(OUTCOMES))
            if not frozen.user_attrs.keys() & {INFEASIBLE, HANDED_BACK_ATTR}  # never trained
        ]

    @property
    def _seconds_limits(self) -> list[Constraint]:
        limits = [c for c in self._space.constraints if c.quantity == SECONDS]
        return limits if self.role is Role.SEARCH else []

    def _turned_down(self, trial: Trial) -> bool:
        """Whether `trial` breaks a constraint known before training; then it is ended here.

        As pruned, with how far it is beyond: samplers that know constraints learn where not to go.
        """
        if self.role is not Role.SEARCH or not self._space.constraints:
            return False
        live = self._live[trial.number]
        beyond = violations(trial.settings, self._space.constraints)
        for name, violation in beyond.items():
            if name not in live.constraints:  # a driver may have died just here
                live.set_constraint(name, violation)
        broken = [name for name, violation in beyond.items() if violation > 0]
        if broken:
            live.set_user_attr(INFEASIBLE, broken)
            self.tell(trial, TrialEnding.INFEASIBLE, f"breaks {', '.join(broken)}", None)
        return bool(broken)

    def _adopt(self, frozen: FrozenTrial) -> Trial:
        # A crash may have come between the proposal's parameters: the rest are drawn now.
        self._study.sampler = make_sampler(self._space.sampler, frozen.number, self._space)
        return self._settle(optuna.Trial(self._study, frozen._trial_id))

    def _settle(self, live: optuna.Trial) -> Trial:
        """Draw the trial's parameters, or get back what was drawn, and note its settings."""
        self._live[live.number] = live
        if self.role is Role.BASELINE:
            noted = live.user_attrs.get(SETTINGS_ATTR)
            searched: dict[str, Value] = noted or self.missing()[0]
        elif self.role is Role.CONFIRM:
            searched = live.user_attrs[SETTINGS_ATTR]
        else:
            searched = suggest(live, self._space.hyperparameters)
            if self._space.repeat > 1:
                searched[SEED] = seed(live.user_attrs, self._space)
        if live.user_attrs.get(SETTINGS_ATTR) != searched:
            live.set_user_attr(SETTINGS_ATTR, searched)
        return self._as_trial(live.number, searched)

    def recall(self, searched: Mapping[str, Value]) -> None:
        """Leave out a baseline point that an earlier sweep measured."""
        self._recalled.add(baseline_point(searched))

    def missing(self) -> list[dict[str, Value]]:
        """Baseline points that nobody has measured or is measuring, the next to run first."""
        points = self._space.baseline_points if self.role is Role.BASELINE else []
        left = [point for point in points if baseline_point(point) not in self._recalled]
        tried = [
            (frozen.user_attrs[SETTINGS_ATTR], _fate(frozen))
            for frozen in self._study.get_trials(deepcopy=False)
            if SETTINGS_ATTR in frozen.user_attrs
        ]
        return missing(left, tried)

    def _trial(self, frozen: FrozenTrial) -> Trial:
        return self._as_trial(frozen.number, frozen.user_attrs[SETTINGS_ATTR])

    def _as_trial(self, number: int, searched: Mapping[str, Value]) -> Trial:
        if self.role is Role.BASELINE:
            varied = {k: v for k, v in searched.items() if k not in (MULTIPLE, ATTEMPT)}
            settings = self._space.baseline_settings(searched[MULTIPLE], varied)  # type: ignore[arg-type]
        elif self.role is Role.CONFIRM:
            fresh = FRESH_SEEDS + int(searched[FRESH])  # type: ignore[arg-type]
            finalist = self._finalists[str(searched[FINALIST])]
            settings = {**finalist, **dict.fromkeys(SEEDS, fresh)}
        else:
            settings = {**self._space.fixed, **searched}
        return Trial(number, self.role, searched, settings)


def _ending(frozen: FrozenTrial) -> TrialEnding:
    """Why a trial ended; the studies of version 0.1 have it in words alone."""
    words = {"outcome": OUTCOMES[frozen.state], "reason": frozen.user_attrs.get(REASON_ATTR, "")}
    return trial_ending({**words, **frozen.user_attrs})


def _fate(frozen: FrozenTrial) -> Fate:
    """What became of a baseline run."""
    if HANDED_BACK_ATTR in frozen.user_attrs:
        return Fate.HANDED_BACK
    return Fate.FAILED if frozen.state is TrialState.FAIL else Fate.MEASURED


LEDGER = "study.db"  # in a run folder

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(path: Path | None) -> BaseStorage:
    """SQLite at `path`, or memory. One driver writes; readers may look on meanwhile."""
    if path is None:
        return InMemoryStorage()
    return RDBStorage(
        f"sqlite:///{path.absolute()}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
