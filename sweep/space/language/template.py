"""A space file to begin with: commented, and sound as it is."""

from __future__ import annotations

import math

from model.config import SETTINGS, Config, Value, trial_cost
from model.config.presets import preset

START = """\
# {question}
#
#   sweep check {path}       is it sound?
#   sweep plan {path}        what would it cost?
#   sweep run {path}
#
# `sweep settings` lists all that can be searched or fixed, with units and bounds. For completion in
# an editor: `sweep schema > space.schema.json`, and as the first line here
# `# yaml-language-server: $schema=space.schema.json`
name: {name}
{preset}
search:
  optim.weight_decay_multiplier: {{min: 1, max: 32, log: true}}   # x 0.1, the usual decay
  train.epochs: {epochs}
  optim.lr: {{min: {low:.2g}, max: {high:.2g}, log: true}}
  # Where you expect the best, which the trials may refute: min, max or values, and
  # prior: {{at: {lr:g}, within: 4x}}
  # gpt.scale: [0.5, 1, 2]            # parameters, depth and width together
  # optim.name: [adamw, muon]         # then give optim.lr a list, each with `when: {{...}}`

# What every trial has. Settings not named here have {others}.
fixed:
  data.path: ""                       # text or Parquet, file, folder or URI; "" is built in
  data.train_tokens: {tokens}           # of it; all: as many as there are

# Tried before anything is proposed; what a point leaves out is sampled.
points:
  - {{train.epochs: {middle}, optim.lr: {lr:g}}}

# Proposals that break these are never trained; train.seconds stops trials that would take longer.
constraints:
  - gpt.parameters <= {limit}
  # - train.seconds <= 1h

# repeat: {{seeds: 3}}                  # train every proposal so often, with other seeds
# objective: ensemble                 # trials are networks (train.members: 4) that predict as one

budget:
  trials: 16

# A plain recipe on these multiples of the data, to measure efficiency against.
baseline:
  multiples: [1, 2, 4]
"""


def starter(path: str, name: str, preset_name: str = "") -> str:
    """The text of a space around the defaults or a preset.

    path   what its comments call the file
    Raises ConfigError for a preset that does not exist.
    """
    settings: dict[str, Value] = dict(preset(preset_name).settings) if preset_name else {}
    config = Config.from_settings(settings)
    middle = config.train.epochs if preset_name else 4
    epochs = sorted({max(1, middle // 2), middle, 2 * middle})
    lr, high = config.optim.lr, SETTINGS["optim.lr"].high or math.inf
    return START.format(
        question="What does this recipe gain from other decay, epochs and rate?"
        if preset_name
        else "How much weight decay, at how many epochs and what rate?",
        path=path,
        name=name,
        preset=f"preset: {preset_name}\n" if preset_name else "",
        epochs=epochs,
        low=lr / 3,
        high=min(lr * 3, high),
        others=f"those of the preset {preset_name}" if preset_name else "their defaults",
        tokens=f"{config.data.train_tokens:_}",
        middle=middle,
        lr=lr,
        limit=_rounded_up(2 * trial_cost(settings).parameters),
    )


def _rounded_up(number: float) -> str:
    """A round limit at or above `number`: 300k, 2M, 4B."""
    for suffix, size in (("k", 1e3), ("M", 1e6), ("B", 1e9)):
        if number < 1000 * size or suffix == "B":
            whole = int(number / size) + 1
            digits = 10 ** (len(str(whole)) - 1)
            return f"{-(-whole // digits) * digits}{suffix}"
    raise AssertionError
