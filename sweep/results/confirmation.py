"""A confirmation: which finalist runs with which fresh seed, and when enough have.

Everything follows from the plan and the losses so far, so that a driver that takes over from one
that was killed goes on as that would have.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from model.clusters import Clusters
from model.config import Value
from sweep.records import FinalistRun, Outcome
from sweep.results.significance import (
    SIGNIFICANCE,
    BySeed,
    Comparison,
    compare,
    leader,
)
from sweep.view import View

# Seeds after which `--until-separated` takes an interim look: each look spends a share of the
# level, so that they come at growing distances.
LOOKS = (3, 4, 6, 8, 11, 16, 23, 32, 45, 64)

FreshRun = tuple[str, int]  # finalist, fresh seed


@dataclass(frozen=True)
class ConfirmationPlan:
    """What was asked to be confirmed."""

    finalists: tuple[str, ...]
    seeds: int  # for each, or at most
    until_separated: bool

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many seeds finalists are compared."""
        if not self.until_separated:
            return (self.seeds,)
        return (*(seeds for seeds in LOOKS if seeds < self.seeds), self.seeds)

    def level(self, look: int) -> float:
        """The chance of a false "separated" that look number `look`, from 1, may spend.

        Over all looks at most 5 %: 1 / (k (k + 1)) sums to one. Alpha spending (Lan and DeMets,
        Biometrika 1983) by the simplest schedule that needs no last look.
        """
        return SIGNIFICANCE / (look * (look + 1)) if self.until_separated else SIGNIFICANCE


@dataclass(frozen=True)
class ConfirmationState:
    """Where a confirmation is, as of one look."""

    losses: Mapping[str, BySeed]  # of every finalist, up to the seeds of this look
    leader: str
    tied: tuple[str, ...]  # finalists that are not told apart from the leader
    diverged: tuple[str, ...]  # those that did with at least one seed
    comparisons: tuple[Comparison, ...]  # of this look and those before it, the latest first
    look: int
    level: float
    wanted: tuple[FreshRun, ...]  # runs to end before this look is taken; none once all is over

    @property
    def over(self) -> bool:
        """Whether no run is left to wait for."""
        return not self.wanted

    def against_leader(self, name: str) -> Comparison | None:
        """How `name` compares with the leader, as a difference from the leader."""
        for its in self.comparisons:
            if (its.a, its.b) == (self.leader, name):
                return its
            if (its.b, its.a) == (self.leader, name):
                turned = (-its.difference, -its.high, -its.low)
                return Comparison(self.leader, name, its.seeds, *turned, its.p, its.separated)
        return None


def state_of(
    plan: ConfirmationPlan,
    losses: Mapping[str, BySeed],
    given_up: Collection[FreshRun] = (),
) -> ConfirmationState:
    """Follow the plan from look to look, as far as the losses reach.

    given_up   runs that are not waited for: they failed, or are under way
    """
    state = None
    for number, seeds in enumerate(plan.looks, 1):
        state = _look(plan, number, seeds, losses, given_up, state)
        if state.wanted or (plan.until_separated and not state.tied):
            break
    assert state is not None
    return state


def _look(
    plan: ConfirmationPlan,
    number: int,
    seeds: int,
    losses: Mapping[str, BySeed],
    given_up: Collection[FreshRun],
    before: ConfirmationState | None,
) -> ConfirmationState:
    """Compare, after so many seeds, the finalists that the look `before` has left in play."""
    in_play = (before.leader, *before.tied) if before else plan.finalists
    seen = {
        name: {seed: loss for seed, loss in losses.get(name, {}).items() if seed <= seeds}
        for name in plan.finalists
    }
    wanted = tuple(
        (name, seed)
        for seed in range(1, seeds + 1)
        for name in in_play
        if seed not in seen[name] and (name, seed) not in given_up
    )
    comparable = {name: seen[name] for name in in_play if seen[name] and _finite(seen[name])}
    best = leader(comparable or {name: seen[name] for name in in_play})
    level = plan.level(number)
    comparisons = compare(comparable, level)
    separated = {
        name
        for its in comparisons
        if its.separated and best in (its.a, its.b)
        for name in (its.a, its.b)
    }
    tied = (n for n in in_play if n not in (best, *separated) and _finite(seen[n]))
    return ConfirmationState(
        losses=seen,
        leader=best,
        tied=tuple(tied),
        diverged=tuple(name for name in plan.finalists if not _finite(seen[name])),
        comparisons=(*comparisons, *(before.comparisons if before else ())),
        look=number,
        level=level,
        wanted=wanted,
    )


def _finite(losses: BySeed) -> bool:
    return all(map(math.isfinite, losses.values()))


def losses_of(view: View) -> dict[str, dict[int, float]]:
    """Final losses of confirming runs, by finalist and seed; infinite for one that diverged."""
    losses: dict[str, dict[int, float]] = {}
    for trial in list(view.trials.values()):
        run, outcome = trial.kind, trial.outcome
        if isinstance(run, FinalistRun) and outcome in (Outcome.COMPLETE, Outcome.PRUNED):
            loss = trial.val_loss if outcome is Outcome.COMPLETE else math.inf
            losses.setdefault(run.finalist, {})[run.seed] = loss
    return losses


def clusters_of(view: View) -> dict[str, dict[int, Clusters]]:
    """The same losses by stretches of text, of those runs that have kept them."""
    kept: dict[str, dict[int, Clusters]] = {}
    for trial in list(view.trials.values()):
        run = trial.kind
        if isinstance(run, FinalistRun) and trial.outcome is Outcome.COMPLETE and trial.clusters:
            kept.setdefault(run.finalist, {})[run.seed] = trial.clusters
    return kept


def plan_of(view: View) -> ConfirmationPlan | None:
    """What was last asked to be confirmed; None if nothing was."""
    asked = view.confirm
    if asked is None:
        return None
    return ConfirmationPlan(tuple(asked["finalists"]), asked["seeds"], asked["until_separated"])


@dataclass
class Rounds:
    """The plan as one driver follows it: a run that failed is left to the next driver."""

    plan: ConfirmationPlan
    settings: Mapping[str, Mapping[str, Value]]  # of each finalist
    _begun: set[FreshRun] = field(default_factory=set)

    def wanted(self, view: View) -> tuple[FreshRun, ...]:
        """Runs to begin now; none while a look waits for those under way, and none in the end."""
        running = {
            (trial.kind.finalist, trial.kind.seed)
            for trial in view.running()
            if isinstance(trial.kind, FinalistRun)
        }
        state = state_of(self.plan, losses_of(view), self._begun - running)
        return tuple(run for run in state.wanted if run not in self._begun)

    def over(self, view: View) -> bool:
        """Whether the plan is through, without anything left to make up for."""
        return state_of(self.plan, losses_of(view)).over

    def begun(self, finalist: str, seed: int) -> None:
        """Remember that this driver has begun the run."""
        self._begun.add((finalist, seed))
