"""A token table as batches. The order of an epoch is a pure function of (seed, epoch).

B sequences, T tokens each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.config import Config, DataConfig
from model.prepare import SPLITS, prepare
from model.setting import ConfigError


@dataclass(frozen=True)
class TokenTable:
    """Memory-mapped splits and what was recorded about them."""

    digest: str
    vocabulary: int
    token_lengths: np.ndarray  # bytes of text per token id
    train: np.ndarray  # uint16, all the corpus has left for training
    val: np.ndarray
    test: np.ndarray


def open_table(data: DataConfig) -> TokenTable:
    """The token table for `data`, prepared if needed, whole: users take the first `train_tokens`.

    Raises ConfigError if the table's digest is not the one asked for, if the file is damaged or if
    the corpus has too few tokens.
    """
    path = prepare(data)
    table = _read(path)
    if data.digest and table.digest != data.digest:
        raise ConfigError(
            [
                f"data.digest: expected {data.digest}, but {path} holds {table.digest}; the corpus "
                "changed or another Python provides it"
            ]
        )
    if len(table.train) < data.train_tokens:
        raise ConfigError(
            [
                f"data.train_tokens: {data.train_tokens:,} asked, but the corpus has "
                f"{len(table.train):,} left beside val and test"
            ]
        )
    return table


def _read(path: Path) -> TokenTable:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        about = json.loads(reader.schema.metadata[b"sweep"])
        splits = {
            name: reader.get_batch(index).column(0).to_numpy(zero_copy_only=True)
            for index, name in enumerate(SPLITS)
        }
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise ConfigError(
            [f"the token table {path} is damaged ({error}); delete it and it is made again"]
        ) from None
    lengths = np.array(about["token_lengths"], dtype=np.int64)
    return TokenTable(about["digest"], about["vocabulary"], lengths, **splits)


def batch(config: Config, table: TokenTable, done_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (B, T) of the step after `done_steps`."""
    context, per_epoch = config.gpt.context, config.steps_per_epoch
    sequences = (config.data.train_tokens - 1) // context
    order = epoch_order(sequences, config.train.data_seed, done_steps // per_epoch)
    size = config.train.batch_tokens // context
    first = done_steps % per_epoch * size
    return windows(table.train, order[first : first + size] * context, context)


@lru_cache(maxsize=1)
def epoch_order(sequences: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of range(sequences) that depends on nothing but the arguments.

    Read-only, and remembered: every step of an epoch asks for the same one.
    """
    order = np.random.default_rng([seed, epoch]).permutation(sequences)
    order.flags.writeable = False
    return order


def windows(tokens: np.ndarray, starts: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and next-token targets, each (B, T) int64, of the windows at `starts` (B,)."""
    at_BT = starts[:, None] + np.arange(context)
    return tokens[at_BT].astype(np.int64), tokens[at_BT + 1].astype(np.int64)
