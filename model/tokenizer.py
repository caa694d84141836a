"""tiktoken encodings: bytes, and gpt2."""

from __future__ import annotations

import tiktoken

from model.setting import ConfigError

END_OF_TEXT = "<|endoftext|>"


def get_encoding(name: str) -> tiktoken.Encoding:
    """The encoding called `name`, a choice of `data.tokenizer`.

    `bytes` needs no download: 256 tokens for the byte values and one that separates documents.
    """
    if name == "bytes":
        return tiktoken.Encoding(
            "bytes",
            # Pieces of bounded length keep the merge loop, which finds nothing, from growing.
            pat_str=r"[\s\S]{1,32}",
            mergeable_ranks={bytes([value]): value for value in range(256)},
            special_tokens={END_OF_TEXT: 256},
        )
    try:
        return tiktoken.get_encoding(name)
    except OSError as error:
        raise ConfigError(
            [
                f"data.tokenizer: {name} has to be downloaded once and that failed ({error}); "
                "point TIKTOKEN_CACHE_DIR at a folder that has it, or use bytes"
            ]
        ) from None


def token_lengths(encoding: tiktoken.Encoding) -> list[int]:
    """Bytes of text each token stands for, by token; 0 for the separator and unused ids."""
    lengths = [0] * encoding.n_vocab
    for piece in encoding.token_byte_values():
        lengths[encoding.encode_single_token(piece)] = len(piece)
    return lengths
