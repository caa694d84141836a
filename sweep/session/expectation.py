"""What an unfinished trial would end at, from its last evaluation and from finished trials."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from sweep.search import Ends, Forecast, Snapshot
from sweep.session.enqueue import SETTINGS_ATTR

MOST = 512  # finished trials that a forecast looks at: the best half, and an even choice of others


class Expectation:
    """What finished trials tell of the ends of others; made once for many of those.

    complete   by number; those that were never evaluated at a trial's fraction are left out
    """

    def __init__(self, complete: Sequence[FrozenTrial]) -> None:
        self._complete = _thinned([t for t in complete if math.isfinite(t.value)])
        self._ends: dict[int, Ends] = {}

    def of(self, trial: FrozenTrial) -> Forecast | None:
        """The forecast of `trial` at its last evaluation; None where there is none to be had."""
        step = trial.last_step
        if step is None:
            return None
        if step not in self._ends:
            peers = [peer for peer in self._complete if step in peer.intermediate_values]
            self._ends[step] = Ends([_snapshot(peer, step, peer.value) for peer in peers])
        return self._ends[step].expect(_snapshot(trial, step))


def _thinned(complete: list[FrozenTrial]) -> list[FrozenTrial]:
    """`complete`, or MOST of them in the same order."""
    if len(complete) <= MOST:
        return complete
    by_loss = sorted(range(len(complete)), key=lambda n: (complete[n].value, n))
    best, rest = by_loss[: MOST // 2], sorted(by_loss[MOST // 2 :])
    evenly = [rest[n * len(rest) // (MOST - MOST // 2)] for n in range(MOST - MOST // 2)]
    return [complete[n] for n in sorted([*best, *evenly])]


def _snapshot(trial: FrozenTrial, step: int, final: float = math.nan) -> Snapshot:
    settings = trial.user_attrs.get(SETTINGS_ATTR, {})
    return Snapshot(settings, trial.intermediate_values[step], final)
