"""A trial's settings in the coordinates in which the best recipe stays put.

Weight decay counts as the timescale over which weights remember, 1 / (rate x decay x steps per
epoch): Kim et al. (2509.14786) tuned it 32-fold over model and data sizes, and their timescales
stay within a factor of two (Wang & Aitchison, 2405.13698, on why). The rate counts times the width
(muP, 2203.03466), unless the optimizer scales with the matrix itself. Ratios matter, not
differences, so all of these are log2: one unit is an octave.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache

from model.config import MULTIPLIER, SETTINGS, Config, Value, block_parameters, scaled
from model.config.presets import TIMESCALE
from sweep.space import is_number

FORGETS_NOTHING = 16  # runs: weights that remember longer are as if they had no decay
LEAST_DECAY = 1 / 64  # times the usual decay: less is as if there was none
RATE = "rate"  # log2 of optim.lr x width
TAU = "decay timescale"  # log2 epochs
DECAY = "decay"  # log2 of the multiplier
EPOCHS = "epochs"
PARAMETERS = "parameters"
TOKENS = "tokens"
# Settings whose whole effect is in the features above.
COVERED = {
    "optim.lr": RATE,
    MULTIPLIER: TAU,
    TIMESCALE: TAU,
    "train.epochs": EPOCHS,
    "gpt.scale": PARAMETERS,
    "data.train_tokens": TOKENS,
}


def features(settings: Mapping[str, Value], searched: Iterable[str] = ()) -> Mapping[str, float]:
    """Coordinates of a trial by name: log2 of what ratios matter for, 0 or 1 for what has no order.

    settings  of the trainer, fixed and searched
    searched  settings that need a coordinate of their own where none of the usual five covers them
    Raises ConfigError for settings that cannot be trained.
    """
    return _features(tuple(sorted(settings.items())), tuple(sorted(searched)))


@lru_cache(maxsize=1 << 16)
def _features(
    settings: tuple[tuple[str, Value], ...], searched: tuple[str, ...]
) -> Mapping[str, float]:
    config = config_of(settings)
    optim, gpt = config.optim, scaled(config.gpt)
    longest = FORGETS_NOTHING * config.train.epochs
    timescale = min(optim.decay_timescale or longest, longest)
    by_matrix = optim.name == "muon" and optim.muon_scale == "shape"
    coordinates = {
        RATE: math.log2(optim.lr * (1 if by_matrix else gpt.width)),
        TAU: math.log2(timescale),
        DECAY: math.log2(max(optim.weight_decay_multiplier, LEAST_DECAY)),
        EPOCHS: math.log2(config.train.epochs),
        PARAMETERS: math.log2(block_parameters(gpt)),
        TOKENS: math.log2(config.data.train_tokens),
    }
    for name in searched:
        if name not in COVERED:
            part, _, field = name.partition(".")
            key, number = _feature(name, getattr(getattr(config, part), field))
            coordinates[key] = number
    return coordinates


@lru_cache(maxsize=1 << 14)  # of each candidate the coordinates and the cost are asked
def config_of(settings: tuple[tuple[str, Value], ...]) -> Config:
    """The configuration of sorted settings. Raises ConfigError if they cannot be trained."""
    return Config.from_settings(dict(settings))


def is_kind(feature: str) -> bool:
    """Whether a feature tells what has no order: 1 where it holds, absent elsewhere."""
    return "=" in feature


def in_octaves(feature: str) -> bool:
    """Whether a feature is a log2, one unit an octave."""
    return feature in (DECAY, *COVERED.values()) or (feature in SETTINGS and _only_above_0(feature))


def _only_above_0(name: str) -> bool:
    setting = SETTINGS[name]
    return setting.above == 0 or (setting.low or 0) > 0


def _feature(name: str, value: Value) -> tuple[str, float]:
    """The coordinate of a setting that is like no other."""
    if not is_number(value):
        return f"{name}={value}", 1.0
    return name, math.log2(value) if _only_above_0(name) else float(value)
