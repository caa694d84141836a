"""How fast trials train: measured, given, or assumed from what this machine's matrices reach."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.config import Config, Cost, Value, trial_cost

SHARE = 0.25  # of the matrix peak that small networks reached on a CPU; from 0.1 to 0.3
SIDE = 768  # of the matrices
MEASURED_SECONDS = 2.0  # for each network that is timed


@dataclass(frozen=True)
class Speed:
    """FLOP/s by the size of a step: small steps are mostly overhead."""

    points: tuple[tuple[float, float], ...]  # (FLOPs a step, FLOP/s), sizes rising
    source: str
    memory: float | None = None  # most bytes that a GPU held, where that was measured

    def rate(self, step_flops: float) -> float:
        """FLOP/s for steps of so many FLOPs: between measured sizes, else of the nearest."""
        sizes = [size for size, _ in self.points]
        if step_flops <= sizes[0]:
            return self.points[0][1]
        for (size_a, rate_a), (size_b, rate_b) in zip(self.points, self.points[1:], strict=False):
            if step_flops <= size_b:
                share = math.log(step_flops / size_a) / math.log(size_b / size_a)
                return float(rate_a ** (1 - share) * rate_b**share)
        return self.points[-1][1]

    def seconds(self, cost: Cost) -> float:
        """What one trial takes, its evaluations included; starting it is not."""
        return (cost.flops + cost.evaluation_flops) / self.rate(cost.flops / cost.steps)


def stated(rate: float) -> Speed:
    """The rate that the user knows, FLOP/s of one trial."""
    return Speed(((1.0, rate),), f"{rate:.3g} FLOP/s a trial, as given")


def assumed() -> Speed:
    """A share of what numpy's matrix products reach here; nothing is known of a GPU or cluster."""
    peak = _matrix_peak()
    source = (
        f"assuming {SHARE:.0%} of the {peak:.2g} FLOP/s that matrix products reach here; --measure "
        "trains for some seconds instead, --rate says it for another machine"
    )
    return Speed(((1.0, SHARE * peak),), source)


def measured(settings: Sequence[Mapping[str, Value]], cpus: float = 1.0) -> Speed:
    """Some steps of each of `settings`, timed. Raises ConfigError if they cannot be trained.

    cpus   cores of a trial, which is given as many threads
    """
    from model.training.device import limited_threads
    from model.training.timing import time_steps

    points: dict[float, float] = {}
    timings = []
    for one in settings:
        cost = trial_cost(one)
        with limited_threads(max(1, int(cpus))):
            timing = time_steps(Config.from_settings(one), MEASURED_SECONDS)
        timings.append(timing)
        points[cost.flops / cost.steps] = cost.flops / cost.steps / timing.seconds
    held = [timing.memory for timing in timings if timing.memory is not None]
    source = f"measured on this machine ({timings[0].device}), one trial at a time"
    return Speed(tuple(sorted(points.items())), source, max(held, default=None))


def _matrix_peak() -> float:
    """FLOP/s of the fastest of some products of matrices in single precision."""
    import numpy as np

    square = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    best = math.inf
    for _ in range(6):
        began = time.perf_counter()
        square @ square
        best = min(best, time.perf_counter() - began)
    return 2 * SIDE**3 / best
