"""The network, as its configuration describes it."""

from model.network.block import Block
from model.network.cache import Cache
from model.network.gpt import GPT, table_rows
from model.network.mixture import PROBABILITIES, Mixture

__all__ = ["GPT", "PROBABILITIES", "Block", "Cache", "Mixture", "table_rows"]
