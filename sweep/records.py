"""The nouns everyone shares: what a trial is, how it ended, why a sweep did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar

from model.config import Value
from sweep.format import three_digits

Event = dict[str, Any]
SEED = "train.seed"
SEEDS = (SEED, "train.data_seed")  # in what runs of one recipe differ
SCALE = "gpt.scale"
MULTIPLE, ATTEMPT = "multiple", "attempt"  # names in journals, studies and MLflow's parameters
FINALIST, FRESH = "finalist", "seed"
OUTSIDE = "outside"  # who trains the trials of a sweep that is asked and told, not run


class Outcome(StrEnum):
    """How a trial ended. Pruned is knowledge about the settings; failed is not."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class TrialEnding(StrEnum):
    """Why a trial ended."""

    FINISHED = "finished"  # its schedule is over
    DIVERGED = "diverged"
    BEHIND = "behind its peers"
    TOO_SLOW = "too slow"  # it would break a constraint on seconds
    INFEASIBLE = "infeasible"  # it breaks a constraint known before training, and was not begun
    FAILED = "failed"  # by an exception
    OUT_OF_MEMORY = "out of memory"  # of the host or of a GPU: nothing as large is tried again
    LOST = "lost its workers"  # which died or vanished again and again: not by an exception

    @property
    def outcome(self) -> Outcome:
        """What the trial counts as."""
        if self is TrialEnding.FINISHED:
            return Outcome.COMPLETE
        failed = (TrialEnding.FAILED, TrialEnding.OUT_OF_MEMORY, TrialEnding.LOST)
        return Outcome.FAILED if self in failed else Outcome.PRUNED


class Ending(StrEnum):
    """Why a driver of a sweep stopped."""

    TRIALS_SPENT = "trials spent"
    BUDGET_SPENT = "budget spent"  # hours, device-hours or FLOPs
    NOTHING_FITS = "nothing fits"  # in what is left of the budget
    TARGET_REACHED = "target reached"
    NOTHING_LEFT = "nothing left to try"
    SETTLED = "settled"  # nothing that could be tried was expected to gain anything
    CONFIRMED = "confirmed"
    MEMBERS_TRAINED = "members trained"  # of an ensemble
    DISTILLED = "distilled"
    NO_MEMORY = "nothing fits in memory"  # that is smaller than what ran out of it
    RUNS_FAILED = "some runs failed"  # of a confirmation, or of an ensemble's members
    GAVE_UP = "too many trials failed"
    INTERRUPTED = "interrupted"
    DISK_FULL = "disk full"
    NO_CLUSTER = "Ray cluster unreachable"
    CRASHED = "failed"

    @property
    def well(self) -> bool:
        """Whether the sweep did its work."""
        return self in (
            Ending.TRIALS_SPENT,
            Ending.BUDGET_SPENT,
            Ending.NOTHING_FITS,
            Ending.TARGET_REACHED,
            Ending.NOTHING_LEFT,
            Ending.SETTLED,
            Ending.CONFIRMED,
            Ending.MEMBERS_TRAINED,
            Ending.DISTILLED,
        )


@dataclass(frozen=True)
class End:
    """The end of a driver: why, and the sentence for people where there is more to say."""

    ending: Ending
    detail: str = ""

    def __str__(self) -> str:
        return self.detail or str(self.ending)


class Role(StrEnum):
    """A trial searches, measures the plain baseline or runs a search trial again."""

    SEARCH = "search"
    BASELINE = "baseline"
    CONFIRM = "confirm"


@dataclass(frozen=True)
class Proposal:
    """A trial that searches: what the sampler, a point of the space or a repeat proposed."""

    role: ClassVar[Role] = Role.SEARCH
    searched: Mapping[str, Value]  # by setting

    def name(self, number: int) -> str:
        """By its number in the study."""
        return f"{number:04d}"

    def __str__(self) -> str:
        return " ".join(f"{name}={three_digits(value)}" for name, value in self.searched.items())


