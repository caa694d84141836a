"""How many parameters and operations a network has, without building it.

What the search plans with must not need torch; that these sums are those of the real network is
tested on torch's meta device.
"""

from __future__ import annotations

import math
from functools import lru_cache

from model.config.gpt import GPTConfig

HEAD_GATE_INPUTS = 12  # leading features of the residual stream that open a head's gate (slowrun)
VALUE_GATE_INPUTS = 32  # the same for a value residual
WITHIN = 0.1  # of the asked count


def block_parameters(gpt: GPTConfig) -> int:
    """Parameters that `gpt.scale` scales: all but embeddings, value tables and head."""
    width = gpt.width
    norm = width * (1 + gpt.bias) if gpt.norm == "layer" else 0
    if gpt.heads_by_layer or gpt.units_by_layer:
        total = sum(map(_attention_parameters, [gpt] * gpt.layers, gpt.layer_heads))
        total += sum(map(_mlp_parameters, [gpt] * gpt.layers, gpt.layer_units))
    else:  # a search asks again and again
        total = gpt.layers * _block_parameters(gpt)
    if gpt.value_residual != "no":
        gate = min(VALUE_GATE_INPUTS, width)
        projection = width * _head_width(gpt) if gpt.value_residual == "projection" else 0
        total += _residual_heads(gpt) * (gate + projection)
    total += 2 * gpt.layers if gpt.x0 else 0
    total += gpt.layers // 2 if gpt.unet else 0
    total += 2 * width**2 + _block_parameters(gpt) + norm if gpt.mtp == "block" else 0
    return total + norm


def _block_parameters(gpt: GPTConfig) -> int:
    """Of a layer as it is if all are alike, without a value residual."""
    return _attention_parameters(gpt, gpt.heads) + _mlp_parameters(gpt, gpt.hidden)


def _attention_parameters(gpt: GPTConfig, heads: int) -> int:
    """Of one layer's attention with so many heads, and of the norm before it."""
    if not heads:
        return 0
    width, inner, kv_heads = gpt.width, heads * _head_width(gpt), heads // gpt.queries_per_kv
    kv_width = kv_heads * _head_width(gpt)
    total = 2 * width * (inner + kv_width) + gpt.bias * (inner + width + 2 * kv_width)
    total += heads * min(HEAD_GATE_INPUTS, width) if gpt.head_gates else 0
    total += heads**2 + 2 * kv_heads**2 if gpt.head_mixing else 0
    total += heads if gpt.exclusive == "learned" else 0
    return total + (width * (1 + gpt.bias) if gpt.norm == "layer" else 0)


def _mlp_parameters(gpt: GPTConfig, units: int) -> int:
    """Of one layer's MLP with so many hidden units, and of the norm before it."""
    if not units:
        return 0
    matrices = 3 if gpt.mlp == "swiglu" else 2
    total = matrices * gpt.width * units + gpt.bias * ((matrices - 1) * units + gpt.width)
    return total + (gpt.width * (1 + gpt.bias) if gpt.norm == "layer" else 0)


def _head_width(gpt: GPTConfig) -> int:
    return gpt.width // gpt.heads


def _residual_heads(gpt: GPTConfig) -> int:
    """Value heads that get a value residual, of all layers."""
    return sum(
        heads // gpt.queries_per_kv
        for layer, heads in enumerate(gpt.layer_heads)
        if gpt.has_value_residual(layer)
    )


def parameters(gpt: GPTConfig, vocabulary: int) -> int:
    """All parameters for `vocabulary` tokens; rows that pad the vocabulary are not counted."""
    tables = 0
    if gpt.value_residual == "table":
        tables = _residual_heads(gpt) * _head_width(gpt)
    heads = gpt.width * (1 if gpt.tied_head else 2)
    positions = gpt.places * gpt.width if gpt.positions == "learned" else 0
    return block_parameters(gpt) + vocabulary * (heads + tables) + positions


