"""Settings of "Pre-training under infinite compute" (Kim et al., 2509.14786) at 200M tokens.

Shapes are Marin's Llamas (github.com/marin-community/marin, experiments/llama.py), with the context
of its experiments/data_efficiency/models.py; rate, epochs and decay are the tuned ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from model.config import MULTIPLIER, Value

Settings = Mapping[str, Value]

COMMON: Settings = {
    "data.tokenizer": "gpt2",
    "data.train_tokens": 800 * 262_144 + 1,  # 800 whole batches
    "data.val_tokens": 1024 * 4096 + 1,
    "gpt.context": 4096,
    "gpt.embedding_norm": False,
    "gpt.norm": "rms",
    "gpt.bias": False,
    "gpt.positions": "rotary",
    "gpt.qk_norm": False,
    "gpt.mlp": "swiglu",
    "gpt.mlp_expansion": 3.5,
    "gpt.tied_head": False,
    "gpt.document_mask": True,
    "gpt.dropout": 0.0,
    "optim.name": "adamw",
    "optim.beta1": 0.9,
    "optim.beta2": 0.95,
    "optim.embedding_decay": 0.0,
    "optim.schedule": "cosine",
    "optim.warmup": 0.01,
    "optim.final_rate": 0.0,
    "optim.grad_clip": 1.0,
    "train.batch_tokens": 262_144,
    "train.micro_batch_tokens": 16_384,  # for 80 GB; what is computed does not depend on it
    "train.evals": 20,
}
KIM_150M: Settings = {
    **COMMON,
    "gpt.layers": 6,
    "gpt.width": 512,
    "gpt.head_width": 64,
    "optim.lr": 3e-3,
    MULTIPLIER: 8.0,
    "train.epochs": 16,
}
KIM_300M: Settings = {
    **COMMON,
    "gpt.layers": 12,
    "gpt.width": 768,
    "gpt.head_width": 64,
    "optim.lr": 3e-3,
    MULTIPLIER: 16.0,
    "train.epochs": 16,
}
KIM_600M: Settings = {
    **COMMON,
    "gpt.layers": 24,
    "gpt.width": 1024,
    "gpt.head_width": 64,
    "gpt.queries_per_kv": 2,
    "optim.lr": 1e-3,
    MULTIPLIER: 32.0,
    "train.epochs": 8,
}
KIM_1_4B: Settings = {
    **COMMON,
    "gpt.layers": 16,
    "gpt.width": 2048,
    "gpt.head_width": 128,
    "gpt.queries_per_kv": 2,
    "optim.lr": 1e-3,
    MULTIPLIER: 32.0,
    "train.epochs": 8,
}
