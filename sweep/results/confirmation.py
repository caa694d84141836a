"""A confirmation: which finalist runs with which fresh seed, and when enough have.

Everything follows from the plan and the losses so far, so that a driver that takes over from one
that was killed goes on as that would have, whatever the order in which runs ended.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from model.clusters import Clusters, Variance
from model.config import Value
from sweep.records import Ending, FinalistRun, Outcome
from sweep.results.allocation import next_runs
from sweep.results.paired import ClustersBySeed, text_of_pairs
from sweep.results.sequential import Effects, compare_anytime, effects
from sweep.results.significance import BySeed, Comparison
from sweep.view import View

FIRST = 2  # seeds that each finalist gets, before runs go where they decide
ROUND = 4  # runs that are then handed out at once, to be run beside each other
OPTIMAL = (
    "optimal"  # how runs are shared out, as journals have it; those of version 0.1 say nothing
)

FreshRun = tuple[str, int]  # finalist, fresh seed
Kept = Mapping[str, ClustersBySeed]  # of finalists


@dataclass(frozen=True)
class ConfirmationPlan:
    """What was asked to be confirmed."""

    finalists: tuple[str, ...]
    seeds: int  # for each, on average; until separated: at most
    until_separated: bool
    closed: bool = False  # an earlier version ended it, by rules of its own

    @property
    def runs(self) -> int:
        """What may be run in all."""
        return self.seeds * len(self.finalists)

    @property
    def most(self) -> int:
        """Seeds that one finalist may get."""
        return self.seeds if self.until_separated else self.runs


@dataclass(frozen=True)
class ConfirmationState:
    """Where a confirmation is, after as many runs as have ended in the order of the plan."""

    losses: Mapping[str, BySeed]  # of every finalist
    order: tuple[str, ...]  # finalists, best first
    tied: tuple[str, ...]  # finalists that are not told apart from the leader
    diverged: tuple[str, ...]  # those that did with at least one seed
    comparisons: tuple[Comparison, ...]
    effects: Effects  # of finalists that did not diverge
    wanted: tuple[FreshRun, ...]  # runs to end before more is decided; none once all is over

    @property
    def leader(self) -> str:
        """The finalist of the lowest loss, seeds compared with the same seeds."""
        return self.order[0]

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
                rest = (its.p, its.separated, its.text)
                return Comparison(self.leader, name, its.seeds, *turned, *rest)
        return None

    @property
    def by_text(self) -> tuple[str, ...]:
        """Finalists that will stay tied with the leader: the text tells no difference so small.

        That is, none of those that the seeds leave possible.
        """
        names = []
        for name in self.tied:
            its = self.against_leader(name)
            if its is not None and its.text and math.isfinite(its.high):
                half = its.high - its.difference
                seeds = math.sqrt(max(0.0, half**2 - its.text**2))
                names += [name] if abs(its.difference) + seeds <= its.text else []
        return tuple(names)


def state_of(
    plan: ConfirmationPlan,
    losses: Mapping[str, BySeed],
    given_up: Collection[FreshRun] = (),
    kept: Kept | None = None,
) -> ConfirmationState:
    """The latest of `states_of`."""
    *_, latest = states_of(plan, losses, given_up, kept)
    return latest


def states_of(
    plan: ConfirmationPlan,
    losses: Mapping[str, BySeed],
    given_up: Collection[FreshRun] = (),
    kept: Kept | None = None,
) -> Iterator[ConfirmationState]:
    """Follow the plan from round to round, as far as the losses reach.

    given_up   runs that are not waited for: they failed, or are under way
    kept       the same losses by stretches of text; where there are none, what is compared is the
               loss on this very text
    """
    kept = kept or {}
    if plan.closed:
        runs = {name: max(losses.get(name, {}), default=0) for name in plan.finalists}
        all_of_them = [(name, seed + 1) for name in runs for seed in range(runs[name])]
        yield _after(runs, losses, all_of_them, kept)
        return
    runs = dict.fromkeys(plan.finalists, min(FIRST, plan.seeds))
    while True:
        state = _after(runs, losses, given_up, kept)
        yield state
        more = _next_round(plan, state, runs)
        if state.wanted or not more:
            return
        runs = {name: runs[name] + more.count(name) for name in runs}


def _next_round(
    plan: ConfirmationPlan, state: ConfirmationState, runs: Mapping[str, int]
) -> list[str]:
    """Who gets the next runs; nobody once the best is told apart or all may have been run.

    Nor where the text is too short to tell it from any that is tied.
    """
    left = plan.runs - sum(runs.values())
    if left <= 0 or not state.effects.level:
        return []
    in_play = [state.leader, *state.tied]
    if len(plan.finalists) > 1 and len(in_play) == 1:
        return []
    if all(runs[name] >= plan.most for name in in_play):
        return []
    if state.tied and set(state.tied) == set(state.by_text):
        return []
    # Its beginning, if less than a whole round is left: with more seeds later the rest follows.
    return next_runs(state.effects, runs, ROUND, plan.most)[:left]


def _after(
    runs: Mapping[str, int],
    losses: Mapping[str, BySeed],
    given_up: Collection[FreshRun],
    kept: Kept,
) -> ConfirmationState:
    """Compare finalists after so many seeds of each."""
    seen = {
        name: {seed: loss for seed, loss in sorted(losses.get(name, {}).items()) if seed <= many}
        for name, many in runs.items()
    }
    diverged = tuple(
        name for name, its in seen.items() if not all(map(math.isfinite, its.values()))
    )
    sound = {name: its for name, its in seen.items() if its and name not in diverged}
    wanted = (
        (name, seed)
        for seed in range(1, max(runs.values()) + 1)
        for name, many in runs.items()
        if seed <= many and name not in diverged
        if seed not in seen[name] and (name, seed) not in given_up
    )
    its = effects(sound)
    comparisons = compare_anytime(sound, its, _texts(sound, kept))
    order = sorted(sound, key=lambda name: its.level[name])
    order += [name for name in runs if name not in sound]
    best = order[0]
    pairs = [(i.a, i.b) if i.difference > 0 else (i.b, i.a) for i in comparisons if i.separated]
    separated = {worse for better, worse in pairs if better == best}
    tied = (n for n in runs if n != best and n not in separated and n not in diverged)
    return ConfirmationState(
        losses=seen,
        order=tuple(order),
        tied=tuple(tied),
        diverged=diverged,
        comparisons=tuple(comparisons),
        effects=its,
        wanted=tuple(wanted),
    )


def _texts(sound: Mapping[str, BySeed], kept: Kept) -> dict[tuple[str, str], Variance]:
    """What other text would add to the differences of finalists, over the seeds that both have."""
    seen = {
        name: {seed: its for seed, its in kept.get(name, {}).items() if seed in sound[name]}
        for name in sound
    }
    texts = {(a, b): text_of_pairs(seen[a], seen[b]) for a, b in combinations(sound, 2)}
    return {pair: text for pair, text in texts.items() if text and math.isfinite(text.value)}


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
    ended = view.confirmed[-1] if view.confirmed else None
    older = asked.get("allocation") != OPTIMAL
    closed = older and ended is not None and ended["over"] and ended["time"] >= asked["time"]
    return ConfirmationPlan(
        tuple(asked["finalists"]), asked["seeds"], asked["until_separated"], closed
    )


@dataclass
class Rounds:
    """The plan as one driver follows it: a run that failed is left to the next driver."""

    plan: ConfirmationPlan
    settings: Mapping[str, Mapping[str, Value]]  # of each finalist
    _begun: set[FreshRun] = field(default_factory=set)
    ending = Ending.CONFIRMED  # once it is through

    def wanted(self, view: View) -> tuple[FreshRun, ...]:
        """Runs to begin now; none while a look waits for those under way, and none in the end."""
        running = {
            (trial.kind.finalist, trial.kind.seed)
            for trial in view.running()
            if isinstance(trial.kind, FinalistRun)
        }
        state = state_of(self.plan, losses_of(view), self._begun - running, clusters_of(view))
        return tuple(run for run in state.wanted if run not in self._begun)

    def over(self, view: View) -> bool:
        """Whether the plan is through, without anything left to make up for."""
        return state_of(self.plan, losses_of(view), kept=clusters_of(view)).over

    def begun(self, finalist: str, seed: int) -> None:
        """Remember that this driver has begun the run."""
        self._begun.add((finalist, seed))


@dataclass
class FreshMembers:
    """One trial with each of the first fresh seeds, as a plan that is followed like `Rounds`.

    Its runs are those of a confirmation: what either has trained, the other finds.
    """

    trial: str
    members: int
    settings: Mapping[str, Mapping[str, Value]]  # of the trial, by its name
    _begun: set[FreshRun] = field(default_factory=set)
    ending = Ending.MEMBERS_TRAINED

    @property
    def plan(self) -> ConfirmationPlan:
        """Whose runs these are."""
        return ConfirmationPlan((self.trial,), self.members, until_separated=False)

    def wanted(self, view: View) -> tuple[FreshRun, ...]:
        """Runs to begin now: all that nobody has begun, as none depends on another."""
        return tuple(run for run in self._missing(view) if run not in self._begun)

    def over(self, view: View) -> bool:
        """Whether every member has ended, be it that it diverged."""
        return not self._missing(view)

    def begun(self, trial: str, seed: int) -> None:
        """Remember that this driver has begun the run."""
        self._begun.add((trial, seed))

    def _missing(self, view: View) -> list[FreshRun]:
        ended = losses_of(view).get(self.trial, {})
        return [(self.trial, seed) for seed in range(1, self.members + 1) if seed not in ended]
