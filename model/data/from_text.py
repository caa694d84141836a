"""A corpus on its way into a table: tokens in a spool, and which stretches make up each split."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from model.config import ConfigError, DataConfig
from model.data import pico
from model.data import slowrun_files as fineweb
from model.data.corpus import Piece, is_remote, pieces
from model.data.encode import Documents, Watch, tokenise
from model.data.overlap import duplicates_across
from model.data.scratch import Spool, TextSpool, Workspace
from model.data.split import (
    Splits,
    Stretches,
    by_hash,
    by_stream,
    stream_is_enough,
    too_small,
)
from model.data.tokenizer import (
    BEYOND_UNICODE,
    Tokenizer,
    as_data,
    code_points,
    get_tokenizer,
    learn,
    look_up,
    of_characters,
    of_encoding,
    of_ranks,
    utf8_lengths,
)

FACTORS = (4, 6, 8, 16, 3, 2, 1)  # bytes per token that a bpe is first assumed to reach
MOST_BYTES = 12  # per token, read ahead of learning a bpe from a stream that need not end

# of the finished splits and where their documents begin
Facts = Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray]], dict[str, Any]]


@dataclass(frozen=True)
class Ingested:
    """All it takes to write a table."""

    spool: Spool
    splits: Splits
    tokenizer: Tokenizer
    recorded: Mapping[str, Any]
    final: Callable[[np.ndarray], np.ndarray] = lambda tokens: tokens  # from spooled to table's
    # bytes of text of spooled tokens, where the table's do not tell
    bytes_of: Callable[[np.ndarray], np.ndarray] | None = None
    compression_N: np.ndarray | None = None  # of each document, where there was text
    # what the finished splits tell, if that is not a reason to refuse them
    facts: Facts = lambda splits, documents: {}


def from_text(data: DataConfig, work: Workspace, watch: Watch) -> Ingested:
    """Documents tokenised and split by rule. Raises ConfigError if they cannot be."""
    data = replace(data, test_tokens=data.text_test_tokens)
    if data.tokenizer == "bpe":
        return _with_bpe(data, work, watch)
    if data.tokenizer in ("chars", pico.NAME):
        spool = work.tokens(np.uint32)
        documents = _tokenise(pieces(data), code_points, BEYOND_UNICODE, spool, data, watch)
        splits, counted = _split(documents, data)
        made = partial(Ingested, spool, splits, compression_N=documents.compression_N)
        if data.tokenizer == "chars":
            tokenizer, points = _characters(spool, splits["train"])
            recorded = {**source_facts(data, tokenizer), **counted}
            return made(tokenizer, recorded, final=partial(look_up, points))
        tokenizer = get_tokenizer(data.tokenizer)
        recorded = {**source_facts(data, tokenizer), **counted}
        return made(tokenizer, recorded, final=pico.of_points, bytes_of=utf8_lengths)
    tokenizer = get_tokenizer(data.tokenizer)
    assert tokenizer.separator is not None
    spool = work.tokens(tokenizer.dtype)
    documents = _tokenise(pieces(data), tokenizer.encode, tokenizer.separator, spool, data, watch)
    splits, counted = _split(documents, data)
    facts = _slowrun_facts if fineweb.is_recipe(data) else Ingested.facts
    recorded = {**source_facts(data, tokenizer), **counted}
    return Ingested(
        spool, splits, tokenizer, recorded, compression_N=documents.compression_N, facts=facts
    )


def _tokenise(
    texts: Iterator[Piece],
    encode: Callable[[str], np.ndarray],
    separator: int,
    spool: Spool,
    data: DataConfig,
    watch: Watch,
) -> Documents:
    def enough(documents: Documents) -> bool:
        return data.splits == "stream" and stream_is_enough(documents.lengths, spool.length, data)

    documents = tokenise(texts, encode, separator, spool, watch, enough)
    if not documents.characters:
        raise ConfigError([f"data.path: {data.path or 'the library'} holds no text"])
    return documents


def _split(documents: Documents, data: DataConfig) -> tuple[Splits, dict[str, Any]]:
    """The splits, and how many duplicates were dropped (hash) or are in two of them (stream)."""
    if data.splits == "stream":
        splits = by_stream(documents.length_N, data)
        at = {name: split.document_N for name, split in splits.items()}
        return splits, {"duplicates": duplicates_across(documents.key_N, at)}
    splits, dropped = by_hash(documents.length_N, documents.key_N, data)
    return splits, {"duplicates": {"dropped": dropped}}


def source_facts(data: DataConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """What a table records about where its tokens come from and what they mean."""
    commit = ""
    if is_remote(data.path):
        from model.data.remote import shards

        commit = shards(data.path)[1]
    return {
        "source": data.path or f"standard library of Python {platform.python_version()}",
        "commit": commit,
        "rule": data.splits,
        "tokenizer": as_data(tokenizer),
    }


def _characters(spool: Spool, train: Stretches) -> tuple[Tokenizer, np.ndarray]:
    """The characters of the training split, so that none of the others leaks into the model."""
    points = np.array([], dtype=np.uint32)
    for block in spool.gather(train.start_N, train.length_N):
        points = np.union1d(points, block)
    points = points[points != BEYOND_UNICODE].astype(np.uint32)
    return of_characters(points.tobytes().decode("utf-32-le")), points


def _with_bpe(data: DataConfig, work: Workspace, watch: Watch) -> Ingested:
    """A bpe learned from documents that end up in train, and from nothing else.

    Which do is known only once it is there, as budgets count tokens. So a share is held back, as if
    each token stood for so many bytes, and what was learned from is looked up afterwards.
    """
    text, documents = work.text(), Documents()
    read = MOST_BYTES * (data.val_tokens + data.pool_tokens + data.test_tokens)
    for piece in pieces(data):
        documents.add(piece, text.append(piece))
        if data.pool_tokens and documents.characters > read:
            break
    documents.end()
    for factor in FACTORS:
        held_back = replace(
            data, val_tokens=factor * data.val_tokens, test_tokens=factor * data.test_tokens
        )
        try:
            learned_from = _split(documents, held_back)[0]["train"]
        except ConfigError:
            continue  # the corpus cannot spare so much
        ranks = learn(_texts_of(text, learned_from), data.vocabulary)
        tokenizer = of_encoding(of_ranks(ranks))
        assert tokenizer.separator is not None
        spool = work.tokens(tokenizer.dtype)
        encoded = _tokenise(
            text.pieces(), tokenizer.encode, tokenizer.separator, spool, data, watch
        )
        splits, counted = _split(encoded, data)
        if _is_within(learned_from, splits["train"], spool, tokenizer):
            recorded = {**source_facts(data, tokenizer), **counted}
            ratios_N = encoded.compression_N
            return Ingested(spool, splits, tokenizer, recorded, compression_N=ratios_N)
    raise too_small(documents.characters, data)


def _texts_of(text: TextSpool, stretches: Stretches) -> Iterator[str]:
    """Pieces of the documents in `stretches`; of a single, cut document, what is in its stretch."""
    chosen = set(stretches.document_N.tolist())
    document, left = -1, stretches.tokens - len(stretches.document_N)  # separators are no bytes
    for piece in text.pieces():
        document += piece.begins
        if document in chosen:
            kept = piece.text.encode()[: max(0, left)]
            left -= len(kept)
            yield kept.decode(errors="ignore")


def _is_within(
    learned_from: Stretches, train: Stretches, spool: Spool, tokenizer: Tokenizer
) -> bool:
    if not np.isin(learned_from.document_N, train.document_N).all():
        return False
    if len(train.document_N) > 1:
        return True
    lengths, blocks = tokenizer.lengths, spool.gather(train.start_N, train.length_N)
    return learned_from.tokens - 1 <= sum(int(lengths[block].sum()) for block in blocks)


def _slowrun_facts(
    splits: Mapping[str, np.ndarray], documents: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    digests = {
        name: fineweb.digest_of_file(name, splits[name], documents[name][:-1])
        for name in fineweb.DIGESTS
    }
    return {"slowrun": digests}
