"""Weights of others, read and written: GPT-2 as Hugging Face keeps it, and nanoGPT's ckpt.pt."""

from model.pretrained.read import check_tokens, fitted, read_weights, weights_of
from model.pretrained.settings import fill_in, fixed_by, pin
from model.pretrained.source import Source, find_source, is_weights, published
from model.pretrained.write import own_tokenizer, write

__all__ = [
    "Source",
    "check_tokens",
    "fill_in",
    "find_source",
    "fitted",
    "fixed_by",
    "is_weights",
    "own_tokenizer",
    "pin",
    "published",
    "read_weights",
    "weights_of",
    "write",
]
