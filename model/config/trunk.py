"""The trunk of a run: its first steps, where runs of other epoch counts do exactly the same.

With a rate that is constant and then falls (2405.18392), nothing before the fall depends on how
long the run is, if nothing else does: runs that differ in `train.epochs` alone can share it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from model.config.config import Config

EPOCHS = "train.epochs"
PATHS = ("data.reference", "train.teacher")  # settings that name what lies beside the driver


@dataclass(frozen=True)
class SharedTrunks:
    """Where runs keep their trunks, and for whom."""

    folder: Path
    epochs: tuple[int, ...]  # counts that other runs may have


def trunk_problems(config: Config) -> list[str]:
    """Why runs that differ from `config` in epochs alone do not begin alike; empty if they do."""
    optim, gpt, problems = config.optim, config.gpt, []
    if not optim.schedule.startswith("constant") and optim.name != "schedule_free":
        problems.append(
            f"optim.schedule: {optim.schedule} falls from the start, faster where epochs are few; "
            "choose constant_linear, constant_1-sqrt or constant_sqrt"
        )
    if optim.warmup and not optim.warmup_epochs:
        problems.append(
            f"optim.warmup: {optim.warmup:g} of the run is longer where epochs are many; set it to "
            "0, or give optim.warmup_epochs"
        )
    if optim.decay_schedule != "constant":
        problems.append(
            f"optim.decay_schedule: {optim.decay_schedule} goes by fractions of the run; set it to "
            "constant"
        )
    if optim.momentum_warmup and optim.name == "muon":
        problems.append(
            f"optim.momentum_warmup: {optim.momentum_warmup:g} of the run is longer where epochs "
            "are many; set it to 0"
        )
    if len(gpt.replayed) and gpt.replay_start:
        problems.append(
            f"gpt.replay_start: {gpt.replay_start:g} of the run is later where epochs are many; "
            "set it or gpt.replay_passes to 0"
        )
    if gpt.mtp == "offsets":
        problems.append(
            "gpt.mtp: weights of offsets go by fractions of the run; choose no or block"
        )
    if config.train.members > 1:
        problems.append("train.members: trunks are of one network; set it to 1")
    if config.train.log_probs == "epochs":
        problems.append(
            "train.log_probs: those of epochs that a trunk has done are not made again; choose last"
        )
    return problems


def trunk_steps(config: Config) -> int:
    """How many first steps of the run are of its trunk; 0 if `trunk_problems` has any."""
    if trunk_problems(config):
        return 0
    optim, epochs, per_epoch = config.optim, config.train.epochs, config.steps_per_epoch
    ends = [config.steps]
    if optim.name != "schedule_free":
        if optim.schedule != "constant":
            # The step that begins at this fraction still has the whole rate, so that rounding
            # down, in floating point too, never takes in a step of the fall.
            ends.append(math.floor((1 - optim.warmdown) * config.steps))
        if optim.cycle_epochs:
            ends.append((epochs - optim.cycle_epochs) * per_epoch)
    if config.train.average_last:  # the first end of an epoch that is averaged comes after
        ends.append((epochs - config.train.average_last + 1) * per_epoch - 1)
    return min(ends)


def branch_steps(config: Config, epochs: Iterable[int]) -> tuple[int, ...]:
    """Steps at which runs of other `epochs` leave the trunk of this one, and where it ends itself.

    Those after its own end are left out.
    """
    own = trunk_steps(config)
    others = {
        trunk_steps(config.with_epochs(count))
        for count in epochs
        if count >= config.train.average_last
    }
    return tuple(sorted(step for step in others | {own} if 0 < step <= own))


def recipe_digest(config: Config) -> str:
    """The same for runs that differ in `train.epochs` alone."""
    settings = {name: value for name, value in config.settings().items() if name != EPOCHS}
    for name in PATHS:
        if settings[name]:  # workers of a cluster stand in another folder
            settings[name] = os.path.abspath(str(settings[name]))
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
