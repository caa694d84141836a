"""A trained network made smaller: whole layers, attention heads and MLP units are taken out.

What is left computes as the original does with the outputs of what is gone set to zero.

Shapes: D width, H heads of a layer, G its key and value heads, K head width, U its hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from model.config import Config, ConfigError, GPTConfig
from model.network import GPT
from model.trained.kept import Kept, shrunk_config, whole
from model.training.trained import Trained

# Parts of a layer's attention that lie by head, and which of their dimensions does. Those of
# query heads, each K wide; those of key and value heads; those with one number or row for a head.
WIDE_QUERY = {"query.weight": 0, "query.bias": 0, "out.weight": 1}
WIDE_VALUE = {
    "key.weight": 0,
    "key.bias": 0,
    "value.weight": 0,
    "value.bias": 0,
    "value_residual.weight": 0,
}
BY_QUERY = {"head_gate.weight": 0, "exclusion_H": 0}
BY_VALUE = {"value_gate.weight": 0}
UNITS = {
    "expand.weight": 0,
    "expand.bias": 0,
    "gate.weight": 0,
    "gate.bias": 0,
    "project.weight": 1,
}
MIXED = {"mix_query": "query", "mix_key": "key", "mix_value": "value"}


def shrunk(trained: Trained, kept: Kept) -> Trained:
    """What `kept` leaves of a trained network, ready to predict. Raises ConfigError for nothing."""
    gpt = one_network(trained)
    config = shrunk_config(gpt.config, kept)
    with torch.device("meta"):
        small = GPT(config, gpt.vocabulary, separator=gpt.separator)
    small.to_empty(device=next(gpt.parameters()).device)
    weights = shrunk_weights(gpt, kept, list(small.state_dict()))
    with torch.no_grad():
        small.load_state_dict(weights)
        for name, buffer in small.named_buffers():  # tables of positions and the like
            buffer.copy_(gpt.get_buffer(name))
    small.eval()
    small.replaying = gpt.replaying
    settings = replace(trained.config, gpt=config).settings()
    return replace(trained, config=Config.from_settings(settings), gpt=small, val_loss=None)


def one_network(trained: Trained) -> GPT:
    """The network, if it is one; several that predict as one are refused."""
    if not isinstance(trained.gpt, GPT):
        raise ConfigError(["several networks that predict as one; shrink one of them"])
    return trained.gpt


@torch.no_grad()
def shrunk_weights(gpt: GPT, kept: Kept, names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors called `names` of a network's state, with only what is kept in each."""
    state = _without_mixes(gpt, kept)
    return {name: _cut(name, state[name], gpt.config, kept).clone() for name in names}


def _without_mixes(gpt: GPT, kept: Kept) -> dict[str, Tensor]:
    """The state, in which layers that lose heads have mixed theirs for good.

    A mix makes each head's weights of all heads' weights; once it is multiplied out, heads can go.
    """
    state = gpt.state_dict()
    all_heads = whole(gpt.config).heads
    for layer in range(gpt.config.layers):
        if not gpt.config.head_mixing or kept.heads[layer] == all_heads[layer]:
            continue
        begin = f"blocks.{layer}.attention."
        for mix, project in MIXED.items():
            if begin + mix not in state:
                continue
            mix_HH = state[begin + mix]
            for part in ("weight", "bias"):
                if (name := f"{begin}{project}.{part}") in state:
                    state[name] = (mix_HH @ state[name].view(len(mix_HH), -1)).view_as(state[name])
            state[begin + mix] = torch.eye(len(mix_HH), device=mix_HH.device)
    return state


def _cut(name: str, tensor: Tensor, gpt: GPTConfig, kept: Kept) -> Tensor:
    """What is kept of the tensor called `name`."""
    shared, head_width = gpt.queries_per_kv, gpt.width // gpt.heads
    if name.startswith("value_tables."):
        layer = int(name.split(".")[1])
        return _take(tensor, 1, kept.heads[layer], head_width)
    if not name.startswith("blocks."):
        return tensor
    _, number, part, *rest = name.split(".")
    heads, units, inner = kept.heads[int(number)], kept.units[int(number)], ".".join(rest)
    if part == "mlp" and inner in UNITS:
        return _take(tensor, UNITS[inner], units)
    if part != "attention":
        return tensor
    if inner in WIDE_QUERY:
        return _take(tensor, WIDE_QUERY[inner], heads, shared * head_width)
    if inner in WIDE_VALUE:
        return _take(tensor, WIDE_VALUE[inner], heads, head_width)
    if inner in BY_QUERY:
        return _take(tensor, BY_QUERY[inner], heads, shared)
    if inner in BY_VALUE:
        return _take(tensor, BY_VALUE[inner], heads)
    if inner in MIXED:
        many = shared if inner == "mix_query" else 1
        return _take(_take(tensor, 0, heads, many), 1, heads, many)
    return tensor


def _take(tensor: Tensor, dim: int, which: Sequence[int], many: int = 1) -> Tensor:
    """Entries of `dim` that belong to `which`, each of which has so many side by side."""
    at = torch.tensor([one * many + i for one in which for i in range(many)], dtype=torch.long)
    return tensor.index_select(dim, at.to(tensor.device))