def flops_per_token(gpt: GPTConfig, vocabulary: int, done: float = 0.0) -> float:
    """Floating-point operations to train on one token at fraction `done` of the run.

    Two for each multiply-add of the matrices forward, twice that backward (arXiv 2001.08361), and
    of attention only the pairs of tokens that a causal window leaves. Norms and gates not counted.
    The slot of a context vector goes through the layers beside the tokens of its window.
    """
    width, head_width = gpt.width, _head_width(gpt)
    matrices = 3 if gpt.mlp == "swiglu" else 2

    def layer(index: int, heads: int, units: int, places: int) -> float:
        inner, kv_width = heads * head_width, heads // gpt.queries_per_kv * head_width
        keys = min(gpt.window(index) + 1, places)
        pairs = keys - keys * (keys - 1) / (2 * places)  # mean over positions
        pairs += (places - keys) / places * (places > gpt.context)  # with the slot, near or far
        dense = 2 * width * (inner + kv_width) + matrices * width * units
        projected = gpt.value_residual == "projection" and gpt.has_value_residual(index)
        return 2 * dense + 2 * projected * width * kv_width + 4 * inner * pairs

    share, shapes = gpt.places / gpt.context, zip(gpt.layer_heads, gpt.layer_units, strict=True)
    layers = [share * layer(index, *shape, gpt.places) for index, shape in enumerate(shapes)]
    head = 2.0 * width * vocabulary
    total = 3 * (sum(layers) + head)
    if gpt.is_replaying(done):
        again = sum(layers[index] for index in gpt.replayed)
        total += gpt.replay_passes * again * (3 if gpt.replay_gradient else 1)
    if gpt.mtp == "block":
        own = layer(gpt.layers - 1, gpt.heads, gpt.hidden, gpt.context)
        total += 3 * (2 * 2 * width**2 + own + head)
    return total


@lru_cache(maxsize=1 << 14)  # a search asks again and again for the same networks
def scaled(gpt: GPTConfig) -> GPTConfig:
    """The same network with `scale` times the parameters: depth and width grow together.

    Parameters go about with layers x width^2, so both grow with the cube root of `scale` and their
    ratio stays. Among the shapes within a tenth of the asked count that of nearest ratio wins;
    widths are whole heads where that allows one, else halves of them and so on.
    """
    if gpt.scale == 1.0:
        return gpt
    finest = math.lcm(4, (4 if gpt.positions == "half_rotary" else 2) * gpt.queries_per_kv)
    unscaled = block_parameters(gpt)
    asked, ratio = gpt.scale * unscaled, gpt.width / gpt.layers
    per_unit = unscaled / (gpt.layers * gpt.width**2)
    middle = int(gpt.layers * gpt.scale ** (1 / 3))

    def off(shape: GPTConfig) -> tuple[bool, float]:
        count_off = abs(block_parameters(shape) / asked - 1)
        return count_off > WITHIN, abs(math.log(shape.width / shape.layers / ratio)) + count_off

    def best(grid: int) -> tuple[tuple[bool, float], GPTConfig]:
        """The best shape whose width is a multiple of `grid`, and how far off it is."""
        shapes = []
        for layers in range(max(1, middle - 2), middle + 4):
            steps = math.sqrt(asked / (per_unit * layers)) / grid
            for width in sorted({max(1, math.floor(steps)) * grid, math.ceil(steps) * grid}):
                shape = _shaped(gpt, layers, width)
                shapes.append((off(shape), shape))
        return min(shapes, key=lambda pair: pair[0])

    grid = max(finest, gpt.head_width // finest * finest)
    while True:
        (wrong_count, distance), shape = best(grid)
        if grid == finest or (not wrong_count and distance < 2 * WITHIN):
            return shape
        grid = max(finest, grid // 2 // finest * finest)


def _shaped(gpt: GPTConfig, layers: int, width: int) -> GPTConfig:
    """`gpt` in another shape, at scale 1; `replace` would take as long as all the rest."""
    shape = object.__new__(GPTConfig)
    shape.__dict__.update(gpt.__dict__, layers=layers, width=width, scale=1.0)
    return shape
