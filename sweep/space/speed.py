"""How fast trials train: measured, given, or assumed from what this machine's matrices reach."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from model.config import Config, ConfigError, Cost, Value, trial_cost

SHARE = 0.25  # of the matrix peak that small networks reached on a CPU; from 0.1 to 0.3
SIDE = 768  # of the matrices
MEASURED_SECONDS = 2.0  # for each network that is timed


@dataclass(frozen=True)
class Speed:
    """FLOP/s by the size of a step: small steps are mostly overhead."""

    points: tuple[tuple[float, float], ...]  # (FLOPs a step, FLOP/s), sizes rising
    source: str
    memory: float | None = None  # most bytes that a GPU held, where that was measured
    devices: int = 1  # that share each step, while the points are of one

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
        each = self.rate(cost.flops / cost.steps / self.devices)
        return (cost.flops + cost.evaluation_flops) / (each * self.devices)


def shared(speed: Speed, devices: int) -> Speed:
    """The speed of trials on so many devices, each as fast as `speed` is on its part of a step."""
    if devices == 1:
        return speed
    source = f"{speed.source}; {devices} devices a trial, as if none waited for another"
    return replace(speed, devices=devices, source=source)


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


def measured(settings: Sequence[Mapping[str, Value]], cpus: float = 1.0, devices: int = 1) -> Speed:
    """Some steps of each of `settings`, timed. Raises ConfigError if they cannot be trained.

    cpus      cores of a trial, which is given as many threads
    devices   of a trial; one of them is timed, with its part of a batch
    """
    from model.training.device import limited_threads
    from model.training.timing import time_steps

    points: dict[float, float] = {}
    timings = []
    for one in (_part(whole, devices) for whole in settings):
        cost = trial_cost(one)
        with limited_threads(max(1, int(cpus))):
            timing = time_steps(Config.from_settings(one), MEASURED_SECONDS)
        timings.append(timing)
        points[cost.flops / cost.steps] = cost.flops / cost.steps / timing.seconds
    held = [timing.memory for timing in timings if timing.memory is not None]
    source = f"measured on this machine ({timings[0].device}), one trial at a time"
    return shared(Speed(tuple(sorted(points.items())), source, max(held, default=None)), devices)


def _part(settings: Mapping[str, Value], devices: int) -> Mapping[str, Value]:
    """`settings` with what one of `devices` has of a batch; as they are if they need it whole."""
    config = Config.from_settings(settings)
    sequences = config.train.batch_tokens // config.gpt.reach
    tokens = math.ceil(sequences / devices) * config.gpt.reach
    micro = min(config.train.micro_batch_tokens, tokens)
    part = {
        **settings,
        "train.batch_tokens": tokens,
        "train.micro_batch_tokens": micro if micro and tokens % micro == 0 else 0,
        "train.meta_parts": max(1, config.train.meta_parts // devices),
    }
    try:
        Config.from_settings(part)
    except ConfigError:
        return settings
    return part if devices > 1 else settings


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