@dataclass(frozen=True)
class BaselinePoint:
    """A trial that measures the plain baseline; size and seeds only where there are several."""

    role: ClassVar[Role] = Role.BASELINE
    multiple: int  # of the training budget
    scale: float | None = None  # of the network
    seeds: tuple[int, ...] = ()  # values of SEEDS
    attempt: int = 1  # from 2 on, those before failed

    @property
    def varied(self) -> dict[str, Value]:
        """The settings in which points of one multiple differ."""
        size: dict[str, Value] = {} if self.scale is None else {SCALE: self.scale}
        return size | dict(zip(SEEDS, self.seeds, strict=False))

    @property
    def first(self) -> BaselinePoint:
        """Its first attempt, which stands for what every attempt measures."""
        return replace(self, attempt=1)

    @property
    def searched(self) -> Mapping[str, Value]:
        """As journals have it."""
        return {MULTIPLE: self.multiple, **self.varied, **_attempt(self.attempt)}

    def name(self, number: int) -> str:
        """baseline-2x, or baseline-2x-scale0.5-seed1 where there are several sizes and seeds."""
        parts = [f"baseline-{self.multiple}x"]
        parts += [f"scale{self.scale:g}"] if self.scale is not None else []
        parts += [f"seed{self.seeds[0]}"] if self.seeds else []
        parts += [str(self.attempt)] if self.attempt > 1 else []
        return "-".join(parts)

    def __str__(self) -> str:
        return f"plain baseline on {self.multiple}x data {Proposal(self.varied)}".rstrip()


@dataclass(frozen=True)
class FinalistRun:
    """A trial that runs one of the search's best again with fresh seeds."""

    role: ClassVar[Role] = Role.CONFIRM
    finalist: str  # name of the search trial
    seed: int  # which of the fresh seeds it has, from 1
    attempt: int = 1  # from 2 on, those before failed

    @property
    def searched(self) -> Mapping[str, Value]:
        """As journals have it."""
        return {FINALIST: self.finalist, FRESH: self.seed, **_attempt(self.attempt)}

    def name(self, number: int) -> str:
        """0012-s3, or 0012-s3-2 for a second attempt."""
        again = f"-{self.attempt}" if self.attempt > 1 else ""
        return f"{self.finalist}-s{self.seed}{again}"

    def __str__(self) -> str:
        return f"{self.finalist} again, fresh seed {self.seed}"


Kind = Proposal | BaselinePoint | FinalistRun


def _attempt(attempt: int) -> dict[str, Value]:
    return {ATTEMPT: attempt} if attempt > 1 else {}


def read_kind(role: Role, searched: Mapping[str, Any]) -> Kind:
    """What a trial is, from what journals and studies have of it."""
    if role is Role.BASELINE:
        return read_baseline_point(searched)
    if role is Role.CONFIRM:
        return read_finalist_run(searched)
    return Proposal(dict(searched))


def read_baseline_point(searched: Mapping[str, Any]) -> BaselinePoint:
    """What a baseline trial measures, from what journals and studies have of it."""
    seeds = tuple(int(searched[name]) for name in SEEDS if name in searched)
    attempt = searched.get(ATTEMPT, 1)
    return BaselinePoint(searched[MULTIPLE], searched.get(SCALE), seeds, attempt)


def read_finalist_run(searched: Mapping[str, Any]) -> FinalistRun:
    """What a confirming trial runs again, from what journals and studies have of it."""
    finalist = searched.get(FINALIST) or searched["contender"]  # as version 0.1 called it
    return FinalistRun(finalist, searched[FRESH], searched.get(ATTEMPT, 1))


@dataclass(frozen=True)
class Trial:
    """One run of the trainer, as it was proposed."""

    number: int  # in its study, from 0
    kind: Kind
    settings: Mapping[str, Value]  # what the trainer is given: fixed and searched

    @property
    def role(self) -> Role:
        return self.kind.role

    @property
    def searched(self) -> Mapping[str, Value]:
        """What tells it from others of its role."""
        return self.kind.searched

    @property
    def name(self) -> str:
        """Names the trial everywhere: its folder, its MLflow run, the leaderboard."""
        return self.kind.name(self.number)


@dataclass(frozen=True)
class Verdict:
    """What a session decides on an observation."""

    stop: bool
    reason: str = ""


@dataclass(frozen=True)
class BaselineRun:
    """One run of the plain recipe, or one cell of a table of them."""

    tokens: float
    loss: float  # nats per token
    size: float = 1.0  # tells sizes of the network apart; its unit does not matter

    @classmethod
    def of(cls, settings: Mapping[str, Value], val_loss: float) -> BaselineRun:
        """The run that trained these settings."""
        tokens, size = settings["data.train_tokens"], settings.get(SCALE, 1.0)
        return cls(int(tokens), val_loss, float(size))  # type: ignore[arg-type]
