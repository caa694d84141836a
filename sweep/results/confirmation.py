"""A confirmation as rounds: which finalist runs with which fresh seed, and when enough have.

Everything follows from the plan and the losses so far, so that a driver that takes over from one
that was killed goes on as that would have.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from model.config import Value
from sweep.records import (
    FINALIST,
    FRESH,
    Outcome,
    Role,
    View,
)
from sweep.results.significance import (
    LEVEL,
    BySeed,
    Pair,
    compare,
    leader,
)

# Seeds at which `--until-separated` looks: each look costs a share of the level, so that they come
# at growing distances.
LOOKS = (3, 4, 6, 8, 11, 16, 23, 32, 45, 64)

Run = tuple[str, int]  # finalist, fresh seed


@dataclass(frozen=True)
class Plan:
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
        """The chance of a false "separated" that a look may have; over all of them at most 5 %.

        1 / (k (k + 1)) sums to one: alpha spending (Lan and DeMets, Biometrika 1983) by the
        simplest schedule that needs no last look.
        """
        return LEVEL / (look * (look + 1)) if self.until_separated else LEVEL


@dataclass(frozen=True)
class ConfirmationState:
    """Where a confirmation is."""

    losses: Mapping[str, BySeed]  # of every finalist, up to the seeds of this look
    leader: str
    tied: tuple[str, ...]  # finalists that are not told apart from the leader
    diverged: tuple[str, ...]  # those that did with at least one seed
    pairs: tuple[Pair, ...]  # of the look that decided about each, the latest first
    look: int
    level: float
    wanted: tuple[Run, ...]  # before this look can be taken; none once all is over

    @property
    def over(self) -> bool:
        return not self.wanted

    def against_leader(self, name: str) -> Pair | None:
        """How `name` compares with the leader, as a difference from the leader."""
        for pair in self.pairs:
            if (pair.a, pair.b) == (self.leader, name):
                return pair
            if (pair.b, pair.a) == (self.leader, name):
                turned = (-pair.difference, -pair.high, -pair.low)
                return Pair(self.leader, name, pair.seeds, *turned, pair.p, pair.separated)
        return None


def standing(
    plan: Plan, losses: Mapping[str, BySeed], given_up: Collection[Run] = ()
) -> ConfirmationState:
    """Follow the plan through the losses so far.

    given_up   runs that are not waited for: they failed, or are under way
    """
    in_play = plan.finalists
    pairs: tuple[Pair, ...] = ()
    for look, seeds in enumerate(plan.looks, 1):
        wanted = tuple(
            (name, seed)
            for seed in range(1, seeds + 1)
            for name in in_play
            if seed not in losses.get(name, {}) and (name, seed) not in given_up
        )
        known = {
            name: {seed: loss for seed, loss in losses.get(name, {}).items() if seed <= seeds}
            for name in plan.finalists
        }
        sound = {n: known[n] for n in in_play if known[n] and _finite(known[n])}
        first = leader(sound or {name: known[name] for name in in_play})
        level = plan.level(look)
        pairs = (*compare(sound, level), *pairs)
        apart = {n for p in pairs if p.separated and first in (p.a, p.b) for n in (p.a, p.b)}
        tied = tuple(n for n in in_play if n != first and n not in apart and _finite(known[n]))
        diverged = tuple(n for n in plan.finalists if not _finite(known[n]))
        found = ConfirmationState(known, first, tied, diverged, pairs, look, level, wanted)
        in_play = (first, *tied)
        if wanted or (plan.until_separated and not tied):
            return found
    return found


def _finite(losses: BySeed) -> bool:
    return all(map(math.isfinite, losses.values()))


def losses_of(view: View) -> dict[str, dict[int, float]]:
    """Final losses of confirming runs, by finalist and seed; infinite for one that diverged."""
    found: dict[str, dict[int, float]] = {}
    for trial in list(view.trials.values()):
        if trial.role is Role.CONFIRM and trial.outcome in (Outcome.COMPLETE, Outcome.PRUNED):
            loss = trial.val_loss if trial.outcome is Outcome.COMPLETE else math.inf
            seed = int(trial.searched[FRESH])  # type: ignore[arg-type]
            found.setdefault(str(trial.searched[FINALIST]), {})[seed] = loss
    return found


def plan_of(view: View) -> Plan | None:
    """What was last asked to be confirmed; None if nothing was."""
    if view.confirm is None:
        return None
    about = view.confirm
    return Plan(tuple(about["finalists"]), about["seeds"], about["until_separated"])


@dataclass
class Rounds:
    """The plan as one driver follows it: a run that failed is left to the next driver."""

    plan: Plan
    settings: Mapping[str, Mapping[str, Value]]  # of each finalist
    _begun: set[Run] = field(default_factory=set)

    def wanted(self, view: View) -> tuple[Run, ...]:
        """Runs to begin now; none while a look waits for those under way, and none in the end."""
        running = {
            (str(t.searched[FINALIST]), int(t.searched[FRESH]))  # type: ignore[arg-type]
            for t in view.running()
            if t.role is Role.CONFIRM
        }
        now = standing(self.plan, losses_of(view), self._begun - running)
        return tuple(run for run in now.wanted if run not in self._begun)

    def over(self, view: View) -> bool:
        """Whether the plan is through, without anything left to make up for."""
        return standing(self.plan, losses_of(view)).over

    def begun(self, finalist: str, seed: int) -> None:
        self._begun.add((finalist, seed))
