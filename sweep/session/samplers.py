"""Samplers by name. Every proposal is a function of its number and of the ledger as it then was."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from model.config import Value
from model.progress import WHOLE
from sweep.errors import SweepError
from sweep.records import TrialEnding
from sweep.search import (
    Certificate,
    EarlierSweep,
    Finished,
    Seen,
    Suggestion,
    certificate,
    first_points,
    foreseen,
    next_point,
    propose,
)
from sweep.session.enqueue import INFEASIBLE, REPEATS
from sweep.session.expectation import Expectation
from sweep.session.ledger import ENDING_ATTR
from sweep.space import Choice, Hyperparameter, Point, SamplerConfig, Space
from sweep.space.grid import (
    is_through,
    least_tried,
    make_grid,
    on_grid,
)
from sweep.space.points import drawn, key, share_of, spread

TO_BLAME = (TrialEnding.FAILED, TrialEnding.LOST)
TO_CHOOSE = 32  # points of which the one least like failed trials is taken
TELLING = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
Earlier = tuple[EarlierSweep, ...]
Plan = Callable[[Study, FrozenTrial], Suggestion | Point | None]


def make_sampler(
    config: SamplerConfig, asked: int, space: Space, earlier: Earlier = (), away: bool = False
) -> BaseSampler:
    """The sampler of the proposal that follows `asked` others; it serves for that one alone.

    Samplers keep a random stream outside the storage, so a continued sweep would repeat its first
    proposals. Here the stream is a function of the seed and the number of the proposal. Points
    of the field come first where `sampler.prior` asks for them; trials of `earlier` sweeps inform
    the surface. `away` asks for what is unlike trials that have just failed, whatever the name.
    Raises SweepError for a grid without end and where a package is missing.
    """
    seed = (config.seed * 1_000_003 + asked) % 2**32
    if away:
        plan: Plan = lambda study, trial: _unlike_failed(space, study, trial)  # noqa: E731
        return Planned(plan, space.hyperparameters, RandomSampler(seed=seed))
    plan = _plan(config, space, asked, earlier)
    if config.prior:
        plan = _after(first_points(space), plan, space)
    return Planned(plan, space.hyperparameters, _stock(config, seed))


class Planned(BaseSampler):  # type: ignore[misc]
    """Proposes a point decided as a whole; what it leaves open another sampler draws.

    The plan is made when the first value is asked for, also when a crash came between the values.
    """

    def __init__(
        self, plan: Plan, hyperparameters: Sequence[Hyperparameter], rest: BaseSampler
    ) -> None:
        self._plan, self._rest = plan, rest
        self._by_parameter = {hp.parameter: hp for hp in hyperparameters}
        self._point: tuple[int, Point] | None = None
        # Nats that any trial was expected to gain at most, when the point was planned; else nan.
        self.gain = math.nan

    def _value(self, study: Study, trial: FrozenTrial, parameter: str) -> Value | None:
        if self._point is None or self._point[0] != trial.number:
            planned = self._plan(study, trial)
            point: Point | None
            if isinstance(planned, Suggestion):
                point, self.gain = planned.point, planned.gain
            else:
                point = planned
            self._point = trial.number, point or {}
        hp = self._by_parameter[parameter]
        value = self._point[1].get(hp.setting)
        return value if value is not None and hp.domain.has(value) else None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._rest.infer_relative_search_space(study, trial))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        values = self._rest.sample_relative(study, trial, search_space)
        planned = {name: self._value(study, trial, name) for name in values}
        return {**values, **{name: value for name, value in planned.items() if value is not None}}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        value = self._value(study, trial, param_name)
        if value is not None:
            return value
        return self._rest.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._rest.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._rest.after_trial(study, trial, state, values)


def _stock(config: SamplerConfig, seed: int) -> BaseSampler:
    """Optuna's sampler of that name; random draws where the name is one of ours."""
    start = config.startup_trials
    if config.name == "gp":
        return GPSampler(seed=seed, n_startup_trials=start, warn_independent_sampling=False)
    if config.name == "cmaes":
        return _cmaes(seed, start)
    if config.name != "tpe":
        return RandomSampler(seed=seed)
    # group: conditions make trials with different parameters, which a joint model of all
    # of them would have to ignore. constant_liar: others are running when the next is proposed.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(
            seed=seed, n_startup_trials=start, multivariate=True, group=True, constant_liar=True
        )


