"""Byte pairs learned from text, to be served through tiktoken."""

from __future__ import annotations

from collections.abc import Iterator

from model.config.setting import ConfigError

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
    byte_of = _bytes_by_letter()
    learned = sorted(learner.get_vocab().items(), key=lambda entry: entry[1])
    merges = [bytes(byte_of[c] for c in token) for token, _ in learned if len(token) > 1]
    return [bytes([value]) for value in range(BYTES)] + merges


def _bytes_by_letter() -> dict[str, int]:
    """The byte each letter of a byte-level token stands for.

    GPT-2 writes printable Latin-1 bytes as themselves and moves the others, in order, to 256 and
    above.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, BYTES)}
    moved = [value for value in range(BYTES) if value not in printable]
    letters = {chr(value): value for value in printable}
    return letters | {chr(BYTES + place): value for place, value in enumerate(moved)}
