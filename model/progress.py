"""What one evaluation of a run reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

WHOLE = 10_000  # basis points in a finished schedule


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One evaluation, taken at a fixed fraction of the run's own schedule."""

    basis_points: int  # how much of the schedule is done, in 1/10,000: the step trials compare at
    step: int  # optimizer steps done
    epoch: float  # passes over the training tokens
    tokens: int  # training tokens seen, repeats counted
    train_loss: float  # nats per token, mean since the last evaluation, with dropout
    val_loss: float  # nats per token
    val_loss_error: float  # its standard error over validation sequences
    bits_per_byte: float  # on validation
    lr: float  # learning rate of the last step
    seconds: float  # spent in this run so far, over all its continuations
    diverged: bool = False  # a loss is not a number, or that of training exploded

    @property
    def done(self) -> bool:
        """True for the last evaluation of the schedule."""
        return self.basis_points == WHOLE

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
