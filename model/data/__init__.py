"""Text, or others' tokens, to a table of tokens, and from there to batches."""

__all__ = [
    "batches",
    "clusters",
    "corpus",
    "extent",
    "overlap",
    "prepare",
    "slowrun_files",
    "split",
    "table",
    "tokenizer",
]
