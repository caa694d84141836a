"""What a text is continued from."""

from __future__ import annotations

from model.config import ConfigError
from model.data.tokenizer import UNKNOWN, Tokenizer

MOST_NAMED = 20  # characters that one message names


def prompt_tokens(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Tokens of a document that begins with `prompt`.

    Raises ConfigError if there are none, or if it has characters that have none.
    """
    if not prompt.isascii():
        try:
            prompt.encode()
        except UnicodeEncodeError:
            raise ConfigError(["prompt: is not UTF-8"]) from None
    if strange := unknown_characters(tokenizer, prompt):
        raise ConfigError([f"prompt: {no_tokens(strange)}"])
    tokens = tokenizer.document(prompt)
    if not tokens:
        raise ConfigError(["prompt: is empty, and this tokenizer has no token to begin with"])
    return tokens


def no_tokens(strange: list[str]) -> str:
    """What to do about characters that a tokenizer would leave out."""
    names = " ".join(map(repr, strange[:MOST_NAMED]))
    more = f" and {len(strange) - MOST_NAMED} more" if len(strange) > MOST_NAMED else ""
    return f"the text it was trained on has no {names}{more}; leave them out"


def unknown_characters(tokenizer: Tokenizer, text: str) -> list[str]:
    """Characters of `text` that the tokenizer would leave out or replace, each once."""
    read_as = {c: tokenizer.decode(tokenizer.encode(c)) for c in dict.fromkeys(text)}
    return [c for c, its in read_as.items() if c != UNKNOWN and its in ("", UNKNOWN)]
