"""Text to tokens: bytes, characters, and byte pairs (tiktoken's encodings, or one of our own)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str

from model.config import ConfigError

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # what a character the training split lacks reads as
BEYOND_UNICODE = 0x110000  # stands for the separator while characters are code points


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """How text becomes tokens, and what each token stands for."""

    name: str
    pieces: Sequence[bytes]  # by token; empty for the separator and for ids that are not used
    separator: int | None  # precedes each document
    encode: Callable[[str], np.ndarray]
    pattern: str = ""  # how text is cut before byte pairs are merged
    unknown: int | None = None  # stands for characters of any length in bytes

    @property
    def vocabulary(self) -> int:
        """Number of tokens; every id is below it."""
        return len(self.pieces)

    @property
    def dtype(self) -> np.dtype:
        """The smallest type of a token table that holds every id."""
        return np.dtype(np.uint16 if self.vocabulary <= 1 << 16 else np.uint32)

    @property
    def lengths(self) -> np.ndarray:
        """Bytes of text each token stands for, (vocabulary,)."""
        return np.array([len(piece) for piece in self.pieces], dtype=np.int64)

    def lengths_in(self, tokens_N: np.ndarray, text_bytes: int) -> np.ndarray:
        """`lengths`, for tokens of a text of so many bytes: see `lengths_within`."""
        return lengths_within(self.lengths, self.unknown, tokens_N, text_bytes)

    @property
    def digest(self) -> str:
        """SHA-256 of what the tokens mean: two encodings that differ anywhere differ here."""
        digest = hashlib.sha256(f"{self.separator} {self.pattern}".encode())
        for piece in self.pieces:
            digest.update(len(piece).to_bytes(4, "little") + piece)
        return digest.hexdigest()

    def document(self, text: str) -> list[int]:
        """Tokens of `text` after what a document begins with."""
        begin = [] if self.separator is None else [self.separator]
        return begin + [int(token) for token in self.encode(text)]

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The text that `tokens` stand for; separators are left out."""
        return b"".join(self.pieces[int(token)] for token in tokens).decode(errors="replace")


def get_tokenizer(name: str) -> Tokenizer:
    """The tokenizer called `name`, a choice of `data.tokenizer` that needs no corpus.

    `bytes` needs no download: 256 tokens for the byte values and one that separates documents.
    """
    if name == "bytes":
        pieces = [bytes([value]) for value in range(256)]
        return Tokenizer(name, [*pieces, b""], separator=256, encode=_bytes)
    if name == "picogpt":
        from model.data import pico

        return pico.tokenizer()
    try:
        return of_encoding(tiktoken.get_encoding(name))
    except OSError as error:  # of requests too
        raise ConfigError(
            [
                f"data.tokenizer: {name} has to be downloaded once and that failed ({error}); "
                "point TIKTOKEN_CACHE_DIR at a folder that has it, or use bytes"
            ]
        ) from None


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def of_encoding(encoding: tiktoken.Encoding) -> Tokenizer:
    """A tiktoken encoding. Text that looks like a special token is text."""
    pieces = [b""] * encoding.n_vocab
    for piece in encoding.token_byte_values():
        pieces[encoding.encode_single_token(piece)] = piece

    def encode(text: str) -> np.ndarray:
        return encoding.encode_to_numpy(text, disallowed_special=())

    separator = encoding.encode_single_token(END_OF_TEXT)
    return Tokenizer(encoding.name, pieces, separator, encode, encoding._pat_str)


def of_ranks(pieces: Sequence[bytes]) -> tiktoken.Encoding:
    """Byte pairs in the order they were learned, cut like GPT-2's; the last token separates."""
    return tiktoken.Encoding(
        "bpe",
        pat_str=r50k_pat_str,
        mergeable_ranks={piece: rank for rank, piece in enumerate(pieces)},
        special_tokens={END_OF_TEXT: len(pieces)},
    )


