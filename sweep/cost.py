"""What a trial costs, known before it is run: training FLOPs."""

from __future__ import annotations

from collections.abc import Mapping

from model.config import Config
from model.size import flops_per_token, scaled


def trial_flops(settings: Mapping[str, object]) -> float:
    """Floating-point operations that training with `settings` takes, evaluations left out.

    Raises ConfigError for settings that cannot be trained.
    """
    config = Config.from_settings(settings)
    per_token = flops_per_token(scaled(config.gpt), config.data.token_kinds)
    return float(per_token * config.steps * config.train.batch_tokens)
