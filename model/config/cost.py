"""What a trial costs, known before it is run: parameters, tokens, FLOPs, memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from model.config.config import Config
from model.config.memory import disk_bytes, peak_bytes
from model.config.size import (
    block_parameters,
    flops_per_token,
    parameters,
    scaled,
)

PHASES = 16  # of a run, because layers may be replayed from some point on


@dataclass(frozen=True)
class Cost:
    """One trial's."""

    parameters: int
    block_parameters: int
    steps: int
    tokens: int  # trained on, each as often as it is read
    flops: float  # of training
    evaluation_flops: float
    memory: float  # bytes at the peak of a device, estimated
    disk: float  # bytes that it leaves there
    disk_while_running: float  # bytes more, until it has ended


def trial_cost(settings: Mapping[str, object], width: int = 1) -> Cost:
    """What training with `settings` takes, by `width` devices that share each batch.

    Raises ConfigError for what cannot be trained.
    """
    config = Config.from_settings(settings)
    gpt = scaled(config.gpt)
    read = config.steps * config.train.batch_tokens
    flops, tokens = config_flops(config), read * config.train.members
    passes = config.train.evals * (1 + config.train.averages)
    evaluated = passes * config.data.val_tokens * config.train.members
    disk, more = disk_bytes(config)
    return Cost(
        parameters=parameters(gpt, config.data.token_kinds),
        block_parameters=block_parameters(gpt),
        steps=config.steps,
        tokens=tokens,
        flops=flops,
        evaluation_flops=evaluated * flops / tokens / 3,  # forward is a third
        memory=peak_bytes(config, width),
        disk=disk,
        disk_while_running=more,
    )


def trial_flops(settings: Mapping[str, object]) -> float:
    """Floating-point operations that training with `settings` takes, evaluations left out.

    Raises ConfigError for settings that cannot be trained.
    """
    return config_flops(Config.from_settings(settings))


def config_flops(config: Config) -> float:
    """`trial_flops` of settings that are known to be trainable."""
    gpt, vocabulary = scaled(config.gpt), config.data.token_kinds
    count = PHASES if gpt.replay_passes else 1  # without replays all are alike
    phases = ((phase + 0.5) / count for phase in range(count))
    per_token = fmean(flops_per_token(gpt, vocabulary, done) for done in phases)
    return per_token * config.steps * config.train.batch_tokens * config.train.members
