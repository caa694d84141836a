"""How a run's optimizers would divide its network, without memory for either."""

from __future__ import annotations

import torch

from model.config.config import Config
from model.network.gpt import GPT
from model.optim.optimizers import Group, describe_groups, make_optimizers


def outline(config: Config, vocabulary: int) -> list[Group]:
    """The groups that training `config` on so many tokens would have."""
    with torch.device("meta"):
        gpt = GPT(config.gpt, vocabulary)
    return describe_groups(make_optimizers(gpt, config.optim))