def code_points(text: str) -> np.ndarray:
    """The characters of `text` as numbers, (characters,) uint32."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def utf8_lengths(points: np.ndarray) -> np.ndarray:
    """Bytes of characters, given as code points; 0 for the separator."""
    lengths = 1 + sum((points >= least).astype(np.int64) for least in (0x80, 0x800, 0x10000))
    return np.where(points == BEYOND_UNICODE, 0, lengths)


def lengths_within(
    length_V: np.ndarray, unknown: int | None, tokens_N: np.ndarray, text_bytes: int
) -> np.ndarray:
    """Bytes of text by token id, such that `tokens_N` come to `text_bytes`.

    An unknown character's are the mean of those that are there: what they were, no token tells.
    """
    unknowns = 0 if unknown is None else int(np.count_nonzero(tokens_N == unknown))
    if not unknowns:
        return length_V
    known_bytes = int(length_V[tokens_N[tokens_N != unknown]].sum())
    shared_V = length_V.astype(np.float64)
    shared_V[unknown] = (text_bytes - known_bytes) / unknowns
    return shared_V


def of_characters(characters: str) -> Tokenizer:
    """A token per character, in order; then one for any other character, and the separator."""
    points = code_points(characters)

    def encode(text: str) -> np.ndarray:
        return look_up(points, code_points(text))

    pieces = [*(c.encode() for c in characters), UNKNOWN.encode(), b""]
    return Tokenizer("chars", pieces, separator=len(pieces) - 1, encode=encode)


def of_list(characters: Sequence[str]) -> Tokenizer:
    """nanoGPT's meta.pkl: a token per character, in any order, none for others, no separator."""
    tokens = {character: token for token, character in enumerate(characters)}

    def encode(text: str) -> np.ndarray:
        return np.array([tokens[c] for c in text if c in tokens], dtype=np.int64)

    return Tokenizer("meta.pkl", [c.encode() for c in characters], None, encode)


def look_up(points: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Tokens of characters: their place in `points`, sorted; unknown ones and separators follow."""
    place = np.minimum(np.searchsorted(points, text), max(0, len(points) - 1))
    listed = points[place] == text if len(points) else np.zeros(len(text), dtype=bool)
    return np.where(listed, place, len(points) + (text == BEYOND_UNICODE))


def as_data(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a table records: enough to read its tokens without the corpus."""
    return {
        "name": tokenizer.name,
        "vocabulary": tokenizer.vocabulary,
        "separator": tokenizer.separator,
        "digest": tokenizer.digest,
    }


def from_data(recorded: Mapping[str, Any], pieces: Sequence[bytes], pattern: str = "") -> Tokenizer:
    """The tokenizer a table was made with, from what it recorded and its tokens' bytes.

    pattern   of a tiktoken encoding; without it, that is fetched by its name
    """
    if recorded["name"] == "chars":
        return of_characters(b"".join(pieces[:-2]).decode())
    if recorded["name"] == "meta.pkl":
        return of_list([piece.decode() for piece in pieces])
    if recorded["name"] == "bpe":
        return of_encoding(of_ranks(pieces[:-1]))
    if pattern:
        ranks = {piece: token for token, piece in enumerate(pieces) if piece}
        special = {END_OF_TEXT: recorded["separator"]}
        encoding = tiktoken.Encoding(
            recorded["name"], pat_str=pattern, mergeable_ranks=ranks, special_tokens=special
        )
        return replace(of_encoding(encoding), pieces=pieces)  # ids that are not used included
    return get_tokenizer(recorded["name"])


BYTES = 256


def learn(texts: Iterator[str], vocabulary: int) -> list[bytes]:
    """What each token stands for, the bytes first, then merges as they were learned.

    At most `vocabulary` - 1, as the separator is one more; fewer if the text has no more pairs.
    Text is cut by GPT-2's pattern first, so that no token spans words. Raises ConfigError if the
    library that learns is not installed.
    """
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    except ImportError:
        raise ConfigError(
            ["data.tokenizer: bpe is learned by the tokenizers library: pip install 'sweep[bpe]'"]
        ) from None
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    byte_of = bytes_by_letter()
    learned = sorted(learner.get_vocab().items(), key=lambda entry: entry[1])
    merges = [bytes(byte_of[c] for c in token) for token, _ in learned if len(token) > 1]
    return [bytes([value]) for value in range(BYTES)] + merges


def bytes_by_letter() -> dict[str, int]:
    """The byte each letter of a byte-level token stands for.

    GPT-2 writes printable Latin-1 bytes as themselves and moves the others, in order, to 256 and
    above.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, BYTES)}
    moved = [value for value in range(BYTES) if value not in printable]
    letters = {chr(value): value for value in printable}
    return letters | {chr(BYTES + place): value for place, value in enumerate(moved)}
