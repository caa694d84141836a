"""How long a worker may say nothing of its trial before it counts as hung."""

from __future__ import annotations

import math
from itertools import pairwise

from model.config import SETTINGS
from sweep.results.budget import expected_seconds
from sweep.view import TrialView, View

LEAST = 15 * 60.0  # seconds; a machine that is busy, or a disk that is slow, is no hang
START = 30 * 60.0  # seconds more before the first evaluation: imports, a token table, compiling
UNKNOWN = 24 * 3600.0  # seconds, where no trial has been evaluated yet


def silence_limit(view: View, name: str, multiple: float) -> float:
    """Seconds after which a trial's worker is hung: a multiple of what it is expected to take.

    What it took longest under this driver, on average before, or what the FLOPs between two
    evaluations take other trials, whichever is most, by the clock. Infinite if the multiple is 0.
    """
    if not multiple:
        return math.inf
    trial = view.trials[name]
    times = [trial.begun, *(e["time"] for e in trial.observations if e["time"] >= trial.begun)]
    longest = max(((after - before) / 1000 for before, after in pairwise(times)), default=0.0)
    if trial.trained:
        longest = max(longest, trial.clock_seconds / trial.trained / _evaluations(trial))
    others = [t for t in list(view.trials.values()) if t.last and t is not trial]
    seen = [(its.flops * its.trained, its.clock_seconds) for its in others]
    expected = expected_seconds(trial.flops / _evaluations(trial), seen)
    if math.isnan(expected) and not longest:
        return UNKNOWN
    slack = START if len(times) == 1 else 0.0
    return max(LEAST, multiple * max(longest, 0.0 if math.isnan(expected) else expected)) + slack


def _evaluations(trial: TrialView) -> int:
    evals = trial.settings.get("train.evals", SETTINGS["train.evals"].default)
    return max(1, int(evals))  # type: ignore[arg-type]
