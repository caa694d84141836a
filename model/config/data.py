"""Settings of the data: where it comes from, what its tokens are, how much of it is for what."""

from __future__ import annotations

from dataclasses import dataclass

from model.config.setting import setting

# How many different tokens there are, by data.tokenizer. A corpus decides on its characters, so
# theirs is a guess, and data.vocabulary on a bpe's.
VOCABULARIES = {
    "bytes": 257,
    "chars": 128,
    "picogpt": 88,
    "bpe": 0,
    "gpt2": 50_257,
    "r50k_base": 50_257,
    "p50k_base": 50_281,
    "p50k_edit": 50_284,
    "cl100k_base": 100_277,
    "o200k_base": 200_019,
    "o200k_harmony": 201_088,
}
ALL = "all"  # of data.train_tokens: who opens the data puts the number in its place
AS_THERE_IS = -1  # data.test_tokens, unless it is given
TEXT_TEST_TOKENS = 16_384  # what that comes to where there is text to take them from


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    path: str = setting(
        "",
        "",
        "text, Parquet, others' tokens; a file, folder or URI; empty: Python's own library",
    )
    column: str = setting("text", "", "column of Parquet files that holds the documents")
    tokenizer: str = setting(
        "bytes",
        "",
        "how text becomes tokens; chars and bpe are learned from the training split, picogpt's are "
        "lower-case characters",
        choices=tuple(VOCABULARIES),
    )
    vocabulary: int = setting(
        4096, "tokens", "size of a learned bpe, separator included", low=258, high=1 << 20
    )
    splits: str = setting(
        "hash",
        "",
        "whole documents by the hash of their text, or in the order they come (slowrun)",
        choices=("hash", "stream"),
    )
    pool_tokens: int = setting(
        0, "tokens", "with splits stream, read so many to train on; 0: all there are", low=0
    )
    train_tokens: int = setting(
        65_536,
        "tokens",
        "the training budget, seen once per epoch; all: as many as there are",
        low=2,
        words=(ALL,),
    )
    val_tokens: int = setting(16_384, "tokens", "held out for searching and pruning", low=2)
    test_tokens: int = setting(
        AS_THERE_IS,
        "tokens",
        f"sealed until the search is over; 0: none; -1: {TEXT_TEST_TOKENS:,}, but none of others' "
        "tokens without a test file (above 0, they are cut off the end of the val file)",
        low=AS_THERE_IS,
    )
    curriculum: str = setting(
        "no",
        "",
        "first epochs read documents easiest first: the shortest, the most compressible, or those "
        "that a reference run found easy (2506.11300)",
        choices=("no", "shortest", "compression", "reference"),
    )
    curriculum_epochs: int = setting(
        1, "epochs", "so many are in that order; later ones as train.shuffle says", low=1
    )
    reference: str = setting(
        "", "", "losses by document for a curriculum, as `sweep data score` gives"
    )
    digest: str = setting("", "", "refuse a token table with another digest; empty: any")

    @property
    def token_kinds(self) -> int:
        """How many different tokens there are, as far as settings tell."""
        return self.vocabulary if self.tokenizer == "bpe" else VOCABULARIES[self.tokenizer]

    @property
    def text_test_tokens(self) -> int:
        """Tokens of the test split if `path` holds text."""
        return TEXT_TEST_TOKENS if self.test_tokens == AS_THERE_IS else self.test_tokens

    def problems(self) -> list[str]:
        """What is possible alone but not together."""
        problems = []
        if self.pool_tokens and self.splits != "stream":
            problems.append("data.pool_tokens: needs data.splits stream; by hash all is read")
        if self.pool_tokens and self.pool_tokens < self.train_tokens:
            problems.append(
                f"data.train_tokens: must be at most data.pool_tokens ({self.pool_tokens:,}), "
                f"got {self.train_tokens:,}"
            )
        if (self.curriculum == "reference") != bool(self.reference):
            problems.append("data.reference: is what data.curriculum reference needs; give both")
        return problems
