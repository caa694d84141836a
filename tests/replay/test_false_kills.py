"""The default rule on made-up curves that differ in their schedules: it stops none of the best."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from model.config import Config, Value
from model.progress import WHOLE
from sweep.replay.bank import Bank, make_bank
from sweep.replay.curves import Curve
from sweep.replay.simulator import simulate
from sweep.space.settings import PruneConfig, SamplerConfig

MARKS = tuple(range(1000, WHOLE + 1, 1000))
SCHEDULES: list[dict[str, Value]] = [
    {"optim.schedule": "cosine"},
    {"optim.schedule": "linear"},
    *({"optim.schedule": "constant_linear", "optim.warmdown": w} for w in (0.2, 0.4, 0.8)),
]


def recorded(settings: dict[str, Value], draw: random.Random) -> Curve:
    """What is still to come falls with the rate, the more the stronger the decay."""
    optim = Config.from_settings(settings).optim
    decay, rate = math.log2(optim.weight_decay_multiplier), math.log2(optim.lr / 0.004)
    final = 3 + 0.03 * (decay - 3) ** 2 + 0.04 * rate**2 + draw.gauss(0, 0.004)
    final += 0.02 * (optim.schedule == "linear") + 0.1 * (optim.warmdown - 0.4) ** 2
    final += 0.2 * Config.from_settings(settings).gpt.dropout
    losses = tuple(
        final + (1 - mark / WHOLE) ** 2 + still_to_come(settings, mark / WHOLE) * (0.2 + decay / 10)
        for mark in MARKS
    )
    unknown = (math.nan,) * len(MARKS)
    return Curve(settings, MARKS, losses, unknown, losses, seconds=1.0, flops=1e9)


def still_to_come(settings: dict[str, Value], done: float) -> float:
    """The rate as a share of its peak, roughly."""
    left = 1 - done
    if settings["optim.schedule"] == "constant_linear":
        return min(1.0, left / float(str(settings["optim.warmdown"])))
    return left if settings["optim.schedule"] == "linear" else 0.5 - math.cos(math.pi * left) / 2


def bank_of_schedules() -> Bank:
    draw = random.Random(0)
    return make_bank(
        recorded({**schedule, "optim.lr": lr, MULTIPLIER: decay, "gpt.dropout": dropout}, draw)
        for schedule in SCHEDULES
        for lr in (0.002, 0.004, 0.008)
        for decay in (2.0, 8.0, 32.0)
        for dropout in (0.0, 0.1)
    )


MULTIPLIER = "optim.weight_decay_multiplier"
BANK = bank_of_schedules()
SWEEPS = 4


def kills(prune: PruneConfig) -> tuple[int, float]:
    """Eventual best threes stopped, and the share of compute saved, over the sweeps."""
    sampler = SamplerConfig(name="random")
    replays = [simulate(BANK, sampler, prune, order, trials=40) for order in range(SWEEPS)]
    return sum(r.killed() for r in replays), sum(r.saved for r in replays) / SWEEPS


def test_the_default_stops_none_of_the_best_across_schedules_and_saves_compute() -> None:
    killed, saved = kills(PruneConfig())

    assert killed == 0
    assert saved > 0.05


def test_raw_losses_stop_the_best_across_schedules() -> None:
    """So the curves above do mislead."""
    assert kills(replace(PruneConfig(), signal="val"))[0] >= 2
