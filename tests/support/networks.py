"""Networks with weights as if they had been trained, of every kind that there is."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from model.config.config import Config
from model.data.tokenizer import get_tokenizer
from model.network import GPT, Block
from model.training.trained import Trained

VOCABULARY, LAYERS, HEADS = 257, 4, 4
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "GPT-2": {
        "norm": "layer",
        "bias": True,
        "positions": "learned",
        "mlp": "gelu",
        "embedding_norm": False,
        "qk_norm": False,
        "tied_head": True,
    },
    "grouped heads": {"queries_per_kv": 2},
    "head gates and exclusion": {"head_gates": True, "exclusive": "learned"},
    "head mixing": {"head_mixing": True, "bias": True},
    "value tables": {"value_residual": "table"},
    "context vector": {"context_vector": True, "context_windows": 2},
    "everything": {
        "queries_per_kv": 2,
        "head_gates": True,
        "head_mixing": True,
        "exclusive": "learned",
        "value_residual": "projection",
        "mlp": "swiglu",
        "x0": True,
        "unet": True,
        "windows": "SSL",
        "softcap": 15.0,
        "replay_passes": 1,
        "replay_start": 0.0,
        "replay_last": 0.75,
        "mtp": "block",
        "norm": "layer",
        "bias": True,
    },
}


def network(**options: Any) -> Trained:
    """A network whose weights are all away from zero, as if it had been trained."""
    own = {f"gpt.{name}": value for name, value in options.items()}
    small = {"gpt.layers": LAYERS, "gpt.width": 32, "gpt.head_width": 8, "gpt.context": 16}
    batches = {"train.batch_tokens": 256, "data.val_tokens": 257, "train.evals": 1}
    config = Config.from_settings({**small, **batches, **own})
    torch.manual_seed(0)
    gpt = GPT(config.gpt, VOCABULARY)
    for parameter in gpt.parameters():
        nn.init.normal_(parameter, std=0.3)
    gpt.enter(done=1.0, seed=0, step=0)
    return Trained(config, gpt.eval(), get_tokenizer("bytes"))


def blocks(trained: Trained) -> list[Block]:
    return [block for block in trained.gpt.blocks if isinstance(block, Block)]  # type: ignore[union-attr]
