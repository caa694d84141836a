"""PicoGPT's tokens: lower-case characters (github.com/QuwsarOhi/PicoGPT, components/tokenizer.py).

Token 0 is any character that is not listed, 1 to 74 are Python's printable characters in their
order but for the capitals, 75 to 81 have names there, and a network of it has 88 outputs. Its texts
are not separated. Our tables begin each document with token 82, the first that has no meaning
there, so that all of its own keep theirs.
"""

from __future__ import annotations

import string

import numpy as np

from model.config import VOCABULARIES
from model.data.tokenizer import BEYOND_UNICODE, UNKNOWN, Tokenizer, code_points

NAME = "picogpt"
VOCABULARY = VOCABULARIES[NAME]
NOT_LISTED = 0
LISTED = string.digits + string.ascii_lowercase + string.punctuation + string.whitespace
TOKEN_OF = {character: token for token, character in enumerate(LISTED, start=1)}
# Padding; a system prompt, a question and an answer, each with its end. No text becomes them.
SPECIAL = {
    name: len(LISTED) + 1 + place
    for place, name in enumerate(("<P>", "<S>", "</S>", "<Q>", "</Q>", "<A>", "</A>"))
}
SEPARATOR = max(SPECIAL.values()) + 1


def tokenizer() -> Tokenizer:
    """A token per character, capitals as lower case; those not listed read as U+FFFD."""
    pieces = [UNKNOWN.encode(), *(character.encode() for character in LISTED)]
    pieces += [b""] * (VOCABULARY - len(pieces))

    def encode(text: str) -> np.ndarray:
        return of_points(code_points(text))

    return Tokenizer(NAME, pieces, SEPARATOR, encode, unknown=NOT_LISTED)


def of_points(points: np.ndarray) -> np.ndarray:
    """Tokens of characters, and of separators, as code points, each by itself."""
    different, place = np.unique(points, return_inverse=True)
    tokens = [_token(int(point)) for point in different]
    return np.array(tokens, dtype=np.int64)[place]


def _token(point: int) -> int:
    if point == BEYOND_UNICODE:
        return SEPARATOR
    return TOKEN_OF.get(chr(point).lower(), NOT_LISTED)
