"""What a text costs a trained network: all of it, or the part that training holds out.

Shapes: N tokens, D documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.config import ConfigError, DataConfig
from model.data.batches import open_table
from model.data.corpus import is_remote, pieces
from model.data.prepare import is_table
from model.data.token_files import find_import
from model.data.tokenizer import as_data
from model.trained.prompt import no_tokens, unknown_characters
from model.training.device import runtime
from model.training.evaluate import Evaluation, HeldOut, evaluate
from model.training.trained import Trained

ALL, VAL, TRAIN = "all", "val", "train"
SPLITS = (ALL, VAL, TRAIN)  # the test split is sealed until a search is over


@dataclass(frozen=True)
class TextLoss:
    """A text's loss, and how much text it is."""

    evaluation: Evaluation
    tokens: int
    documents: int


def text_loss(trained: Trained, data: DataConfig, split: str) -> TextLoss:
    """The loss of `trained` on the text or the tokens that `data.path` names.

    split   all of a text, or one of the parts that training would make of it
    Each document is read after what separates documents, as far back as validation reads. Raises
    ConfigError if the text cannot be used, or the network knows other tokens.
    """
    held_out = _whole(trained, data) if split == ALL else _part(trained, data, split)
    if len(held_out.tokens) < 2:
        raise ConfigError([f"data.path: {data.path} has no token to predict"])
    where = runtime(trained.config)
    its = evaluate(trained.gpt.to(where.device), held_out, where)
    documents = held_out.documents
    return TextLoss(its, len(held_out.tokens), 1 if documents is None else len(documents) - 1)


def _whole(trained: Trained, data: DataConfig) -> HeldOut:
    """Every document of a text, one after the other."""
    tokenizer = trained.tokenizer
    path = Path(data.path).expanduser()
    if is_table(data.path) or not (is_remote(data.path) or find_import(path) is None):
        raise ConfigError([f"data.path: {data.path} holds tokens, not text; use --split val"])
    before = [] if tokenizer.separator is None else [tokenizer.separator]
    parts: list[np.ndarray] = []
    starts, length, text_bytes = [], 0, 0
    seen, strange = set[str](), list[str]()
    for piece in pieces(data):
        if piece.begins:
            starts.append(length)
            parts.append(np.array(before, dtype=np.int64))
            length += len(before)
        if tokenizer.unknown is None:
            new = "".join(set(piece.text) - seen)
            seen.update(new)
            strange += unknown_characters(tokenizer, new)
        parts.append(tokenizer.encode(piece.text).astype(np.int64))
        length += len(parts[-1])
        text_bytes += len(piece.text.encode())
    if strange:
        raise ConfigError([f"data.path: {data.path}: {no_tokens(sorted(strange))}"])
    tokens_N = np.concatenate(parts) if parts else np.array([], dtype=np.int64)
    length_V = tokenizer.lengths_in(tokens_N, text_bytes)
    return HeldOut(tokens_N, length_V, trained.gpt.config.reach, np.array([*starts, length]))


def _part(trained: Trained, data: DataConfig, split: str) -> HeldOut:
    """A split of the table that training would read."""
    table = open_table(data)
    its, ours = table.recorded["tokenizer"], as_data(trained.tokenizer)
    if its["digest"] != ours["digest"]:
        raise ConfigError(
            [
                f"data.path: {data.path} gives tokens of {its['name']} ({its['digest'][:8]}), the "
                f"network knows those of {ours['name']} ({ours['digest'][:8]})"
            ]
        )
    return HeldOut.of(table, split, trained.gpt.config.reach)
