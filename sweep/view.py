"""The sweep as its journal tells it: events folded into a View."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from model.clusters import Clusters, read_clusters
from model.config import Value
from model.progress import WHOLE
from sweep.records import (
    BaselinePoint,
    BaselineRun,
    End,
    Ending,
    Event,
    Kind,
    Outcome,
    Role,
    TrialEnding,
    read_baseline_point,
    read_kind,
)

T = TypeVar("T")


@dataclass
class TrialView:
    """What the journal tells about one trial."""

    name: str
    kind: Kind
    settings: dict[str, Value]
    started: int  # milliseconds since 1970
    observations: list[Event] = field(default_factory=list)
    ending: TrialEnding | None = None  # None while it runs
    reason: str = ""  # in words, where there is more to say
    ended: int | None = None
    asked: int = 0  # milliseconds since 1970 when it was given out again, to be trained outside
    flops: float = 0.0  # training FLOPs of its whole schedule
    devices: float = 0.0  # GPUs it has, or CPU cores where it has none
    expected_gain: float | None = None  # nats, of any trial when it was proposed; None: not known
    spared: float = 0.0  # fraction of its schedule that a shared trunk was expected to spare it
    begun: int = 0  # when it began or last went on, milliseconds since 1970
    seconds_before: float = 0.0  # that it had trained for by then
    workers_lost: int = 0  # times that its worker died and it went on with another, or ended
    lost: str = ""  # why a checkpoint of it could not be used, and from where it went on

    @property
    def role(self) -> Role:
        return self.kind.role

    @property
    def searched(self) -> Mapping[str, Value]:
        """What tells it from others of its role."""
        return self.kind.searched

    @property
    def outcome(self) -> Outcome | None:
        """What it counts as; None while it runs."""
        return self.ending.outcome if self.ending else None

    @property
    def last(self) -> Event | None:
        """The latest observation."""
        return self.observations[-1] if self.observations else None

    @property
    def heard(self) -> int:
        """Milliseconds since 1970 when it was last given out or told of."""
        return max(self.started, self.asked, self.last["time"] if self.last else 0)

    @property
    def machine(self) -> Event | None:
        """The latest that trained it, by model.training.machine; None in journals before that."""
        noted = (event["machine"] for event in reversed(self.observations) if "machine" in event)
        return next(noted, None)

    @property
    def val_loss(self) -> float:
        """The latest validation loss, nats per token; not a number before the first."""
        return float(self.last["val_loss"]) if self.last else float("nan")

    @property
    def clusters(self) -> Clusters | None:
        """Its final validation loss by stretches of text; None where that was not kept."""
        kept = self.last.get("clusters") if self.last else None
        return read_clusters(kept) if kept else None

    @property
    def seconds(self) -> float:
        """Seconds it has trained for, as of its latest observation."""
        return float(self.last["seconds"]) if self.last else 0.0

    @property
    def latest(self) -> int:
        """When it was last heard of, milliseconds since 1970."""
        return max(self.begun, int(self.last["time"]) if self.last else 0)

    @property
    def clock_seconds(self) -> float:
        """Seconds by the clock until its latest observation: its start and evaluations too."""
        return self.seconds_before + (self.latest - self.begun) / 1000

    @property
    def done(self) -> float:
        """Fraction of its own schedule, as of its latest observation."""
        return float(self.last["basis_points"]) / WHOLE if self.last else 0.0

    @property
    def trained(self) -> float:
        """Fraction of its own schedule that it trained itself: `done` without a shared trunk."""
        if not self.last:
            return 0.0
        from_trunk = float(self.last.get("trunk_step", 0) / self.last["step"])
        return self.done * (1 - from_trunk)

    @property
    def first(self) -> Event | None:
        """The first observation that it trained for itself: others came with a shared trunk."""
        for event in self.observations:
            if event["step"] > event.get("trunk_step", 0) or event["basis_points"] == WHOLE:
                return event
        return None

    @property
    def trunk(self) -> str:
        """Where it began, if it began from the trunk of another trial or was to; else empty."""
        first = self.first
        if first is None:
            return ""
        step, of = first.get("trunk_step", 0), first.get("trunk_of", "")
        begins = "at its start"
        if of:
            epochs = first["epoch"] * step / first["step"]
            begins = f"from the trunk of trial {of} at {epochs:.3g} epochs"
        if lost := first.get("trunk_lost"):
            return f"{begins}: {lost}"
        expected = self.spared * first["step"] * WHOLE / first["basis_points"]
        if step < round(expected):
            return f"{begins}: {'a longer one' if of else 'the trunk it was to begin from'} is gone"
        return begins if of else ""


@dataclass
class View:
    """The state of a sweep after the events of its journal.

    Console, status, report and MLflow all read it.
    """

    trials: dict[str, TrialView] = field(default_factory=dict)
    header: Event = field(default_factory=dict)
    baseline: list[tuple[float, float]] | None = None  # (tokens, nats per token), once known
    baseline_runs: list[BaselineRun] = field(default_factory=list)  # what it is the best of
    baseline_source: str = ""  # "measured", "table" or "slowrun"
    recalled: dict[BaselinePoint, BaselineRun] = field(default_factory=dict)  # of earlier sweeps
    end: End | None = None  # why the sweep last stopped; None while it runs
    rejected: int = 0  # proposals that did not fit the budget, since a trial last began
    budgets: dict[Role, Event] = field(default_factory=dict)  # as the last driver of each role had
    confirm: Event | None = None  # what was last asked to be confirmed, and how
    ensemble: Event | None = None  # which members or students the driver of now trains; else None
    confirmed: list[Event] = field(default_factory=list)  # every end of a confirmation
    sealed: list[Event] = field(default_factory=list)  # every look at the test split
    steps_noted: int = 0  # the latest step of a single run whose train loss is noted
    slots: int = 0  # trials that run at once; 0 while the driver starts what they run on
    began: int | None = None  # milliseconds since 1970 of its first driver
    _driven: dict[Role, int] = field(default_factory=dict)  # milliseconds of earlier drivers
    _latest: int = 0  # milliseconds since 1970 of the latest event
    _worked: bool = False  # whether a trial began, or went on, since the driver of now did
    _events: int = 0  # that were folded in
    _derived: dict[str, tuple[tuple[int, int], Any]] = field(default_factory=dict, compare=False)

    def apply(self, event: Event) -> None:
        """Fold one journal event in."""
        self._events += 1
        kind = event["event"]
        if kind == "sweep":
            if self.header:
                self._driven[self.role] = self._milliseconds(self.role, self._latest)
            else:
                self.began = event.get("time")
            self.header, self.end, self.ensemble = event, None, None
            self.slots, self._worked = 0, False
            self.budgets[self.role] = event.get("budget", {})
        elif kind == "steps":
            self.steps_noted = event["step"]
        elif kind == "ready":
            self.slots = event["slots"]
        elif kind == "rejected":
            self.rejected += 1
        elif kind == "trial":
            self.rejected, self._worked = 0, True
            trial = self.trials.setdefault(
                event["trial"],
                TrialView(
                    event["trial"],
                    read_kind(Role(event["role"]), event["searched"]),
                    event["settings"],
                    event["time"],
                    flops=event.get("flops", 0.0),
                    devices=event.get("devices", 0.0),
                    expected_gain=event.get("expected_gain"),
                    spared=event.get("spared", 0.0),
                ),
            )
            trial.begun, trial.seconds_before = event["time"], trial.seconds
        elif kind == "observation":
            self.trials[event["trial"]].observations.append(event)
        elif kind == "lost":
            self.trials[event["trial"]].lost = event["reason"]
        elif kind == "worker lost":
            self.trials[event["trial"]].workers_lost += 1
        elif kind == "asked":
            self.trials[event["trial"]].asked = event["time"]
        elif kind == "outcome":
            trial = self.trials[event["trial"]]
            trial.ending, trial.reason = trial_ending(event), event["reason"]
            trial.ended = event["time"]
        elif kind == "baseline":
            self.baseline = [(tokens, loss) for tokens, loss in event["points"]]
            # journals of earlier versions have nothing but points, all measured
            self.baseline_source = event.get("source", "measured")
            self.baseline_runs = [BaselineRun(*run) for run in event.get("runs", self.baseline)]
        elif kind == "recalled":
            point = read_baseline_point(event["searched"])
            self.recalled[point] = BaselineRun.of(event["settings"], event["val_loss"])
        elif kind == "confirm":
            # "contenders": as version 0.1 called them
            self.confirm = {"finalists": event.get("contenders"), **event}
        elif kind in ("members", "students"):
            self.ensemble = event
        elif kind == "confirmed":
            self.confirmed.append(event)
        elif kind == "sealed":
            self.sealed.append(event)
        elif kind == "end":
            self.end = End(sweep_ending(event), event["reason"])
        self._latest = event.get("time", self._latest)

    def once(self, name: str, derive: Callable[[View], T]) -> T:
        """What `derive` makes of the view, made once for as long as no event comes."""
        # First: another thread may fold an event in meanwhile. A view made by hand has had none.
        state = self._events, len(self.trials)
        before, derived = self._derived.get(name, (None, None))
        if before != state or not self._events:
            derived = derive(self)
            self._derived[name] = state, derived
        return cast("T", derived)

    @property
    def role(self) -> Role:
        """What the latest driver runs or ran: the search, or the confirmation."""
        return Role(self.header.get("role", Role.SEARCH))

    def wall_seconds(self, role: Role, now: int | None = None) -> float:
        """Time that drivers of `role` have been at work, those that were killed included.

        now   milliseconds since 1970, if a driver is at work

        A driver that found nothing to do has spent none of it.
        """
        return self._milliseconds(role, self._latest if now is None else now) / 1000

    def _milliseconds(self, role: Role, now: int) -> int:
        current = now - int(self.header["time"]) if self._worked and role is self.role else 0
        return self._driven.get(role, 0) + current

    def searches(self) -> list[TrialView]:
        """Search trials, in the order they began."""
        # Copied first: the live view reads this from its own thread while the driver adds trials.
        return [t for t in list(self.trials.values()) if t.role is Role.SEARCH]

    def running(self) -> list[TrialView]:
        """Trials of every role that have not ended."""
        return [t for t in list(self.trials.values()) if t.outcome is None]

    def count(self, outcome: Outcome) -> int:
        """Search trials that ended this way."""
        return sum(t.outcome is outcome for t in self.searches())

    def train_tokens(self, trial: TrialView) -> int:
        """What `trial` may read: its own budget where that is searched, else the sweep's."""
        own = trial.settings.get("data.train_tokens", self.header["train_tokens"])
        return int(own)  # type: ignore[arg-type]

    def ranked(self) -> list[TrialView]:
        """Complete search trials, lowest final validation loss first."""
        complete = [t for t in self.searches() if t.outcome is Outcome.COMPLETE]
        return sorted(complete, key=lambda t: t.val_loss)


