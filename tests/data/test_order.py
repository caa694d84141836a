from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config.config import Config
from model.config.setting import ConfigError
from model.data.batches import batch
from model.data.order import Stream, epoch_order, shuffled_documents
from model.data.table import TokenTable

CONTEXT = 16


def table_of(lengths: list[int]) -> TokenTable:
    """Token n of the split is n, so that what is read says where it lay."""
    offsets = np.cumsum([0, *lengths])
    tokens = np.arange(offsets[-1], dtype=np.uint16)
    return TokenTable("", 1 << 16, np.ones(1), tokens, tokens, tokens, documents={"train": offsets})


def config_of(tokens: int, shuffle: str, seed: int = 0) -> Config:
    return Config.from_settings(
        {
            "data.train_tokens": tokens,
            "gpt.context": CONTEXT,
            "train.batch_tokens": 4 * CONTEXT,
            "train.shuffle": shuffle,
            "train.data_seed": seed,
            "train.evals": 1,
        }
    )


def read_epoch(config: Config, table: TokenTable, epoch: int) -> np.ndarray:
    """Every row of an epoch, (sequences, T + 1)."""
    per_epoch = config.steps_per_epoch
    steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    pairs = [batch(config, table, step) for step in steps]
    assert all(np.array_equal(x_BT[:, 1:], y_BT[:, :-1]) for x_BT, y_BT in pairs)
    return np.concatenate([np.concatenate([x, y[:, -1:]], axis=1) for x, y in pairs])


