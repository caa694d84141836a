"""One sweep's journal, sent to one store: which run each event belongs to, and when it is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient

from model.config import Value
from sweep import journal
from sweep.folder import EXTERNAL, JOURNAL
from sweep.records import Event, FinalistRun, Outcome, Role
from sweep.results import external
from sweep.results.confirmation_report import confirmed, verdict
from sweep.results.efficiency import Multiplier, multiplier
from sweep.results.sequential import means_anytime
from sweep.tracking import mending
from sweep.tracking.artifacts import Artifacts
from sweep.tracking.cursor import PARENT, load_cursor
from sweep.tracking.external import publish_external
from sweep.tracking.metrics import (
    BASELINE,
    BEST_BY_COST,
    BEST_BY_TRIALS,
    CONFIRMED_EFFICIENCY,
    CONFIRMED_LOSS,
    CONFIRMED_RUNS,
    EFFICIENCY,
    EFFICIENCY_BY_COST,
    EXPECTED_GAIN,
    Batches,
    MetricPoint,
    of_observation,
    of_outcome,
    of_settings,
    of_steps,
    of_worth,
)
from sweep.tracking.runs import Runs
from sweep.tracking.saved_view import saved_view, view_key
from sweep.view import TrialView, View

TOLD = ("sweep", "trial", "outcome")  # events with settings or errors, in words
METRICS_IN_HAND = 20_000  # sent before more of the journal is read


class Ended(NamedTuple):
    """How the search stood when one of its trials ended."""

    when: int  # milliseconds since 1970
    device_seconds: int  # spent on searching
    best: TrialView | None


class Publisher:
    """Sends one run folder's journal to one store."""

    def __init__(self, folder: Path, uri: str, artifacts: str | None) -> None:
        self._folder = folder
        self._client = MlflowClient(tracking_uri=uri)
        self._view = View()
        self._read = 0
        self.cursor = load_cursor(folder, uri)
        self._runs = Runs(self._client, self.cursor, artifacts)
        self._batches = Batches(self._client, self._runs.run_id)
        self._artifacts = Artifacts(self._client, self.cursor, folder)
        self._learned = False
        # Searched settings that the saved view has, and whether it leaves the baseline out.
        self._shown: tuple[list[str], bool] | None = None
        self._devices: dict[str, float] = {}  # of each trial
        self._device_seconds = 0.0  # spent on searching
        self._best: TrialView | None = None  # of the complete search trials so far
        self._ended: list[Ended] = []  # search trials, in the order they ended

    def publish(self) -> None:
        """Bring the store up to date with the journal. Raises MlflowException if it cannot."""
        path = self._folder / JOURNAL
        if not self._learned and self._has_begun(path) and not self._is_complete(path):
            self._begin_anew()  # a crash took lines, or somebody deleted runs, or the cursor
        for event, offset in journal.read_events(path, self._read):
            if event["event"] in TOLD:
                event = journal.told(
                    event
                )  # without secrets, which an earlier version may have noted
            journal.fold(self._view, event, path, self._read)
            self._read = offset
            self._take(event, send=offset > self.cursor.offset)
            if len(self._batches) >= METRICS_IN_HAND:
                self._save()
        if self._read > self.cursor.offset:
            self._show_view()
            self._save()

    def publish_files(self) -> None:
        """Send the files that the store lacks. Raises whatever the artifact store raises."""
        self._artifacts.bring_up_to_date(self._view)
        kept = self._folder / EXTERNAL
        if self.cursor.runs and kept.exists():
            self._publish_external(kept)

    def _publish_external(self, kept: Path) -> None:
        """Send imported runs of others, which this store may lack: it need not be the first."""
        when, digest = kept.stat().st_mtime_ns, hashlib.sha256(kept.read_bytes()).hexdigest()
        if self.cursor.files.get(kept.name) != digest:
            runs, sweep = external.read_kept(self._folder), self._view.header["id"]
            where = self.cursor.experiment
            publish_external(self._client, where, sweep, runs, when // 1_000_000)
            self.cursor.files[kept.name] = digest
            self.cursor.save(self._folder)

    def leave_interrupted(self) -> None:
        """Show no run as running: the driver is gone and did not note why."""
        if self._view.end is None and self.cursor.runs:
            self._interrupt()

    @staticmethod
    def _has_begun(path: Path) -> bool:
        return any(event["event"] == "sweep" for event, _ in islice(journal.read_events(path), 1))

    def _begin_anew(self) -> None:
        """Send all of the journal again: MLflow drops the points that it has."""
        self.cursor.offset, self.cursor.mark = 0, ""
        self.cursor.files, self.cursor.model = {}, {}

    def _is_complete(self, path: Path) -> bool:
        """Whether the cursor is of this journal, and the store has what it counts and no more.

        Runs with points that the journal lacks are deleted.
        """
        sent, now, ends_at_cursor, times = View(), View(), False, mending.Times()
        for event, offset in journal.read_events(path):
            if offset <= self.cursor.offset:
                sent.apply(event)
            now.apply(event)
            ends_at_cursor = ends_at_cursor or offset == self.cursor.offset
            mending.note_time(times, event)
        same = ends_at_cursor and self.cursor.mark in ("", journal.mark(path, self.cursor.offset))
        self._runs.learn(sent.header or now.header)
        self._learned = True
        stale = mending.forget_stale(self._client, self._runs, self.cursor, now, times, not same)
        return same and not stale and self._runs.has_all(sent)

    def _save(self) -> None:
        self._batches.flush()
        self.cursor.offset = self._read
        self.cursor.mark = journal.mark(self._folder / JOURNAL, self._read)
        self.cursor.save(self._folder)

    def _take(self, event: Event, send: bool) -> None:
        """Turn `event` into runs and points; what the store has already is only remembered."""
        trial = self._view.trials.get(event.get("trial", ""))
        if trial is not None:
            self._remember(event, trial)
        if not send:
            return
        if not self._learned:
            self._runs.learn(self._view.header)
            self._learned = True
        kind = event["event"]
        if kind == "sweep":
            self._runs.open_parent(event)
        elif kind == "baseline":
            self._take_baseline(event)
        elif kind == "confirmed":
            self._take_confirmed(event)
        elif kind == "end":
            self._end(event)
        elif trial is not None:
            self._take_of_trial(event, trial)

    def _take_of_trial(self, event: Event, trial: TrialView) -> None:
        kind = event["event"]
        if kind == "trial":
            recipe = self._recipe(trial)
            self._runs.open_trial(self._view.header, trial, recipe)
            for point in of_settings(trial, recipe, self._view.header.get("log_scaled", ())):
                self._batches.add(trial.name, point)
            if (gain := event.get("expected_gain")) is not None:
                number = self._view.searches().index(trial) + 1
                self._batches.add(PARENT, MetricPoint(EXPECTED_GAIN, gain, event["time"], number))
        elif kind == "observation":
            for point in of_observation(event):
                self._batches.add(trial.name, point)
            self._observe_efficiency(trial, event)
        elif kind == "steps":
            for point in of_steps(event):
                self._batches.add(trial.name, point)
        elif kind == "outcome":
            self._end_trial(trial)
            if trial.role is Role.SEARCH:
                self._note_best(len(self._ended) - 1)

    def _recipe(self, trial: TrialView) -> Mapping[str, Value]:
        """The searched settings that it trains; none of a baseline run."""
        if isinstance(trial.kind, FinalistRun):
            finalist = self._view.trials.get(trial.kind.finalist)
            return finalist.searched if finalist else {}
        return trial.searched if trial.role is Role.SEARCH else {}

    def _remember(self, event: Event, trial: TrialView) -> None:
        """Keep the best trial and the cost of searching so far, for the sweep's own curves."""
        kind = event["event"]
        if kind == "trial":
            self._devices[trial.name] = float(event.get("devices") or 1)
        elif kind == "observation" and trial.role is Role.SEARCH:
            before = trial.observations[-2]["seconds"] if len(trial.observations) > 1 else 0.0
            self._device_seconds += (event["seconds"] - before) * self._devices[trial.name]
        elif kind == "outcome" and trial.role is Role.SEARCH:
            better = self._best is None or trial.val_loss < self._best.val_loss
            if trial.outcome is Outcome.COMPLETE and better:
                self._best = trial
            self._ended.append(Ended(event["time"], round(self._device_seconds), self._best))

    def _observe_efficiency(self, trial: TrialView, event: Event) -> None:
        """How much data the baseline would need for this loss, where it was measured."""
        worth = self._worth(trial, event["val_loss"])
        if worth is not None and not worth.side:
            point = MetricPoint(EFFICIENCY, worth.value, event["time"], event["step"])
            self._batches.add(trial.name, point)

    def _worth(self, trial: TrialView, loss: float) -> Multiplier | None:
        """The data-efficiency multiplier of any other trial, once there is a baseline."""
        baseline = self._view.baseline
        if not baseline or trial.role is Role.BASELINE:
            return None
        return multiplier(loss, baseline, self._view.train_tokens(trial))

    def _end_trial(self, trial: TrialView) -> None:
        points, worth = list(of_outcome(trial)), self._worth(trial, trial.val_loss)
        if worth is not None and trial.outcome is Outcome.COMPLETE and trial.ended:
            points.append(of_worth(worth, trial.ended))
        for point in points:
            self._batches.add(trial.name, point)
        self._batches.flush_run(trial.name)
        tags = {"sweep.data_efficiency": str(worth) if worth else "", "sweep.trunk": trial.trunk}
        self._runs.end_trial(trial, {name: text for name, text in tags.items() if text})

    def _note_best(self, place: int) -> None:
        """The sweep's own curves: the best so far after so many trials, and at what cost."""
        when, seconds, best = self._ended[place]
        if best is None:
            return
        worth = self._worth(best, best.val_loss)
        self._batches.add(PARENT, MetricPoint(BEST_BY_COST, best.val_loss, when, seconds))
        self._batches.add(PARENT, MetricPoint(BEST_BY_TRIALS, best.val_loss, when, place + 1))
        if worth is not None and not worth.side:
            self._batches.add(PARENT, MetricPoint(EFFICIENCY_BY_COST, worth.value, when, seconds))

    def _take_baseline(self, event: Event) -> None:
        """Draw the baseline's curve, and give every earlier point its multiplier."""
        for tokens, loss in event["points"]:
            self._batches.add(PARENT, MetricPoint(BASELINE, loss, event["time"], int(tokens)))
        for trial in self._view.searches():
            for observation in trial.observations:
                self._observe_efficiency(trial, observation)
            if trial.outcome is not None:
                self._end_trial(trial)
        for place in range(len(self._ended)):
            self._note_best(place)

    def _take_confirmed(self, event: Event) -> None:
        """Give each finalist, and the sweep's own run the winner's, the mean of fresh seeds."""
        now = confirmed(self._view)
        if now is None:
            return
        for name, its in means_anytime(now.losses).items():
            if not its.runs or name not in self.cursor.runs:
                continue
            points = [(CONFIRMED_LOSS, its.value), (CONFIRMED_RUNS, float(its.runs))]
            worth = self._worth(self._view.trials[name], its.value)
            if worth is not None and not worth.side:
                points.append((CONFIRMED_EFFICIENCY, worth.value))
            for run in [name, PARENT] if name == now.leader else [name]:
                for metric, value in points:
                    self._batches.add(run, MetricPoint(metric, value, event["time"], 0))
            text = f"{its.value:.4f} of {its.runs} fresh seeds, {verdict(now, name)}"
            self._runs.tag(name, "sweep.confirmed", text)

    def _end(self, event: Event) -> None:
        if self._view.running():
            self._interrupt()
        else:
            self._batches.flush()
            well = self._view.end is not None and self._view.end.ending.well
            self._runs.status(PARENT, "FINISHED" if well else "FAILED", event["time"])

    def _interrupt(self) -> None:
        self._batches.flush()
        self._runs.interrupt([trial.name for trial in self._view.running()])

    def _show_view(self) -> None:
        """Columns and charts for all that is searched: conditional settings appear over time."""
        header, searches = self._view.header, self._view.searches()
        foreseen = header.get("searched", [])  # journals of earlier versions lack it
        searched = [*foreseen, *(name for trial in searches for name in trial.searched)]
        shown = (list(dict.fromkeys(searched)), bool(searches))
        if shown != self._shown:
            tag, value = saved_view(header, *shown)
            self._client.set_experiment_tag(self.cursor.experiment, tag, value)
            self.cursor.view = view_key(header)
            self._shown = shown