def _cmaes(seed: int, startup_trials: int) -> BaseSampler:
    try:
        import cmaes  # noqa: F401
    except ImportError:
        raise SweepError(
            "sampler.name: cmaes needs the package cmaes, which is not installed",
            hint="Install it: pip install 'sweep[cmaes]'.",
        ) from None
    return CmaEsSampler(seed=seed, n_startup_trials=startup_trials, warn_independent_sampling=False)


def _plan(config: SamplerConfig, space: Space, asked: int, earlier: Earlier) -> Plan:
    """The plan of our sampler of that name; empty for Optuna's, which draw value by value."""
    if config.name == "surface":
        return lambda study, trial: _by_surface(config, space, study, trial, earlier)
    if config.name == "coordinate":
        return lambda study, trial: _step(config, space, _seen(study, trial, space))
    if config.name == "grid":
        grid = space.hyperparameters, config.step, config.seed
        return lambda study, trial: least_tried(*grid, _tried(study, space, trial.number))
    if config.name == "qmc":
        shares = spread(1, len(space.hyperparameters), config.seed, first=asked)[0]
        return lambda study, trial: drawn(space.hyperparameters, shares)
    return lambda study, trial: None


def _by_surface(
    config: SamplerConfig, space: Space, study: Study, trial: FrozenTrial, earlier: Earlier
) -> Suggestion | None:
    rng = np.random.default_rng([config.seed, trial.number])
    return propose(space, _seen(study, trial, space, forecasts=True), rng, earlier)


def _after(first: Sequence[Point], plan: Plan, space: Space) -> Plan:
    """`plan` once every point of `first` was tried, whatever became of it."""

    def planned(study: Study, trial: FrozenTrial) -> Suggestion | Point | None:
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        tried = {key(_point(other, space)) for other in others}
        return next((p for p in first if key(p) not in tried), None) or plan(study, trial)

    return planned


def _step(config: SamplerConfig, space: Space, seen: Sequence[Seen]) -> Point | None:
    """The next step on the grid.

    None once the certificate is complete: the base sampler then draws at random.
    """
    finished = _ended(seen)
    lines = make_grid(space.hyperparameters, config.step)
    if not seen and config.seed:  # seed 0 begins in the middle, others elsewhere
        return on_grid(
            lines,
            drawn(space.hyperparameters, spread(1, len(space.hyperparameters), config.seed)[0]),
        )
    return next_point(lines, finished, [s.point for s in seen if s.running], config.margin)


def _tried(study: Study, space: Space, number: int = -1) -> list[Point]:
    """Points of all trials but `number`; repeats are left out: the sampler proposed none."""
    return [
        _point(other, space)
        for other in study.get_trials(deepcopy=False)
        if other.number != number
        and other.state is not TrialState.WAITING
        and REPEATS not in other.user_attrs
    ]


def settled(study: Study, space: Space) -> str:
    """Why the sampler has nothing left to ask; empty while it has.

    A grid is through once each of its points was tried: the same settings give the same loss.
    """
    config = space.sampler
    if config.name == "grid":
        through = is_through(space.hyperparameters, config.step, config.seed, _tried(study, space))
        return "every point of the grid was tried" if through else ""
    return "nothing left to try around the best" if descent(study, space)[0] else ""


