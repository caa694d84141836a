"""How much memory training takes at its peak, estimated without building the network.

Fixed: weights, gradients, optimizer state and averages, four bytes each. Growing with the tokens at
once: what the backward pass needs of each layer, and the logits, which lead in small networks.
"""

from __future__ import annotations

import math

from model.config.config import Config, GPTConfig
from model.config.optim import FOR_ALL
from model.config.size import block_parameters, parameters, scaled
from model.config.width import tokens_at_once

FLOAT, HALF = 4, 2  # bytes
# Numbers of optimizer state for each number of a matrix, preconditioners left out.
STATE = {
    "adamw": 2,
    "muon": 1,
    "soap": 2,
    "shampoo": 1,
    "lion": 1,
    "magma": 2,
    "schedule_free": 2,
}
PRECONDITIONED = {"soap": 2, "shampoo": 2}  # matrices for each side of a weight
TRANSIENT = {"muon": 4}  # copies of the matrices while they are orthogonalised
HIDDEN_COPIES = {"gelu": 2, "gelu_tanh": 2, "relu": 2, "relu2": 3, "swiglu": 4}
LOGIT_COPIES = 3  # the logits, their log-softmax and its gradient
TEACHER_COPIES = 4  # its logits, two softened distributions and how far they are apart


def peak_bytes(config: Config, width: int = 1) -> float:
    """Bytes at the peak of training on each of `width` devices that share its batches.

    Of five networks measured on a CPU all were within a quarter.

    Left out: a teacher's own weights, the process itself, of which the libraries of a GPU are a
    gigabyte or so, and what torch.compile saves.
    """
    gpt = scaled(config.gpt)
    tokens = tokens_at_once(config, width)
    taught = config.train.teacher or config.train.chain_after
    copies = LOGIT_COPIES + (TEACHER_COPIES if taught else 0)
    logits = tokens * config.data.token_kinds * FLOAT * copies
    of_each = _fixed(gpt, config) * config.train.members  # they take turns with the rest
    places = tokens * gpt.places / gpt.context  # every window waits for those after it
    return of_each + places * _saved(gpt, config) + logits


def disk_bytes(config: Config) -> tuple[float, float]:
    """Bytes of a run's checkpoint and log-probabilities once it has ended, and more while it runs.

    The state of its optimizers is kept as long as the run may go on, and so is the checkpoint
    before the latest; schedule_free's state for ever, as its weights follow from it.
    """
    gpt, train = scaled(config.gpt), config.train
    networks = FLOAT * train.members
    weights = networks * parameters(gpt, config.data.token_kinds) * (1 + config.train.averages)
    teaches = parameters(gpt, config.data.token_kinds) if train.chain_after else 0
    state = networks * (_state(gpt, config) + teaches)
    ends = {"epochs": train.epochs, "cycles": train.epochs // config.epochs_per_cycle}
    predicted = 0 if train.log_probs == "no" else 1 + ends.get(train.log_probs, 0)
    kept = weights + HALF * config.data.val_tokens * predicted
    before = weights + state
    if config.optim.name == "schedule_free":
        return kept + state, before
    return kept, state + before


def _fixed(gpt: GPTConfig, config: Config) -> float:
    every, blocks = parameters(gpt, config.data.token_kinds), block_parameters(gpt)
    transient = TRANSIENT.get(config.optim.name, 0) * blocks
    kept = _meta_copy(gpt, config) + (every if config.train.chain_after else 0)
    return FLOAT * (every * (2 + config.train.averages) + transient + kept + _state(gpt, config))


def _meta_copy(gpt: GPTConfig, config: Config) -> int:
    """Numbers that `train.meta_step` keeps: weights as they were, gradients of other parts."""
    train = config.train
    if not train.meta_step:
        return 0
    moved = block_parameters(gpt)
    if train.meta_on == "mlp":
        moved = sum(gpt.layer_units) * gpt.width * (3 if gpt.mlp == "swiglu" else 2)
    return moved * (2 if train.meta_parts > 1 else 1)


def _state(gpt: GPTConfig, config: Config) -> float:
    """Numbers that the optimizers keep from step to step."""
    every, blocks = parameters(gpt, config.data.token_kinds), block_parameters(gpt)
    name = config.optim.name
    state = STATE[name] * every if name in FOR_ALL else STATE[name] * blocks + 2 * (every - blocks)
    if name in PRECONDITIONED:
        width, head_width = gpt.width, gpt.width // gpt.heads
        sides = sum(
            4 * (width**2 + (heads * head_width) ** 2) for heads in gpt.layer_heads if heads
        )
        sides += sum(2 * (width**2 + units**2) for units in gpt.layer_units if units)
        state += PRECONDITIONED[name] * sides
    return state


def _saved(gpt: GPTConfig, config: Config) -> float:
    """Bytes of one token that wait for the backward pass, of all layers."""
    reduced = 2 if config.train.precision == "bf16" else FLOAT
    width, head_width = gpt.width, gpt.width // gpt.heads
    # Input and output; queries and keys before and after norm and rotation, values, product.
    attention = sum(
        2 * width + (5 + 5 / gpt.queries_per_kv) * heads * head_width
        for heads in gpt.layer_heads
        if heads
    )
    mlp = sum(2 * width + HIDDEN_COPIES[gpt.mlp] * units for units in gpt.layer_units if units)
    branches = sum(count > 0 for count in (*gpt.layer_heads, *gpt.layer_units))
    # The residual stream and its norms, forward and backward, and dropout.
    streams = branches * width * (3 * FLOAT + math.ceil(gpt.dropout))
    return reduced * (attention + mlp) + streams
