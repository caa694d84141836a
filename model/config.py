"""Every setting of the trainer: dotted name, unit, default, bounds and one line of meaning.

A setting has one spelling everywhere: `optim.lr` is the YAML key, the field here, the parameter in
the study and in MLflow, and the `--set` flag. Defaults live in this file and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from model.setting import ConfigError, Setting, Value, describe, did_you_mean, setting

USUAL_WEIGHT_DECAY = 0.1  # the value most recipes leave untouched; multipliers are relative to it


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    path: str = setting(
        "", "", "text file, directory of text files or Parquet file; empty: Python's own library"
    )
    tokenizer: str = setting("bytes", "", "how text becomes tokens", choices=("bytes", "gpt2"))
    train_tokens: int = setting(65_536, "tokens", "the training budget, seen once per epoch", low=2)
    val_tokens: int = setting(16_384, "tokens", "held out for searching and pruning", low=2)
    test_tokens: int = setting(16_384, "tokens", "sealed until the search is over", low=2)
    digest: str = setting("", "", "refuse a token table with another digest; empty: any")


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    layers: int = setting(2, "", "transformer blocks at scale 1", low=1)
    width: int = setting(64, "", "residual stream at scale 1, a multiple of 4", low=8)
    head_width: int = setting(32, "", "about how wide one attention head is", low=2)
    context: int = setting(64, "tokens", "longest window attended over", low=2)
    scale: float = setting(
        1.0, "x", "non-embedding parameters relative to layers x width", above=0, high=1e6
    )
    dropout: float = setting(0.0, "", "probability on attention and MLP outputs", low=0, high=0.9)

    def scaled(self) -> GPTConfig:
        """The same network at `scale` times the parameters: depth and width grow together.

        Parameters go with layers x width^2, so both grow with the cube root of `scale` and their
        ratio stays. Among shapes within 10 % of the asked count the one of nearest ratio wins.
        """
        if self.scale == 1.0:
            return self
        asked = self.scale * self.layers * self.width**2
        ratio = self.width / self.layers

        def misfit(layers: int, width: int) -> tuple[bool, float]:
            count_off = abs(layers * width**2 / asked - 1)
            ratio_off = abs(math.log(width / layers / ratio))
            return count_off > 0.1, ratio_off + count_off

        root = self.scale ** (1 / 3)
        shapes = [
            (layers, max(8, 4 * round(math.sqrt(asked / layers) / 4)))
            for layers in range(max(1, int(self.layers * root) - 2), int(self.layers * root) + 4)
        ]
        layers, width = min(shapes, key=lambda shape: misfit(*shape))
        return replace(self, layers=layers, width=width, scale=1.0)

    @property
    def heads(self) -> int:
        """Attention heads: the count nearest width / head_width that leaves an even head width."""
        fitting = [h for h in range(1, self.width // 2 + 1) if self.width % (2 * h) == 0]
        return min(fitting, key=lambda h: abs(h - self.width / self.head_width))


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    name: str = setting(
        "adamw",
        "",
        "Muon leaves embedding and head to AdamW",
        choices=("adamw", "muon"),
    )
    lr: float = setting(
        0.004, "", "peak rate; with Muon, of the blocks' 2-D weights only", above=0, high=10
    )
    rest_lr: float = setting(
        0.004, "", "peak AdamW rate of embeddings and head beside Muon", above=0, high=10
    )
    weight_decay_multiplier: float = setting(
        1.0, "x 0.1", "decoupled decay: each step shrinks weights by lr x 0.1 x this", low=0
    )
    momentum: float = setting(0.95, "", "Muon's momentum", low=0, high=0.999)
    beta1: float = setting(0.9, "", "AdamW's mean of gradients", low=0, high=0.999)
    beta2: float = setting(0.95, "", "AdamW's mean of squared gradients", low=0, high=0.9999)
    schedule: str = setting(
        "cosine", "", "how the rate falls to zero", choices=("cosine", "linear")
    )
    warmup: float = setting(0.05, "of run", "fraction with a rising rate", low=0, high=0.9)
    grad_clip: float = setting(1.0, "", "largest gradient norm; 0: no clipping", low=0)

    @property
    def weight_decay(self) -> float:
        """Decoupled weight decay: a step shrinks weights by lr x this."""
        return USUAL_WEIGHT_DECAY * self.weight_decay_multiplier


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    epochs: int = setting(1, "", "passes over the training tokens", low=1)
    batch_tokens: int = setting(1024, "tokens", "per optimizer step", low=2)
    evals: int = setting(8, "", "evaluations, at equal fractions of the schedule", low=1, high=1000)
    seed: int = setting(0, "", "initialisation and dropout", low=0, high=2**31)
    data_seed: int = setting(0, "", "order of sequences in each epoch", low=0, high=2**31)
    device: str = setting("auto", "", "where to train", choices=("auto", "cpu", "cuda"))
    precision: str = setting(
        "auto",
        "",
        "autocast type; auto: bf16 on GPU, fp32 on CPU",
        choices=("auto", "fp32", "bf16"),
    )


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
                problems.append(f"{name}: no such setting{did_you_mean(name, SETTINGS)}")
                continue
            try:
                part, _, key = name.partition(".")
                parts[part][key] = SETTINGS[name].check(value)
            except ConfigError as error:
                problems.append(f"{name}: {error}")
        if problems:
            raise ConfigError(problems)
        config = cls(**{name: _PARTS[name](**given) for name, given in parts.items()})
        config.check_together()
        return config

    def settings(self) -> dict[str, Value]:
        """Every setting by its dotted name."""
        nested = asdict(self)
        return {f"{part}.{key}": v for part, group in nested.items() for key, v in group.items()}

    def check_together(self) -> None:
        """Refuse settings that are each possible but not together."""
        problems = []
        if self.gpt.width % 4:
            problems.append(f"gpt.width: must be a multiple of 4, got {self.gpt.width}")
        if self.train.batch_tokens % self.gpt.context:
            problems.append(
                f"train.batch_tokens: must be a multiple of gpt.context ({self.gpt.context}), "
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
        if self.data.val_tokens <= self.gpt.context:
            problems.append(
                f"data.val_tokens: must be above gpt.context ({self.gpt.context}), "
                f"got {self.data.val_tokens}"
            )
        if problems:
            raise ConfigError(problems)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass; a last batch that is not full is left out."""
        sequences = (self.data.train_tokens - 1) // self.gpt.context
        return sequences // (self.train.batch_tokens // self.gpt.context)

    @property
    def steps(self) -> int:
        """Optimizer steps in the whole schedule."""
        return self.steps_per_epoch * self.train.epochs

    @property
    def decay_timescale(self) -> float:
        """Epochs over which weights forget, 1 / (lr x weight_decay x steps per epoch).

        The optimum depends on this, not on the decay alone (arXiv 2405.13698); infinite without
        decay.
        """
        per_epoch = self.optim.lr * self.optim.weight_decay * self.steps_per_epoch
        return 1 / per_epoch if per_epoch else math.inf


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
