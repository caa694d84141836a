"""The network, as its configuration describes it."""

from model.network.gpt import GPT

__all__ = ["GPT"]