# How the sentences of version 0.1 begin, whose journals say no ending; the first that fits counts.
SWEEP_SENTENCES = {
    "budget spent: nothing": Ending.NOTHING_FITS,
    "budget spent:": Ending.BUDGET_SPENT,
    "budget spent": Ending.TRIALS_SPENT,
    "target loss": Ending.TARGET_REACHED,
    "nothing left": Ending.NOTHING_LEFT,
    "every point": Ending.NOTHING_LEFT,
}
TRIAL_SENTENCES = {
    "diverged": TrialEnding.DIVERGED,
    "would take": TrialEnding.TOO_SLOW,
    "breaks": TrialEnding.INFEASIBLE,
}


def sweep_ending(event: Event) -> Ending:
    """Why the driver stopped that wrote this event of an end."""
    if "ending" in event:
        return Ending(event["ending"])
    reason = event["reason"]
    if reason in set(Ending) - {Ending.BUDGET_SPENT}:
        return Ending(reason)
    begins = (ending for text, ending in SWEEP_SENTENCES.items() if reason.startswith(text))
    return next(begins, Ending.CRASHED)


def trial_ending(event: Event) -> TrialEnding:
    """Why the trial of this event of an outcome ended."""
    if "ending" in event:
        return TrialEnding(event["ending"])
    outcome, reason = Outcome(event["outcome"]), event["reason"]
    if outcome is not Outcome.PRUNED:
        return TrialEnding.FINISHED if outcome is Outcome.COMPLETE else TrialEnding.FAILED
    begins = (ending for text, ending in TRIAL_SENTENCES.items() if reason.startswith(text))
    return next(begins, TrialEnding.BEHIND)
