"""The sweep without I/O of its own: what to run next, what to make of an observation.

Ray Tune and a plain loop both drive a Session and reach the same outcomes.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

from model.progress import WHOLE, Progress
from sweep.efficiency import measured
from sweep.errors import SweepError
from sweep.journal import Journal
from sweep.records import ATTEMPT, MULTIPLE, Event, Outcome, Role, Trial, Verdict
from sweep.space import Space
from sweep.study import Ledger

SETTLED = (Outcome.COMPLETE, Outcome.PRUNED)
CONTINUE = Verdict(stop=False)
DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|disk is full")


class Session:
    """One sweep, new or continued.

    Order of writing: the trainer's checkpoint, then the ledger, then the journal. Whatever a crash
    leaves out, the trainer yields again from its checkpoint, and steps already there are dropped.
    """

    def __init__(
        self,
        space: Space,
        search: Ledger,
        baseline: Ledger,
        journal: Journal,
        watch: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.space, self.journal = space, journal
        self._ledgers = {Role.SEARCH: search, Role.BASELINE: baseline}
        self._watch = watch
        self._reported: dict[str, set[int]] = {}
        self._failures = 0
        self.disk_full = False
        self._catch_up_journal()
        # A baseline run that fails is made up for by the next driver, when its cause may be gone.
        self._baselines_left = len(space.baseline.multiples) - baseline.spent()
        self._unfinished = deque([*baseline.unfinished(), *search.unfinished()])

    @property
    def gave_up(self) -> bool:
        """True when so many trials failed since we began that starting more would waste them."""
        return self._failures >= self.space.budget.failures

    @property
    def has_work(self) -> bool:
        """Whether there is a trial to run; a finished sweep needs no cluster to say so."""
        return bool(self._unfinished) or self._baselines_left > 0 or self._budget_left

    @property
    def _budget_left(self) -> bool:
        return self._ledgers[Role.SEARCH].spent() < self.space.budget.trials

    def next_trial(self) -> Trial | None:
        """The trial to run next, or None when the budget is spent or the sweep gave up.

        First those an earlier driver left unfinished, then the baseline, then new proposals.
        """
        if self.gave_up or self.disk_full:
            return None
        if self._unfinished:
            trial = self._unfinished.popleft()
        elif self._baselines_left:
            self._baselines_left -= 1
            trial = self._ledgers[Role.BASELINE].ask()
        elif self._budget_left:
            trial = self._ledgers[Role.SEARCH].ask()
        else:
            return None
        self._reported[trial.name] = self._ledgers[trial.role].reported(trial)
        self._note(
            "trial",
            trial=trial.name,
            role=trial.role,
            searched=dict(trial.searched),
            settings=dict(trial.settings),
        )
        return trial

    def observe(self, trial: Trial, progress: Progress) -> Verdict:
        """Take in one evaluation; the verdict says whether to go on.

        The trial is finished here when the verdict stops it or its schedule is over.
        """
        ledger = self._ledgers[trial.role]
        new = progress.basis_points not in self._reported[trial.name]
        if new:
            self._reported[trial.name].add(progress.basis_points)
            loss = float("inf") if progress.diverged else progress.val_loss
            ledger.report(trial, progress.basis_points, loss)
        self._note_observation(trial, progress)
        if progress.diverged:
            return self._finish(trial, Outcome.PRUNED, f"diverged at step {progress.diverged_step}")
        if progress.done:
            return self._finish(trial, Outcome.COMPLETE, "", progress.val_loss)
        if new and ledger.should_prune(trial):
            at = progress.basis_points / 100
            return self._finish(trial, Outcome.PRUNED, f"behind its peers at {at:g} %")
        return CONTINUE

    def fail(self, trial: Trial, error: str) -> None:
        """Record that `trial` ended by an exception or a lost worker; `error` is its traceback.

        A full disk is not the trial's fault: it stays unfinished, and nothing new is started.
        """
        if DISK_FULL.search(error):
            self.disk_full = True
            return
        self._failures += 1
        reason = error.strip().splitlines()[-1] if error.strip() else "no reason given"
        self._finish(trial, Outcome.FAILED, reason, error=error)

    def close(self, reason: str) -> None:
        """Note why the driver stops. Unfinished trials stay so, for the next driver."""
        self._note("end", reason=reason)
        self.journal.close()

    def _finish(
        self,
        trial: Trial,
        outcome: Outcome,
        reason: str,
        loss: float | None = None,
        error: str = "",
    ) -> Verdict:
        self.journal.sync()  # even after a power cut the ledger must not know more
        self._ledgers[trial.role].tell(trial, outcome, reason, loss)
        del self._reported[trial.name]
        self._note_outcome(trial, outcome, reason, error)
        return Verdict(stop=True, reason=reason)

    def _note(self, event: str, **about: Any) -> None:
        self._watch(self.journal.append(event, **about))

    def _note_observation(self, trial: Trial, progress: Progress) -> None:
        noted = self.journal.view.trials[trial.name].observations
        if all(event["basis_points"] != progress.basis_points for event in noted):
            about = {"gap": progress.gap, **progress.to_dict()}
            self._note("observation", trial=trial.name, **about)

    def _note_outcome(self, trial: Trial, outcome: Outcome, reason: str, error: str = "") -> None:
        about = {"error": error} if error else {}
        self._note("outcome", trial=trial.name, outcome=outcome, reason=reason, **about)
        self._note_baseline()

    def _note_baseline(self) -> None:
        """Once every baseline run has ended, their losses become the curve to measure against.

        A point that failed twice is left out.
        """
        view = self.journal.view
        runs = [t for t in view.trials.values() if t.role is Role.BASELINE]
        complete = [t for t in runs if t.outcome is Outcome.COMPLETE]
        settled = {t.searched[MULTIPLE] for t in runs if t.outcome in SETTLED}
        settled |= {t.searched[MULTIPLE] for t in runs if ATTEMPT in t.searched and t.outcome}
        if view.baseline is None and runs and settled == set(self.space.baseline.multiples):
            tokens = [int(t.settings["data.train_tokens"]) for t in complete]  # type: ignore[arg-type]
            points = measured([(n, t.val_loss) for n, t in zip(tokens, complete, strict=True)])
            self._note("baseline", points=[list(point) for point in points])

    def _catch_up_journal(self) -> None:
        """Tell the journal of outcomes that the ledger has and a crash kept from it."""
        for ledger in self._ledgers.values():
            for trial, outcome, reason in ledger.finished():
                noted = self.journal.view.trials.get(trial.name)
                whole = noted is not None and noted.last and noted.last["basis_points"] == WHOLE
                if noted is None or (outcome is Outcome.COMPLETE and not whole):
                    raise SweepError(
                        f"the journal lacks what the ledger has of trial {trial.name}",
                        hint="journal.jsonl was changed or lost; restore it, or begin anew with "
                        "--name.",
                        code=1,
                    )
                if noted.outcome is None:
                    self._note_outcome(trial, outcome, reason)
        self._note_baseline()
