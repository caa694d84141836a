"""Settings of GPT-2 and smaller as nanoGPT trains them (github.com/karpathy/nanoGPT).

It draws windows at random, with replacement; epochs here come to its number of iterations.
"""

from __future__ import annotations

from collections.abc import Mapping

from model.config import MULTIPLIER, Value

Settings = Mapping[str, Value]

NETWORK: Settings = {
    "gpt.embedding_norm": False,
    "gpt.norm": "layer",
    "gpt.bias": False,  # as train.py has it; GPT-2's own weights have biases
    "gpt.positions": "learned",
    "gpt.qk_norm": False,
    "gpt.mlp": "gelu",
    "gpt.mlp_expansion": 4.0,
    "gpt.tied_head": True,
    "gpt.dropout": 0.0,
    "gpt.dropout_on": "all",
    "gpt.input_init": "gpt2",
    "gpt.output_init": "gpt2",
}
ADAMW: Settings = {
    "optim.name": "adamw",
    MULTIPLIER: 1.0,
    "optim.beta1": 0.9,
    "optim.grad_clip": 1.0,
    "optim.schedule": "cosine",
    "optim.final_rate": 0.1,
}


def gpt2(layers: int, width: int, lr: float) -> Settings:
    """On OpenWebText."""
    return {
        **NETWORK,
        **ADAMW,
        "data.tokenizer": "gpt2",
        "data.train_tokens": 9_035_582_198,
        "data.val_tokens": 4_434_897,
        "gpt.layers": layers,
        "gpt.width": width,
        "gpt.head_width": 64,
        "gpt.context": 1024,
        "optim.lr": lr,
        "optim.beta2": 0.95,
        "optim.warmup": 2000 / 600_000,
        "train.shuffle": "offsets",
        "train.epochs": 33,
        "train.batch_tokens": 491_520,
        "train.micro_batch_tokens": 12_288,
    }


FINETUNE: Settings = {  # gpt2-xl, on Shakespeare's plays
    **gpt2(48, 1600, 3e-5),
    "gpt.init": "gpt2-xl",
    "gpt.bias": True,
    "gpt.mlp": "gelu_tanh",
    "data.train_tokens": 301_966,
    "data.val_tokens": 36_059,
    "data.test_tokens": 0,
    "optim.schedule": "constant",
    "optim.warmup": 0.0,
    "train.epochs": 2,
    "train.batch_tokens": 32 * 1024,
    "train.micro_batch_tokens": 1024,
    "train.evals": 4,
}


CHARACTERS: Settings = {  # of Shakespeare
    **NETWORK,
    **ADAMW,
    "data.tokenizer": "chars",
    "data.train_tokens": 1_003_854,
    "data.val_tokens": 111_540,
    "data.test_tokens": 0,  # train and val are all of the text
    "optim.lr": 1e-3,
    "optim.beta2": 0.99,
    "train.shuffle": "offsets",
}
CHARACTERS_GPU: Settings = {
    **CHARACTERS,
    "gpt.layers": 6,
    "gpt.width": 384,
    "gpt.head_width": 64,
    "gpt.context": 256,
    "gpt.dropout": 0.2,
    "optim.warmup": 100 / 5000,
    "train.batch_tokens": 64 * 256,
    "train.epochs": 82,
    "train.evals": 20,
}
CHARACTERS_CPU: Settings = {
    **CHARACTERS,
    "gpt.layers": 4,
    "gpt.width": 128,
    "gpt.head_width": 32,
    "gpt.context": 64,
    "optim.warmup": 100 / 2000,
    "train.batch_tokens": 12 * 64,
    "train.epochs": 2,
}
PICO: Settings = {  # on Shakespeare; 300 x 500 iterations
    **NETWORK,
    **ADAMW,
    "data.tokenizer": "picogpt",
    "data.train_tokens": 1_003_854,
    "data.val_tokens": 111_540,
    "data.test_tokens": 0,
    "gpt.bias": True,
    "gpt.layers": 8,
    "gpt.width": 256,
    "gpt.head_width": 32,
    "gpt.context": 128,
    "gpt.context_vector": True,
    "gpt.context_windows": 10,
    "optim.lr": 6e-4,
    "optim.beta2": 0.95,
    "optim.grad_clip": 0.0,
    "optim.warmup": 2000 / 150_000,
    "train.shuffle": "offsets",
    "train.batch_tokens": 8 * 1280,
    "train.epochs": 1531,
}
