"""Trials that differ in nothing but their seed, as one proposal with a mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from model.setting import Value
from sweep.records import TrialView

SEED = "train.seed"


@dataclass(frozen=True)
class Proposal:
    """One proposal with all its trials."""

    searched: Mapping[str, Value]  # without the seed
    trials: tuple[TrialView, ...]

    @property
    def mean(self) -> float:
        """Of the trials' validation losses, nats per token."""
        return fmean(trial.val_loss for trial in self.trials)

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds; not a number for one."""
        losses = [trial.val_loss for trial in self.trials]
        return stdev(losses) if len(losses) > 1 else float("nan")


def by_proposal(trials: Sequence[TrialView]) -> list[Proposal]:
    """`trials` grouped by all they searched but the seed, lowest mean first."""
    groups: dict[tuple[tuple[str, Value], ...], list[TrialView]] = {}
    for trial in trials:
        searched = tuple((n, v) for n, v in sorted(trial.searched.items()) if n != SEED)
        groups.setdefault(searched, []).append(trial)
    found = [Proposal(_without_seed(group[0]), tuple(group)) for group in groups.values()]
    return sorted(found, key=lambda proposal: proposal.mean)


def _without_seed(trial: TrialView) -> dict[str, Value]:
    return {name: value for name, value in trial.searched.items() if name != SEED}
