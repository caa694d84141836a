"""What an unfinished trial would end at, from its last evaluation and from finished trials."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from sweep.search import Forecast, Snapshot, expected_final
from sweep.session.enqueue import SETTINGS_ATTR


def expected_end(trial: FrozenTrial, complete: Sequence[FrozenTrial]) -> Forecast | None:
    """The forecast of `trial` at its last evaluation; None where there is none to be had.

    complete   trials that finished; those that were never evaluated at its fraction are left out
    """
    step = trial.last_step
    if step is None:
        return None
    finished = [
        _snapshot(peer, step, peer.value)
        for peer in complete
        if step in peer.intermediate_values and math.isfinite(peer.value)
    ]
    return expected_final(_snapshot(trial, step), finished)


def _snapshot(trial: FrozenTrial, step: int, final: float = math.nan) -> Snapshot:
    settings = trial.user_attrs.get(SETTINGS_ATTR, {})
    return Snapshot(settings, trial.intermediate_values[step], final)
