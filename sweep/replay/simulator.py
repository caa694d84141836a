"""A sweep in virtual time, on recorded curves: what it would have spent and found.

The session, the sampler and the pruner are the real ones; only training is looked up. A worker
does one FLOP (or second) of training per unit of virtual time. What was paid for once is free: when
a cell is proposed again, its evaluations come at once, up to where they were trained.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from model.config import Value
from model.progress import WHOLE, Progress
from sweep.records import Outcome, Trial, Verdict
from sweep.replay.bank import Bank, Cell
from sweep.replay.curves import Curve
from sweep.space import PruneConfig, SamplerConfig

REPEATS = 50  # proposals in a row of nothing new, after which a search is considered stuck
TOP = 3  # trials that should not have been pruned


class Search(Protocol):
    """What a replay needs of a session; benchmarks wrap stock tools to have the same methods."""

    def next_trial(self) -> Trial | None: ...

    def observe(self, trial: Trial, progress: Progress) -> Verdict: ...

    def fail(self, trial: Trial, error: str) -> None: ...


@dataclass(frozen=True)
class ReplayedTrial:
    """One trial of a replayed sweep."""

    cell: Cell
    outcome: Outcome
    compute: float  # spent on it
    at: float  # compute that all had spent when it ended
    time: float  # virtual, when it ended
    final: float  # its recorded final loss, nats per token, whether or not it got there
    whole: float  # compute of its whole schedule


@dataclass(frozen=True)
class Replay:
    """A replayed sweep; its trials are in the order in which they ended."""

    trials: tuple[ReplayedTrial, ...]
    compute: float
    time: float

    def best_after(self, compute: float) -> float:
        """The lowest final loss of a complete trial within `compute`; inf before the first."""
        return min((t.final for t in self._complete() if t.at <= compute), default=math.inf)

    def compute_to(self, loss: float) -> float:
        """Compute spent when a trial first completed at `loss` or below; inf if none did."""
        return min((t.at for t in self._complete() if t.final <= loss), default=math.inf)

    def killed(self, top: int = TOP) -> int:
        """How many of the eventual best `top` of the cells tried were pruned and left so.

        Eventual: by the recorded end of their schedule, which the sweep itself never saw.
        """
        complete = {trial.cell for trial in self._complete()}
        finals = {t.cell: t.final for t in self.trials if t.outcome is not Outcome.FAILED}
        best = sorted(finals, key=lambda cell: finals[cell])[:top]
        return sum(cell not in complete for cell in best)

    @property
    def saved(self) -> float:
        """Share of the compute that the cells tried would have taken without pruning."""
        wholes = {trial.cell: trial.whole for trial in self.trials}
        return 1 - self.compute / math.fsum(wholes.values()) if wholes else 0.0

    def count(self, outcome: Outcome) -> int:
        return sum(trial.outcome is outcome for trial in self.trials)

    def _complete(self) -> list[ReplayedTrial]:
        return [trial for trial in self.trials if trial.outcome is Outcome.COMPLETE]


@dataclass
class _Training:
    """A trial on a worker."""

    trial: Trial
    cell: Cell
    curve: Curve
    begun: float  # virtual time at which its current slice began
    mark: int = 0  # index of the evaluation it trains towards
    compute: float = 0.0


class _Clock:
    """Virtual time, the workers, and what was paid."""

    def __init__(self, bank: Bank, cost: str) -> None:
        self.bank, self.cost = bank, cost
        self.now, self.spent = 0.0, 0.0
        self.paid: dict[Cell, int] = {}  # basis points trained
        self.due: list[tuple[float, int, _Training]] = []  # heap
        self.trials: list[ReplayedTrial] = []

    def slice(self, training: _Training) -> float:
        """Compute from the last evaluation to the next, less what was paid already."""
        marks = training.curve.marks
        before = marks[training.mark - 1] if training.mark else 0
        unpaid = marks[training.mark] - max(before, self.paid.get(training.cell, 0))
        return max(0, unpaid) / WHOLE * float(getattr(training.curve, self.cost))

    def start(self, training: _Training) -> None:
        ends = self.now + self.slice(training)
        heapq.heappush(self.due, (ends, training.trial.number, training))

    def next(self) -> _Training:
        """Train until the next evaluation of any worker."""
        self.now, _, training = heapq.heappop(self.due)
        compute = self.slice(training)
        training.compute += compute
        self.spent += compute
        mark = training.curve.marks[training.mark]
        self.paid[training.cell] = max(mark, self.paid.get(training.cell, 0))
        return training

    def end(self, training: _Training, outcome: Outcome) -> None:
        """Note how a trial ended, and what all had spent by then: others are in mid-slice."""
        in_flight = math.fsum(
            min(self.now - other.begun, self.slice(other)) for _, _, other in self.due
        )
        curve = training.curve
        final = curve.final if curve.complete or curve.diverged else math.nan
        whole = float(getattr(curve, self.cost))
        at = self.spent + in_flight
        self.trials.append(
            ReplayedTrial(training.cell, outcome, training.compute, at, self.now, final, whole)
        )


def replay(
    search: Search,
    bank: Bank,
    repetition: Mapping[Cell, Curve],
    workers: int = 1,
    compute: float = math.inf,
    cost: str = "flops",
    target: float = -math.inf,
    between: Callable[[], None] = lambda: None,
) -> Replay:
    """Run `search` on the curves of `repetition` until it ends or `compute` is spent.

    cost     "flops" or "seconds": what training costs, and how long it takes
    between  called whenever a trial trains on: what a driver does meanwhile
    No trial begins once `compute` is spent or one ended at `target`; those that run then finish. A
    proposal of a cell that is running fails at once, because its outcome is not known yet.
    """
    clock = _Clock(bank, cost)
    idle, repeats, over, reached = workers, 0, False, False
    while True:
        while idle and not (over or reached) and clock.spent < compute and repeats < REPEATS:
            trial = search.next_trial()
            if trial is None:
                over = True
                break
            cell = bank.cell(trial.settings)
            repeats = repeats + 1 if cell in clock.paid else 0
            if any(other.cell == cell for _, _, other in clock.due):
                search.fail(trial, "already running")
                repeats += 1
                continue
            clock.start(_Training(trial, cell, repetition[cell], clock.now))
            idle -= 1
        if not clock.due:
            return Replay(tuple(clock.trials), clock.spent, clock.now)
        training = clock.next()
        outcome = _observe(search, bank, training)
        if outcome is None:
            training.mark, training.begun = training.mark + 1, clock.now
            clock.start(training)
            between()
        else:
            clock.end(training, outcome)
            idle, over = idle + 1, False
            reached |= outcome is Outcome.COMPLETE and clock.trials[-1].final <= target


def _observe(search: Search, bank: Bank, training: _Training) -> Outcome | None:
    """Tell the search of an evaluation; how the trial ended, if it did."""
    curve, mark = training.curve, training.mark
    progress = evaluation(bank, curve, mark)
    if search.observe(training.trial, progress).stop:
        done = progress.done and not progress.diverged
        return Outcome.COMPLETE if done else Outcome.PRUNED
    if mark + 1 == len(curve.marks):
        search.fail(training.trial, "recorded no further")
        return Outcome.FAILED
    return None


def evaluation(bank: Bank, curve: Curve, mark: int) -> Progress:
    """The trainer's report at `mark` of a recorded run; fields that were not recorded are 0."""
    fraction = curve.marks[mark] / WHOLE
    epochs: Any = curve.settings.get("train.epochs", 1)
    ema, raw, loss = curve.ema[mark], curve.raw[mark], bank.loss(curve, mark)
    return Progress(
        basis_points=curve.marks[mark],
        step=curve.marks[mark],
        epoch=epochs * fraction,
        tokens=0,
        train_loss=curve.train[mark],
        val_loss=loss,
        val_loss_error=0.0,
        bits_per_byte=loss / math.log(2),
        raw_loss=raw,
        ema_loss=None if math.isnan(ema) else ema,
        lr=0.0,
        seconds=curve.seconds * fraction,
        diverged_step=None if math.isfinite(raw) else curve.marks[mark],
    )


def simulate(
    bank: Bank,
    sampler: SamplerConfig,
    prune: PruneConfig,
    order: int,
    *,
    trials: int,
    workers: int = 1,
    compute: float = math.inf,
    cost: str = "flops",
    target: float = -math.inf,
    first: Sequence[Mapping[str, Value]] = (),
    earlier: Any = (),
) -> Replay:
    """One sweep with our own session; `order` seeds its proposals and picks the repetition.

    first    settings that are proposed before any others, in this order
    earlier  sweeps of `sweep.search` that inform the search
    """
    from sweep.journal import Journal
    from sweep.session import Searching, Session, open_storage

    space = replace(bank.space(replace(sampler, seed=order), prune, trials), points=tuple(first))
    session = Session(space, Searching.open(open_storage(None), space, earlier), Journal(None))
    session.queue.budget.slots = workers
    curves = bank.repetition(order)
    return replay(session, bank, curves, workers, compute, cost, target, session.ask_ahead)
