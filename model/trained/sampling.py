"""How text is drawn from what a network predicts."""

from __future__ import annotations

from dataclasses import dataclass

from model.config import ConfigError

MOST_TOKENS = 1_000_000
MOST_TEMPERATURE = 100.0
MOST_SEED = 2**63 - 1  # of torch's generator


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Raises ConfigError with every value that is out of bounds."""

    tokens: int = 200  # at most; a network may end the document before
    temperature: float = 0.8  # divides the logits; 0 always takes the likeliest token
    top_k: int = 200  # the likeliest tokens that are drawn from; 0: all
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.tokens <= MOST_TOKENS:
            problems.append(f"tokens: must be from 1 to {MOST_TOKENS:,}, got {self.tokens:,}")
        if not 0 <= self.temperature <= MOST_TEMPERATURE:  # nor is not-a-number
            problems.append(
                f"temperature: must be from 0 to {MOST_TEMPERATURE:g}, got {self.temperature:g}"
            )
        if self.top_k < 0:
            problems.append(f"top_k: must be at least 0, which draws from all, got {self.top_k}")
        if not 0 <= self.seed <= MOST_SEED:
            problems.append(f"seed: must be from 0 to {MOST_SEED}, got {self.seed}")
        if problems:
            raise ConfigError(problems)