LENGTHS = [int(n) for n in np.random.default_rng(0).integers(1, 90, 60)]
TABLE = table_of(LENGTHS)
BUDGET = 1 + 4 * CONTEXT * (sum(LENGTHS) // (5 * CONTEXT))  # whole batches; a document is cut


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    orders = [epoch_order(50, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]

    assert epoch_order(50, 1, 1).tolist() == orders[3]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_without_shuffling_every_epoch_is_the_file() -> None:
    config = config_of(BUDGET, "no")

    for epoch in range(2):
        assert read_epoch(config, TABLE, epoch)[:, :-1].ravel().tolist() == list(range(BUDGET - 1))


def test_random_offsets_reach_every_place_equally_often_and_no_further() -> None:
    """As nanoGPT's get_batch promises: randint(len(data) - block_size), targets one further."""
    places = 7 * CONTEXT
    config = config_of(places + CONTEXT, "offsets")

    steps = [batch(config, TABLE, step) for step in range(20 * places)]

    assert all(np.array_equal(x_BT + 1, y_BT) for x_BT, y_BT in steps)  # token n is n
    starts = np.concatenate([x_BT[:, 0] for x_BT, _ in steps])
    counts = np.bincount(starts, minlength=places)
    assert len(counts) == places
    expected = len(starts) / places  # 80 draws of each place
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - places) < 5 * np.sqrt(2 * places)  # mean and deviation of chi square


def test_random_offsets_depend_on_seed_and_step_alone() -> None:
    """By the formula that is promised, in whatever order steps are asked for."""
    config = config_of(BUDGET, "offsets", seed=7)

    for step in (5, 0, 5):
        x_BT, _ = batch(config, TABLE, step)
        drawn_B = np.random.default_rng([7, step, 2]).integers(BUDGET - CONTEXT, size=4)
        assert x_BT[:, 0].tolist() == drawn_B.tolist()


def test_shuffled_sequences_are_the_files_windows() -> None:
    """Bit for bit what every run before this setting read."""
    config = config_of(BUDGET, "sequences", seed=7)
    rows = read_epoch(config, TABLE, 3)

    order = np.random.default_rng([7, 3]).permutation((BUDGET - 1) // CONTEXT)

    assert rows[:, 0].tolist() == (order * CONTEXT).tolist()
    assert (np.diff(rows) == 1).all()


def test_shuffled_documents_stay_whole_and_no_token_is_read_twice() -> None:
    config = config_of(BUDGET, "documents")
    stream = shuffled_documents(TABLE, BUDGET, 0, 0)
    joined = TABLE.train[stream.positions(np.array([0]), BUDGET)][0]

    starts = set(np.cumsum([0, *LENGTHS]).tolist())
    breaks = np.flatnonzero(np.diff(joined.astype(int)) != 1) + 1

    assert {int(joined[at]) for at in breaks} <= starts  # a jump lands where a document begins
    assert {int(joined[at - 1]) + 1 for at in breaks} <= starts | {BUDGET}
    assert sorted(joined.tolist()) == list(range(BUDGET))
    rows = read_epoch(config, TABLE, 0)
    assert sorted(rows[:, :-1].ravel().tolist()) == sorted(joined[:-1].tolist())


def test_documents_are_cut_anew_in_every_epoch_and_for_every_seed() -> None:
    """As many sequences as without; which tokens share one differs, so memorising helps less."""
    epochs = [
        read_epoch(config_of(BUDGET, "documents", seed), TABLE, epoch)
        for seed in (0, 1)
        for epoch in (0, 1)
    ]

    assert {len(rows) for rows in epochs} == {(BUDGET - 1) // CONTEXT}
    assert len({frozenset(map(tuple, rows.tolist())) for rows in epochs}) == 4
    again = read_epoch(config_of(BUDGET, "documents", 1), TABLE, 1)
    assert np.array_equal(again, epochs[3])


def test_sequences_of_shuffled_documents_are_shuffled_too() -> None:
    rows = read_epoch(config_of(BUDGET, "documents"), TABLE, 0)
    stream = shuffled_documents(TABLE, BUDGET, 0, 0)
    joined = TABLE.train[stream.positions(np.array([0]), BUDGET)][0]

    assert rows[:, 0].tolist() != joined[:-1:CONTEXT].tolist()


@pytest.mark.parametrize("tokens", [BUDGET, sum(LENGTHS)])
def test_a_smaller_budget_reads_nothing_beyond_it(tokens: int) -> None:
    rows = read_epoch(config_of(tokens, "documents"), TABLE, 0)

    assert rows.max() < tokens


def curriculum_config(kind: str, **settings: object) -> Config:
    return Config.from_settings(
        {
            **config_of(sum(LENGTHS), "sequences").settings(),
            "optim.decay_timescale": 0,
            "data.curriculum": kind,
            "train.epochs": 3,
            **settings,
        }
    )


def documents_read(rows: np.ndarray) -> list[int]:
    """Numbers of the documents in the order in which they are read."""
    document = np.repeat(np.arange(len(LENGTHS)), LENGTHS)[rows[:, :-1].ravel()]
    return list(dict.fromkeys(document.tolist()))


@pytest.mark.parametrize("kind", ["shortest", "compression", "reference"])
def test_a_curriculum_reads_documents_easiest_first_and_then_shuffles(
    kind: str, tmp_path: Path
) -> None:
    hardness = np.array(LENGTHS, dtype=float)
    if kind != "shortest":
        hardness = np.random.default_rng(5).permutation(len(LENGTHS)).astype(float)
    np.save(tmp_path / "losses.npy", hardness)
    table = replace(TABLE, compression=hardness)
    reference = str(tmp_path / "losses.npy") if kind == "reference" else ""
    config = curriculum_config(kind, **{"data.curriculum_epochs": 2, "data.reference": reference})

    epochs = [read_epoch(config, table, epoch) for epoch in range(3)]

    expected = np.argsort(hardness, kind="stable").tolist()
    assert documents_read(epochs[0]) == expected[: len(documents_read(epochs[0]))]
    assert np.array_equal(epochs[0], epochs[1])
    assert epochs[2].tolist() == read_epoch(config_of(sum(LENGTHS), "sequences"), TABLE, 2).tolist()


def test_imported_tokens_have_no_compression_to_go_by() -> None:
    with pytest.raises(ConfigError, match="imported tokens have no text"):
        batch(curriculum_config("compression"), TABLE, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"", "cannot read"),
        (np.zeros(3), "expected a loss for each of 60 documents"),
        (np.zeros(60, dtype=int), "holds int64"),
        (np.full(60, np.nan), "expected a loss for each"),
    ],
)
def test_losses_that_do_not_fit_are_refused(
    content: bytes | np.ndarray | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "losses.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)

    with pytest.raises(ConfigError, match=message):
        batch(curriculum_config("reference", **{"data.reference": str(path)}), TABLE, 0)


@given(st.data())
def test_a_stretch_of_a_stream_is_that_stretch_of_its_documents_joined(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=12))
    starts = data.draw(st.lists(st.integers(0, 99), min_size=len(lengths), max_size=len(lengths)))
    total = sum(lengths)
    length = data.draw(st.integers(1, max(1, total)))
    first = data.draw(st.lists(st.integers(0, max(0, total - length)), max_size=5 * (total > 0)))
    joined = np.array([s + i for s, n in zip(starts, lengths, strict=True) for i in range(n)])
    stream = Stream(np.array(starts), np.cumsum([0, *lengths]))

    found = stream.positions(np.array(first, dtype=np.int64), length)

    assert found.tolist() == [joined[at : at + length].tolist() for at in first]
