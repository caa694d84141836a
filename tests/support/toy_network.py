"""A network of first weights with its tokens: nothing is trained, and no file is read."""

from __future__ import annotations

import torch

from model.config.config import Config
from model.data.tokenizer import of_characters
from model.network.gpt import GPT
from model.training.trained import Trained

SETTINGS = {
    "data.tokenizer": "chars",
    "gpt.layers": 1,
    "gpt.width": 16,
    "gpt.head_width": 8,
    "gpt.context": 16,
    "gpt.head_init": 0.5,  # it is not trained: else every token would be as likely
    "train.precision": "fp32",
}


def network(seed: int = 0) -> Trained:
    """A network of first weights that reads four characters."""
    config, tokenizer = Config.from_settings(SETTINGS), of_characters(" abc")
    torch.manual_seed(seed)
    gpt = GPT(config.gpt, tokenizer.vocabulary).eval()
    return Trained(config, gpt, tokenizer, val_loss=1.25)
