"""A token table as batches.

B sequences, T tokens each.
"""

from __future__ import annotations

import numpy as np

from model.config import AS_THERE_IS, VOCABULARIES, Config, ConfigError, DataConfig
from model.data import slowrun_files as fineweb
from model.data.order import (
    Stream,
    easiest_first,
    epoch_order,
    random_starts,
    shuffled_documents,
)
from model.data.prepare import is_table, prepare
from model.data.table import TokenTable, digest_of, read_table


def open_table(data: DataConfig, verify: bool = False) -> TokenTable:
    """The token table for `data`, prepared if needed, whole: users take the first `train_tokens`.

    verify   read every token and compare with the digest that was recorded
    Raises ConfigError if the table's digest is not the one asked for, if the file is damaged or if
    the corpus has too few tokens.
    """
    path = prepare(data)
    table = read_table(path)
    problems = []
    if data.digest and table.digest != data.digest:
        problems.append(
            f"data.digest: expected {data.digest}, but {path} holds {table.digest}; the corpus "
            "changed or another Python provides it"
        )
    coded = table.recorded["tokenizer"]["name"]
    if is_table(data.path) and coded in VOCABULARIES and coded != data.tokenizer:
        problems.append(f"data.tokenizer: {path} holds tokens of {coded}, not of {data.tokenizer}")
    if fineweb.is_recipe(data) and not data.digest:
        problems += fineweb.differences(table.recorded["slowrun"], path, table.digest)
    for name, asked in (("val", data.val_tokens), ("test", data.test_tokens)):
        there = len(getattr(table, name))
        if there != asked and asked != AS_THERE_IS:  # in a table that was made elsewhere
            problems.append(f"data.{name}_tokens: {path} holds {there:,}, not {asked:,}")
    if len(table.train) < data.train_tokens:
        problems.append(
            f"data.train_tokens: {data.train_tokens:,} asked, but the corpus has "
            f"{len(table.train):,} left beside val and test"
        )
    if verify and (held := digest_of(table)["digest"]) != table.digest:
        problems.append(
            f"the token table {path} was altered: recorded digest {table.digest}, its tokens have "
            f"{held}; delete it and it is made again"
        )
    if problems:
        raise ConfigError(problems)
    return table


def batch(config: Config, table: TokenTable, done_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (B, T) of the step after `done_steps`: a pure function, as is the order.

    Each epoch reads the first `data.train_tokens` at most once. `train.shuffle` says how: as they
    lie; their sequences in another order; or their documents (slowrun #76), which are joined and
    cut into sequences anew, in another order too. With offsets an epoch reads as many tokens, but
    its sequences begin anywhere: some tokens are read twice, some not. A curriculum comes first.
    """
    data, context, seed = config.data, config.gpt.reach, config.train.data_seed
    tokens, shuffle = data.train_tokens, config.train.shuffle
    epoch, step = divmod(done_steps, config.steps_per_epoch)
    size = config.train.batch_tokens // context
    sequences_B = np.arange(step * size, (step + 1) * size)
    if data.curriculum != "no" and epoch < data.curriculum_epochs:
        stream = easiest_first(table, tokens, data.curriculum, data.reference)
        return _of_stream(table.train, stream, sequences_B * context, context)
    if shuffle == "offsets":
        starts_B = random_starts(tokens - context, size, seed, done_steps)
        return windows(table.train, starts_B, context)
    if shuffle != "no":
        sequences_B = epoch_order((tokens - 1) // context, seed, epoch)[sequences_B]
    if shuffle == "documents":
        stream = shuffled_documents(table, tokens, seed, epoch)
        return _of_stream(table.train, stream, sequences_B * context, context)
    return windows(table.train, sequences_B * context, context)


def windows(tokens: np.ndarray, starts: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and next-token targets, each (B, T) int64, of the windows at `starts` (B,)."""
    # A view of every window there is: picking some copies row by row, without an index per token.
    rows = np.lib.stride_tricks.sliding_window_view(tokens, context + 1)[starts]
    return rows[:, :-1].astype(np.int64), rows[:, 1:].astype(np.int64)


def _of_stream(
    tokens: np.ndarray, stream: Stream, starts: np.ndarray, context: int
) -> tuple[np.ndarray, np.ndarray]:
    rows = tokens[stream.positions(starts, context + 1)]
    return rows[:, :-1].astype(np.int64), rows[:, 1:].astype(np.int64)
