"""Stock search tools as their users have them, driven like a session of ours.

Optuna proposes and, at every whole epoch, may prune: steps are epochs, so that a trial of two
epochs at its end is compared with one of sixteen near its beginning. Where every run is of one
epoch, a step is a twentieth of it. CMA-ES draws what is not a number at random, so it is given
ranges alone. Ray Tune's are its own objects, OptunaSearch and ASHAScheduler, called in the order
its controller calls them:

  - the scheduler hears a result before the searcher, which on STOP does not hear it at all
    (ray/tune/execution/tune_controller.py, on_trial_result before search_alg);
  - a trial that the scheduler stopped is told to Optuna as COMPLETE, with the loss it had
    (ray/tune/search/optuna/optuna_search.py, on_trial_complete), and OptunaSearch itself never
    prunes (the same file, NopPruner);
  - ASHA compares at equal absolute steps, `time_attr`, from a grace period of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import TrialState

from model.progress import Progress
from sweep.records import Proposal, Trial, Verdict
from sweep.replay.bank import Bank
from sweep.session.distributions import suggest
from sweep.space.settings import PruneConfig, SamplerConfig

optuna.logging.set_verbosity(optuna.logging.ERROR)
METRIC = "val_loss"
STEPS_OF_ONE_EPOCH = 20


class Steps:
    """Which evaluations a stock user has: one at the end of each epoch, more where there is one."""

    def __init__(self, bank: Bank) -> None:
        self._seen: dict[int, int] = {}
        self._per_epoch = steps_of_an_epoch(bank)

    def new(self, trial: Trial, progress: Progress) -> int:
        """The step that ended since the last call, or 0."""
        step = math.floor(progress.epoch * self._per_epoch + 1e-6)
        if step > self._seen.get(trial.number, 0):
            self._seen[trial.number] = step
            return step
        return 0


def most_epochs(bank: Bank) -> int:
    return max(int(c[0].settings.get("train.epochs", 1)) for c in bank.cells.values())  # type: ignore[arg-type]


def steps_of_an_epoch(bank: Bank) -> int:
    return 1 if most_epochs(bank) > 1 else STEPS_OF_ONE_EPOCH


class OptunaTool:
    """A study of Optuna's with one of its samplers and pruners."""

    def __init__(
        self,
        bank: Bank,
        ranges: bool,
        sampler: optuna.samplers.BaseSampler,
        pruner: optuna.pruners.BasePruner,
    ) -> None:
        self._hyperparameters = bank.space(
            SamplerConfig(), PruneConfig(), 1, ranges
        ).hyperparameters
        self._study = optuna.create_study(sampler=sampler, pruner=pruner)
        self._live: dict[int, optuna.Trial] = {}
        self._steps = Steps(bank)

    def next_trial(self) -> Trial:
        live = self._study.ask()
        settings = suggest(live, self._hyperparameters)
        self._live[live.number] = live
        return Trial(live.number, Proposal(settings), settings)

    def observe(self, trial: Trial, progress: Progress) -> Verdict:
        live = self._live[trial.number]
        if progress.diverged:
            self._study.tell(live, state=TrialState.PRUNED)
            return Verdict(stop=True)
        step = self._steps.new(trial, progress)
        if step:
            live.report(progress.val_loss, step)
        if progress.done:
            self._study.tell(live, progress.val_loss)
            return Verdict(stop=True)
        if step and live.should_prune():
            self._study.tell(live, state=TrialState.PRUNED)
            return Verdict(stop=True)
        return Verdict(stop=False)

    def fail(self, trial: Trial, error: str) -> None:
        self._study.tell(self._live[trial.number], state=TrialState.FAIL)


class RayTool:
    """Ray Tune's OptunaSearch and ASHA, without a cluster between them and the trials."""

    def __init__(self, bank: Bank, ranges: bool, seed: int, longest: int) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        hyperparameters = bank.space(SamplerConfig(), PruneConfig(), 1, ranges).hyperparameters
        self._settings: dict[str, Any] = {}

        def space(live: optuna.Trial) -> dict[str, Any]:
            self._settings = suggest(live, hyperparameters)
            return {}

        self._search = OptunaSearch(space=space, metric=METRIC, mode="min", seed=seed)
        self._scheduler = ASHAScheduler(
            time_attr="step", metric=METRIC, mode="min", max_t=longest, grace_period=1
        )
        self._asked = 0
        self._steps = Steps(bank)

    def next_trial(self) -> Trial:
        trial = Trial(self._asked, Proposal({}), {})
        self._asked += 1
        self._search.suggest(trial.name)
        self._scheduler.on_trial_add(None, _TuneTrial(trial.name))
        settings = dict(self._settings)
        return Trial(trial.number, Proposal(settings), settings)

    def observe(self, trial: Trial, progress: Progress) -> Verdict:
        step, tune_trial = self._steps.new(trial, progress), _TuneTrial(trial.name)
        if progress.diverged:
            self._scheduler.on_trial_remove(None, tune_trial)
            self._search.on_trial_complete(trial.name, error=True)
            return Verdict(stop=True)
        if not step:
            return Verdict(stop=False)
        result = {"step": step, METRIC: progress.val_loss, "training_iteration": step}
        action = self._scheduler.on_trial_result(None, tune_trial, result)
        if action == self._scheduler.STOP or progress.done:
            self._scheduler.on_trial_complete(None, tune_trial, result)
            self._search.on_trial_complete(trial.name, result=result)
            return Verdict(stop=True)
        self._search.on_trial_result(trial.name, result)
        return Verdict(stop=False)

    def fail(self, trial: Trial, error: str) -> None:
        self._scheduler.on_trial_remove(None, _TuneTrial(trial.name))
        self._search.on_trial_complete(trial.name, error=True)


class _TuneTrial:
    """What ASHA asks of a Tune trial."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


Make = Callable[[Bank, int], Any]


def methods(bank: Bank) -> dict[str, Make]:
    """Stock combinations by name: each makes a search from a bank and a seed."""
    longest = most_epochs(bank) * steps_of_an_epoch(bank)

    def hyperband() -> optuna.pruners.BasePruner:
        return optuna.pruners.HyperbandPruner(max_resource=longest)

    makers: dict[str, Make] = {
        "random": _optuna(random_draws, nothing_pruned),
        "random + hyperband": _optuna(random_draws, hyperband),
    }
    for form in ("lists", "ranges"):
        ranges = form == "ranges"
        makers[f"Optuna TPE, {form}"] = _optuna(tpe, nothing_pruned, ranges)
        makers[f"Optuna TPE + median, {form}"] = _optuna(tpe, optuna.pruners.MedianPruner, ranges)
        makers[f"Optuna TPE + hyperband, {form}"] = _optuna(tpe, hyperband, ranges)

        def ray(bank: Bank, seed: int, ranges: bool = ranges) -> Any:
            return RayTool(bank, ranges, seed, longest)

        makers[f"OptunaSearch + ASHA, {form}"] = ray
        makers[f"Optuna GP, {form}"] = _optuna(gaussian_process, nothing_pruned, ranges)
    return {**makers, "CMA-ES, ranges": _optuna(cma_es, nothing_pruned, ranges=True)}


def _optuna(
    sampler: Callable[[int], optuna.samplers.BaseSampler],
    pruner: Callable[[], optuna.pruners.BasePruner],
    ranges: bool = False,
) -> Make:
    return lambda bank, seed: OptunaTool(bank, ranges, sampler(seed), pruner())


nothing_pruned = optuna.pruners.NopPruner


def random_draws(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed)


def tpe(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed)


def gaussian_process(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)


def cma_es(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