def _seen(
    study: Study, trial: FrozenTrial | None, space: Space, forecasts: bool = False
) -> list[Seen]:
    """Every trial but `trial` that a sampler learns from.

    forecasts  whether trials that have not finished count with the loss expected of them
    """
    trials = study.get_trials(deepcopy=False)
    to_blame = _to_blame(trials)
    others = [
        other
        for other in trials
        if (other.state in TELLING or other.number in to_blame)
        and (trial is None or other.number != trial.number)
    ]
    complete = [other for other in others if other.state is TrialState.COMPLETE]
    expectation, foreseen = Expectation(complete), _foreseen(others) if forecasts else set()
    seen = []
    for other in others:
        loss, error = other.value if other.state is TrialState.COMPLETE else None, 0.0
        forecast = expectation.of(other) if other.number in foreseen else None
        if forecast and math.isfinite(forecast.loss):
            loss, error = forecast.loss, forecast.error
        running = other.state is TrialState.RUNNING
        done = max(other.intermediate_values, default=0) / WHOLE
        seen.append(Seen(_point(other, space), loss, running, error, done))
    return seen


def _foreseen(trials: Sequence[FrozenTrial]) -> set[int]:
    """The numbers of the unfinished trials that a forecast is made of."""
    unforeseen = (TrialState.COMPLETE, TrialState.FAIL)  # of what failed nothing is expected
    return set(foreseen([t.number for t in trials if t.state not in unforeseen]))


def _unlike_failed(space: Space, study: Study, trial: FrozenTrial) -> Point:
    """Of several points, the one least like the trials that failed since one last ended well."""
    hps, trials = space.hyperparameters, study.get_trials(deepcopy=False)
    latest = max((t.number for t in trials if _ended_well(t)), default=-1)
    failed = [
        _point(t, space)
        for t in trials
        if t.number > latest and t.user_attrs.get(ENDING_ATTR) in TO_BLAME
    ]
    rows = spread(TO_CHOOSE, len(hps), space.sampler.seed, first=TO_CHOOSE * trial.number)
    points = [drawn(hps, shares) for shares in rows]
    return max(points, key=lambda p: min((_apart(p, q, hps) for q in failed), default=0.0))


def _apart(one: Point, other: Point, hyperparameters: Sequence[Hyperparameter]) -> float:
    """How unlike two points are: 1 for each choice, and for each range the part between them."""
    apart = 0.0
    for hp in hyperparameters:
        a, b = one.get(hp.setting), other.get(hp.setting)
        listed = a is None or b is None or isinstance(hp.domain, Choice)
        if listed or not (hp.domain.has(a) and hp.domain.has(b)):
            apart += a != b
        elif a is not None and b is not None:
            apart += abs(share_of(hp.domain, a) - share_of(hp.domain, b))
    return apart


def _ended_well(trial: FrozenTrial) -> bool:
    trained = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return trained and INFEASIBLE not in trial.user_attrs


def _to_blame(trials: Sequence[FrozenTrial]) -> set[int]:
    """Numbers of trials that failed for their own settings: before and after, others ended well.

    They count as ones that were stopped, or a sampler would propose the same again and again. Of
    others that failed it is not known whether the cause was in their settings.
    """
    failed = [t.number for t in trials if t.user_attrs.get(ENDING_ATTR) in TO_BLAME]
    if not failed:
        return set()
    well = [t.number for t in trials if _ended_well(t)]
    return {number for number in failed if well and well[0] < number < well[-1]}


def descent(study: Study, space: Space) -> tuple[bool, Certificate | None]:
    """Whether coordinate descent has nothing left to try around its best, and its certificate.

    (False, None) of a space that another sampler searches.
    """
    config = space.sampler
    if config.name != "coordinate":
        return False, None
    seen, lines = _seen(study, None, space), make_grid(space.hyperparameters, config.step)
    finished, running = _ended(seen), [s.point for s in seen if s.running]
    over = bool(finished) and next_point(lines, finished, running, config.margin) is None
    return over, certificate(lines, finished, config.margin)


def _ended(seen: Sequence[Seen]) -> list[Finished]:
    return [(s.point, math.inf if s.loss is None else s.loss) for s in seen if not s.running]


def _point(trial: FrozenTrial, space: Space) -> Point:
    names = _settings_by_parameter(space.hyperparameters)
    return {names[p]: value for p, value in trial.params.items() if p in names}


@lru_cache(maxsize=8)
def _settings_by_parameter(hyperparameters: tuple[Hyperparameter, ...]) -> dict[str, str]:
    return {hp.parameter: hp.setting for hp in hyperparameters}
