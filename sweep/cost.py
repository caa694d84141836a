"""What a trial costs, known before it is run: training FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from model.config import Config
from model.size import flops_per_token, scaled

PHASES = 16  # of a run, because layers may be replayed from some point on


def trial_flops(settings: Mapping[str, object]) -> float:
    """Floating-point operations that training with `settings` takes, evaluations left out.

    Raises ConfigError for settings that cannot be trained.
    """
    config = Config.from_settings(settings)
    gpt, vocabulary = scaled(config.gpt), config.data.token_kinds
    phases = ((phase + 0.5) / PHASES for phase in range(PHASES))
    per_token = fmean(flops_per_token(gpt, vocabulary, done) for done in phases)
    return per_token * config.steps * config.train.batch_tokens
