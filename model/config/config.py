"""Every setting of the trainer: dotted name, unit, default, bounds and one line of meaning.

A setting has one spelling everywhere: `optim.lr` is the YAML key, the field here, the parameter in
the study and in MLflow, and the `--set` flag. Defaults live in this file and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from model.config.aliases import suggestion
from model.config.data import DataConfig
from model.config.gpt import GPTConfig
from model.config.optim import MULTIPLIER, USUAL_WEIGHT_DECAY, OptimConfig
from model.config.setting import (
    ConfigError,
    Setting,
    Value,
    describe,
)
from model.config.size import WITHIN, block_parameters, scaled
from model.config.train import TrainConfig

__all__ = [
    "DIGEST_OF",
    "MULTIPLIER",
    "SETTINGS",
    "Config",
    "DataConfig",
    "GPTConfig",
    "OptimConfig",
    "TrainConfig",
]


# Settings that name files, which may lie elsewhere later, and those that say which files they are.
DIGEST_OF = {"data.path": "data.digest", "gpt.init": "gpt.init_digest"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """All it takes to train one GPT."""

    data: DataConfig = DataConfig()
    gpt: GPTConfig = GPTConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()

    @classmethod
    def from_settings(cls, settings: Mapping[str, object]) -> Config:
        """Build from dotted names; raises ConfigError with every problem at once."""
        problems: list[str] = []
        parts: dict[str, dict[str, Value]] = {part.name: {} for part in fields(cls)}
        for name, value in settings.items():
            if name not in SETTINGS:
                problems.append(f"{name}: no such setting{suggestion(name, SETTINGS)}")
                continue
            try:
                part, _, key = name.partition(".")
                parts[part][key] = typed = SETTINGS[name].check(value)
                if typed in SETTINGS[name].words:
                    problems.append(f"{name}: {typed} is known once the data are counted")
            except ConfigError as error:
                problems.append(f"{name}: {error}")
        if problems:
            raise ConfigError(problems)
        config = cls(**{name: _PARTS[name](**values) for name, values in parts.items()})
        config.check_together()
        return config._with_both_decays(set(settings))

    def _with_both_decays(self, named: set[str]) -> Config:
        """Decay as multiplier and as timescale: one was given or is the default, one follows."""
        timescale, multiplier = self.optim.decay_timescale, self.optim.weight_decay_multiplier
        per_multiplier = USUAL_WEIGHT_DECAY * self.optim.lr * self.steps_per_epoch
        if timescale:
            if timescale * self.steps_per_epoch < 1:
                raise ConfigError(
                    [
                        f"optim.decay_timescale: {timescale:g} epochs are less than a step "
                        f"({1 / self.steps_per_epoch:.3g}), which would shrink weights by more "
                        "than all of them"
                    ]
                )
            derived = 1 / (timescale * per_multiplier)
            if MULTIPLIER in named and not math.isclose(multiplier, derived, rel_tol=1e-6):
                raise ConfigError(
                    [
                        f"optim.decay_timescale: {timescale:g} epochs are {MULTIPLIER} "
                        f"{derived:g} at this rate and batch, but {multiplier:g} is given; give one"
                    ]
                )
            optim = replace(self.optim, weight_decay_multiplier=derived)
        else:
            decay = multiplier * per_multiplier  # may be too small for a number
            derived = 1 / decay if decay else 0.0
            optim = replace(self.optim, decay_timescale=derived)
        return replace(self, optim=optim)

    def settings(self) -> dict[str, Value]:
        """Every setting by its dotted name."""
        nested = asdict(self)
        return {f"{part}.{key}": v for part, group in nested.items() for key, v in group.items()}

    def check_together(self) -> None:
        """Refuse settings that are each possible but not together."""
        problems = [*self.data.problems(), *(self.gpt.problems() or _scaling_problems(self.gpt))]
        problems += [*self.optim.problems(self.train.epochs), *self.train.problems()]
        micro, reach = self.train.micro_batch_tokens, self.gpt.reach
        sequence = _sequence(self.gpt)
        if micro and (micro % reach or self.train.batch_tokens % micro):
            problems.append(
                f"train.micro_batch_tokens: must be a multiple of {sequence} ({reach}) "
                f"and a divisor of train.batch_tokens ({self.train.batch_tokens}), got {micro}"
            )
        if self.train.batch_tokens % reach:
            problems.append(
                f"train.batch_tokens: must be a multiple of {sequence} ({reach}), "
                f"got {self.train.batch_tokens}"
            )
        elif self.steps_per_epoch < 1:
            problems.append(
                f"data.train_tokens: {self.data.train_tokens} are too few for one batch of "
                f"train.batch_tokens ({self.train.batch_tokens})"
            )
        elif self.steps < self.train.evals:
            problems.append(
                f"train.evals: {self.train.evals} evaluations need as many steps, but the "
                f"schedule has {self.steps}; lower train.evals or train.batch_tokens"
            )
        if self.train.meta_step and not problems:
            problems += self._without_halves() + self._without_what_it_moves()
        if self.optim.cycle_epochs > self.train.epochs:
            problems.append(
                f"optim.cycle_epochs: must be at most train.epochs ({self.train.epochs}), "
                f"got {self.optim.cycle_epochs}"
            )
        cyclic = {
            "train.average_cycles": self.train.average_cycles > 0,
            "train.chain_after": self.train.chain_after > 0,
            "train.log_probs": self.train.log_probs == "cycles",
        }
        problems += [
            f"{name}: there are cycles with optim.schedule cyclic alone, got {self.optim.schedule}"
            for name, asked in cyclic.items()
            if asked and self.optim.schedule != "cyclic"
        ]
        if self.data.val_tokens <= self.gpt.context:
            problems.append(
                f"data.val_tokens: must be above gpt.context ({self.gpt.context}), "
                f"got {self.data.val_tokens}"
            )
        if problems:
            raise ConfigError(problems)

    def _without_halves(self) -> list[str]:
        """Why a step's batch cannot be cut as `train.meta_step` does; empty if it can."""
        train, reach = self.train, self.gpt.reach
        sequences, halves = train.batch_tokens // reach, 2 * train.meta_parts
        cut = f"train.meta_step: cuts a batch into {halves} halves of parts"
        if sequences % halves:
            return [
                f"{cut}, but train.batch_tokens ({train.batch_tokens}) is {sequences} x "
                f"{_sequence(self.gpt)} ({reach}); make it a multiple of {halves} of them"
            ]
        half, micro = train.batch_tokens // halves, train.micro_batch_tokens
        if 0 < micro < half and half % micro:
            return [
                f"{cut} of {half} tokens each, which train.micro_batch_tokens ({micro}) must divide"
            ]
        return []

    def _without_what_it_moves(self) -> list[str]:
        """That there is nothing which `train.meta_step` moves; empty if there is something."""
        has_mlps = any(self.gpt.layer_units) or self.gpt.mtp == "block"
        if self.train.meta_on == "mlp" and not has_mlps:
            return [
                "train.meta_on: mlp moves nothing, as gpt.units_by_layer leaves no hidden unit; "
                "set it to matrices"
            ]
        return []

    @property
    def epochs_per_cycle(self) -> int:
        """Epochs after each of which the rate begins anew; all of them in a run without cycles."""
        return self.train.epochs // (self.optim.cycles if self.optim.schedule == "cyclic" else 1)

    @property
    def averaged_epochs(self) -> range:
        """Epochs, counted from 1, whose ends are averaged."""
        epochs, step = self.train.epochs, 1
        if self.train.average_cycles:
            step = self.epochs_per_cycle
        ends = self.train.average_cycles or self.train.average_last
        return range(max(0, epochs - ends * step) + step, epochs + 1, step)

    def with_epochs(self, epochs: int) -> Config:
        """The same recipe for another number of epochs; not checked."""
        return replace(self, train=replace(self.train, epochs=epochs))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass; a last batch that is not full is left out."""
        sequences = (self.data.train_tokens - 1) // self.gpt.reach
        return sequences // (self.train.batch_tokens // self.gpt.reach)

    @property
    def steps(self) -> int:
        """Optimizer steps in the whole schedule."""
        return self.steps_per_epoch * self.train.epochs


def _sequence(gpt: GPTConfig) -> str:
    """What the tokens of a sequence are, in settings."""
    return "gpt.context x gpt.context_windows" if gpt.context_vector else "gpt.context"


def _scaling_problems(gpt: GPTConfig) -> list[str]:
    """What shows only in the shape that is trained: its heads, and what `gpt.scale` makes of it."""
    try:
        asked = gpt.scale * block_parameters(gpt)
    except ConfigError as error:  # no such heads
        return list(error.problems)
    if gpt.scale == 1.0:
        return []
    shape = scaled(gpt)
    off = block_parameters(shape) / asked - 1
    problems = shape.problems()
    if abs(off) > WITHIN:
        problems.append(
            f"gpt.scale: no shape is within {WITHIN:.0%} of {gpt.scale:g} times the parameters; "
            f"the nearest, {shape.layers} layers of width {shape.width}, is {off:+.0%} off"
        )
    return problems


_PARTS: dict[str, Any] = {
    "data": DataConfig,
    "gpt": GPTConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
}


SETTINGS: dict[str, Setting] = {
    name: setting
    for part, config in _PARTS.items()
    for name, setting in describe(part, config).items()
}
