"""Text, or others' tokens, to a table of tokens, and from there to batches."""

__all__ = [
    "batches",
    "byte_pairs",
    "clusters",
    "corpus",
    "extent",
    "overlap",
    "prepare",
    "remote",
    "slowrun_files",
    "split",
    "table",
    "token_files",
    "tokenizer",
]
