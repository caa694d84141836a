"""A sweep's decisions: which trial runs next, and whether a running one goes on.

Ray Tune and a plain loop both drive a Session and reach the same outcomes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from model.progress import WHOLE, Progress
from model.secrets import redacted
from sweep.errors import SweepError
from sweep.journal import Journal
from sweep.records import End, Event, Outcome, Role, Trial, TrialEnding, Verdict
from sweep.session.baseline import curve
from sweep.session.baseline_cache import BaselineCache
from sweep.session.failures import Failure, Failures, ending_of, reason_of
from sweep.session.memory_limit import MemoryLimit
from sweep.session.pruner import compared_loss
from sweep.session.roles import BaselineTrials, Confirming, Searching
from sweep.session.trial_queue import ConfirmationQueue, SearchQueue, flops
from sweep.space import Space
from sweep.space.baseline import baseline_settings
from sweep.space.constraint import SECONDS, projected_seconds
from sweep.view import View

CONTINUE = Verdict(stop=False)
LATE = round(0.8 * WHOLE)  # basis points, before which a trial's end is not near enough to foresee
DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large|disk is full")


class Session:
    """One sweep, new or continued: it hands out trials, judges their evaluations and records both.

    Written first is the trainer's checkpoint, then the ledger, then the journal. What a crash keeps
    from the last two, the trainer yields again from its checkpoint; they drop steps they have.
    """

    def __init__(
        self,
        space: Space,
        task: Searching | Confirming,
        journal: Journal,
        watch: Callable[[Event], None] = lambda event: None,
        cache: BaselineCache | None = None,
    ) -> None:
        """task: the studies that trials come from, of a search or of a confirmation."""
        self.space, self.journal, self._cache = space, journal, cache
        self._search = task.search if isinstance(task, Searching) else None
        asking = (task.baseline, task.search) if isinstance(task, Searching) else (task.finalists,)
        self._ledgers = {asker.role: asker.ledger for asker in asking}
        self._watch = watch
        self._reported: dict[str, set[int]] = {}
        # Running trials whose next evaluation is their last, and for whose slot none is proposed.
        self._ending: set[str] = set()
        self._failures = Failures(space.budget.failures)
        self.disk_full = False
        self._catch_up_journal()
        self._memory = MemoryLimit(journal.view)
        self.queue: SearchQueue | ConfirmationQueue
        if isinstance(task, Searching):
            _recall(task.baseline, space, journal.view, cache, self.note)
            self._note_baseline()
            self.queue = SearchQueue(
                space, task, journal.view, self.note, self._memory, self._failures
            )
        else:
            self.queue = ConfirmationQueue(space, task, journal.view)

    @property
    def gave_up(self) -> bool:
        """Whether so many trials failed one after another that more would be wasted."""
        return self._failures.too_many

    @property
    def first_failure(self) -> Failure | None:
        """The first of the failures for which it gave up."""
        return self._failures.first

    @property
    def has_work(self) -> bool:
        """Whether there is a trial to run; without one the driver starts no cluster."""
        return self.queue.has_work

    @property
    def end(self) -> End:
        """Why no trial is left to run."""
        return self._failures.end if self.gave_up else self.queue.end

    def certificate(self) -> list[str]:
        """The certificate of `sampler.name: coordinate`, in lines; no line from other samplers."""
        certificate = self._search.certificate() if self._search else None
        return certificate.lines() if certificate else []

    def next_trial(self) -> Trial | None:
        """The trial to run next, or None when the budget is spent or the sweep gave up."""
        if self.gave_up or self.disk_full:
            return None
        trial = self.queue.next(self._reported)
        if trial is None:
            return None
        self._reported[trial.name] = self._ledgers[trial.role].reported(trial)
        self._note_begun(trial)
        return trial

    def go_on(self, trial: Trial) -> None:
        """Note that a trial which this session handed out begins anew, from its checkpoint."""
        self._note_begun(trial)

    def hold(self) -> list[Trial]:
        """The trials that are out: begun and not over, trained by others whom nobody can watch.

        They count as running: `next_trial` hands none of them out, and `observe` and `fail` take
        what is told of them. Failed trials count from the last header on.
        """
        assert isinstance(self.queue, SearchQueue)
        view, out = self.journal.view, self.queue.take_unfinished()
        for trial in out:
            self._reported[trial.name] = self._ledgers[trial.role].reported(trial)
        began = view.header["time"]
        since = [trial for trial in view.searches() if (trial.ended or 0) > began]
        for past in sorted(since, key=lambda past: past.ended or 0):
            if past.outcome is not Outcome.FAILED:
                self._failures.ended_well(past.name)
            elif past.ending is not TrialEnding.OUT_OF_MEMORY or not self._memory.needs(
                past.settings
            ):
                self._failures.failed(past.name, past.reason)
        return out

    def ask_ahead(self) -> None:
        """Propose a trial for one slot that is about to be free, if there is any.

        For drivers whose trials run elsewhere, when no result is waiting: the next proposal then
        costs no worker any time. What it did not see is how those trials ended that it follows;
        where one trial runs at a time, that would be too much to miss.
        """
        if self._search is None or self.gave_up or self.disk_full:
            return
        assert isinstance(self.queue, SearchQueue)
        slots = self.queue.budget.slots
        if self._ending and 1 < slots <= len(self._reported):
            self._ending.pop()
            self.queue.ask_ahead(self._reported)

    def observe(
        self, trial: Trial, progress: Progress, usage: Mapping[str, float] | None = None
    ) -> Verdict:
        """Record one evaluation of `trial`, and decide whether the trial goes on.

        usage   of the machine by training since the evaluation before; only the journal has it
        The trial is finished here when the verdict stops it or its schedule is over.
        """
        if progress.checkpoint_lost:
            self._note_loss(trial, progress.checkpoint_lost)
        ledger = self._ledgers[trial.role]
        new = progress.basis_points not in self._reported[trial.name]
        if new:
            self._reported[trial.name].add(progress.basis_points)
            compared = compared_loss(progress, self.space.prune.signal)
            loss = float("inf") if progress.diverged else compared
            ledger.report(trial, progress.basis_points, loss)
        self._note_observation(trial, progress, usage)
        self._failures.evaluated(trial.name)
        if progress.diverged:
            return self._finish(
                trial, TrialEnding.DIVERGED, f"diverged at step {progress.diverged_step}"
            )
        if too_slow := self._too_slow(trial):
            return self._finish(trial, TrialEnding.TOO_SLOW, too_slow)
        if progress.done:
            return self._finish(trial, TrialEnding.FINISHED, "", progress.val_loss)
        if new and self._search and trial.role is Role.SEARCH and self._search.should_prune(trial):
            at = progress.basis_points / 100
            return self._finish(trial, TrialEnding.BEHIND, f"behind its peers at {at:g} %")
        if _next_is_last(self._reported[trial.name]):
            self._ending.add(trial.name)
        return CONTINUE

    def fail(self, trial: Trial, error: str, lost: bool = False) -> None:
        """Record that `trial` ended without a result; `error` is its traceback.

        lost   it lost its worker too often, which no exception of its own explains

        A full disk is not the trial's fault: it stays unfinished, and nothing new is started. One
        that ran out of memory is no reason to give up: nothing as large is begun again. If as large
        a one has trained, that does not help, and it counts as any other failure.
        """
        if DISK_FULL.search(error):
            self.disk_full = True
            return
        error = redacted(error)  # which goes into the ledger too
        ending, reason = ending_of(error, lost), reason_of(error)
        too_large = ending is TrialEnding.OUT_OF_MEMORY
        if too_large:
            reason = reason[max(0, reason.find(TrialEnding.OUT_OF_MEMORY)) :]
        needs = self._memory.needs(trial.settings) if too_large else 0.0
        if not needs:
            self._failures.failed(trial.name, error)
        self._finish(trial, ending, reason, error=error, needs=needs)

    def lose_worker(self, trial: Trial, error: str) -> bool:
        """Note that the worker of `trial` died; whether the trial may go on with another one.

        It may not if the worker ran out of memory: it would again. Then the trial ends here.
        """
        self.note("worker lost", trial=trial.name, reason=reason_of(error))
        if ending_of(error, lost=True) is not TrialEnding.OUT_OF_MEMORY:
            return True
        self.fail(trial, error, lost=True)
        return False

    def may_go_on_elsewhere(self, error: str) -> bool:
        """Whether another worker may do better with a trial that failed of `error`.

        Not if the trial ran out of memory, nor if the disk is full on which the sweep is kept.
        """
        return not DISK_FULL.search(error) and ending_of(error) is not TrialEnding.OUT_OF_MEMORY

    def excuse(self, trials: Collection[str]) -> None:
        """Take trials that failed for no reason to give up: their node was to blame."""
        self._failures.excuse(trials)

    def close(self, end: End) -> None:
        """Note why the driver stops. Unfinished trials stay so, for the next driver."""
        self.note("end", ending=end.ending, reason=str(end), certificate=self.certificate())
        self.journal.close()

    def _finish(
        self,
        trial: Trial,
        ending: TrialEnding,
        reason: str,
        loss: float | None = None,
        error: str = "",
        needs: float = 0.0,
    ) -> Verdict:
        self.journal.sync()  # even after a power cut the ledger must not know more
        failed = ending.outcome is Outcome.FAILED
        violations = {} if failed else self._violations(trial)
        self._ledgers[trial.role].tell(trial, ending, reason, loss, violations)
        del self._reported[trial.name]
        self._ending.discard(trial.name)
        if self._cache and trial.role is Role.BASELINE and loss is not None:
            self._cache.remember(trial.settings, loss)
        self.queue.nothing_fits = False
        if not failed:
            self._failures.ended_well(trial.name)
        self._note_outcome(trial, ending, reason, error=error, needs=needs)
        return Verdict(stop=True, reason=reason)

    def _seconds(self, trial: Trial) -> float:
        """Expected seconds of `trial` from its first step to its last; 0 before an evaluation."""
        noted = self.journal.view.trials[trial.name].observations
        # The limit is on the recipe's time, whoever trained its first steps.
        marks = [
            (event["basis_points"], event["seconds"] + event.get("trunk_seconds", 0.0))
            for event in noted
        ]
        return projected_seconds(marks) if marks else 0.0

    def _violations(self, trial: Trial) -> dict[str, float]:
        """By constraint on seconds, how far a search trial will be beyond its limit."""
        limits = [c for c in self.space.constraints if c.quantity == SECONDS]
        if trial.role is not Role.SEARCH or not limits:
            return {}
        seconds = self._seconds(trial)
        return {str(limit): limit.violation(seconds) for limit in limits}

    def _too_slow(self, trial: Trial) -> str:
        """Why `trial` is stopped for the time it takes; empty if it goes on."""
        broken = [name for name, beyond in self._violations(trial).items() if beyond > 0]
        return f"would take {self._seconds(trial):.0f} s: {', '.join(broken)}" if broken else ""

    def note(self, event: str, **fields: Any) -> None:
        """Add an event to the journal and show it to the watcher."""
        self._watch(self.journal.append(event, **fields))

    def _note_begun(self, trial: Trial) -> None:
        spared = self.queue.budget.spared(trial.settings)
        gain = None
        if self._search and trial.role is Role.SEARCH:
            gain = self._search.expected_gain(trial)
        self.note(
            "trial",
            trial=trial.name,
            role=trial.role,
            searched=dict(trial.searched),
            settings=dict(trial.settings),
            flops=flops(trial.settings),
            devices=self.queue.budget.devices,
            **({"spared": spared} if spared else {}),
            **({} if gain is None else {"expected_gain": gain}),
        )

    def _note_loss(self, trial: Trial, reason: str) -> None:
        """Note that a checkpoint could not be used, once: a later driver hears of it again."""
        if self.journal.view.trials[trial.name].lost != reason:
            self.note("lost", trial=trial.name, reason=reason)

    def _note_observation(
        self, trial: Trial, progress: Progress, usage: Mapping[str, float] | None
    ) -> None:
        noted = self.journal.view.trials[trial.name].observations
        if all(event["basis_points"] != progress.basis_points for event in noted):
            fields = {"gap": progress.gap, **progress.to_dict()}
            if fields.get("machine") == self.journal.view.trials[trial.name].machine:
                fields.pop("machine", None)  # once for each that it is trained on
            fields |= {"usage": dict(usage)} if usage else {}
            self.note("observation", trial=trial.name, **fields)

    def _note_outcome(
        self, trial: Trial, ending: TrialEnding, reason: str, **more: str | float
    ) -> None:
        fields = {"trial": trial.name, "outcome": ending.outcome, "ending": ending}
        said = {name: value for name, value in more.items() if value}
        self.note("outcome", **fields, reason=reason, **said)
        self._note_baseline()

    def _note_baseline(self) -> None:
        measured = curve(self.space, self.journal.view) if self._search else None
        if measured is not None:
            self.note("baseline", **measured)

    def _catch_up_journal(self) -> None:
        """Note in the journal what outcomes the ledger has and a crash kept from the journal."""
        for ledger in self._ledgers.values():
            for trial, ending, reason in ledger.finished():
                noted = self.journal.view.trials.get(trial.name)
                whole = noted is not None and noted.last and noted.last["basis_points"] == WHOLE
                if noted is None or (ending is TrialEnding.FINISHED and not whole):
                    raise SweepError(
                        f"the journal lacks what the ledger has of trial {trial.name}",
                        hint="journal.jsonl was changed or lost: put it back, or begin anew with "
                        "--name. `sweep doctor` shows what is wrong.",
                        code=1,
                    )
                if noted.ending is None:
                    self._note_outcome(trial, ending, reason)


def _next_is_last(basis_points: Collection[int]) -> bool:
    """Whether a trial evaluated at these is about to end: its last fifth is one interval more."""
    before, last = sorted([0, *basis_points])[-2:]
    return last >= LATE and 2 * last - before >= WHOLE - 2  # marks are rounded


def _recall(
    baseline: BaselineTrials,
    space: Space,
    view: View,
    cache: BaselineCache | None,
    note: Callable[..., None],
) -> None:
    """Take over the baseline runs that an earlier sweep measured under the same conditions."""
    if cache:
        for point in (its.first for its in baseline.missing()):
            settings = baseline_settings(space, point)
            loss = cache.recall(settings)
            if loss is not None and point not in view.recalled:
                note("recalled", searched=dict(point.searched), settings=settings, val_loss=loss)
    for point in view.recalled:
        baseline.recall(point)
