"""What one evaluation of a run reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from model.clusters import Clusters, read_clusters

WHOLE = 10_000  # basis points in a finished schedule


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One evaluation, taken at a fixed fraction of the run's own schedule.

    Losses are nats per token. Those of averages are None where no such average was asked for, or
    none exists yet.
    """

    basis_points: int  # how much of the schedule is done, in 1/10,000: the step trials compare at
    step: int  # optimizer steps done
    epoch: float  # passes over the training tokens
    tokens: int  # training tokens seen, repeats counted
    train_loss: float  # mean since the last evaluation, with dropout
    val_loss: float  # of what train.evaluate names; of the last weights until that exists
    val_loss_error: float  # its standard error, over validation documents
    bits_per_byte: float  # of the same weights, on text: separators are left out
    raw_loss: float  # on validation, of the last weights
    ema_loss: float | None = None  # of their exponential moving average
    weights_loss: float | None = None  # of the averaged weights of epoch ends
    probabilities_loss: float | None = None  # of the averaged probabilities of epoch ends
    lr: float  # learning rate of the last step
    seconds: float  # spent in this run so far, over all its continuations
    diverged_step: int | None = None  # where the train loss exploded or was not a number
    clusters: Clusters | None = None  # of val_loss, once the schedule is over
    # Of a run that began from the trunk of another, and of no other:
    trunk_of: str = ""  # the run that trained it; `seconds` are without those of the trunk
    trunk_step: int = 0  # how many of `step` are the trunk's
    trunk_seconds: float = 0.0  # what they took there
    trunk_lost: str = ""  # why a trunk that was there could not be used
    # Of the first evaluation after a checkpoint could not be used: why, and from where it went on.
    checkpoint_lost: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.clusters, dict):  # as to_dict, a checkpoint and a journal have them
            object.__setattr__(self, "clusters", read_clusters(self.clusters))

    @property
    def done(self) -> bool:
        """True for the last evaluation of the schedule."""
        return self.basis_points == WHOLE

    @property
    def diverged(self) -> bool:
        """True for the last evaluation of a run that has no hope left."""
        return self.diverged_step is not None

    @property
    def gap(self) -> float:
        """How much worse the last weights do on validation than in training, nats per token."""
        return self.raw_loss - self.train_loss

    def to_dict(self) -> dict[str, Any]:
        """Its fields by name; clusters, a trunk's and what was lost only where there are any."""
        values = asdict(self)
        rare = {name for name in values if name.startswith("trunk_")}
        rare |= {"clusters", "checkpoint_lost"}
        return {name: value for name, value in values.items() if value or name not in rare}
