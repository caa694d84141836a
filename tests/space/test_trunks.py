from __future__ import annotations

from pathlib import Path

import pytest
from sweeps import make_space, problems

from model.config.config import Config
from model.config.trunk import recipe_digest
from sweep.space.space import Space
from sweep.space.trunks import (
    epoch_counts,
    kept_trunks,
    ladder_gain,
    siblings,
    spared,
    useless_trunks,
)

SHARED = """
name: shared
search:
  train.epochs: [1, 2, 4]
  optim.lr: [0.004, 0.008]
fixed:
  data.train_tokens: 10_241      # ten steps of 1024 tokens an epoch
  optim.schedule: constant_linear
  optim.warmup: 0
  optim.warmdown: 0.2
trial: {share_trunks: true}
"""


@pytest.fixture
def shared(tmp_path: Path) -> Space:
    return make_space(tmp_path, SHARED)


def recipe(space: Space, epochs: int, lr: float = 0.004) -> dict[str, object]:
    return {**space.fixed, "train.epochs": epochs, "optim.lr": lr}


def test_every_reason_not_to_share_is_told_at_once(tmp_path: Path) -> None:
    text = """
name: refused
search:
  optim.schedule: [cosine, constant_linear]
  optim.warmdown: [0.2, 0.4]
  optim.name: [adamw, muon, schedule_free]
fixed: {optim.momentum_warmup: 0.1, gpt.mtp: offsets, optim.decay_schedule: rising}
trial: {share_trunks: true}
"""
    told = problems(tmp_path, text)

    assert all(line.startswith("trial.share_trunks: ") for line in told)
    names = [line.split(": ")[1] for line in told]
    assert names == [
        "train.epochs",
        "optim.schedule",
        "optim.warmdown",
        "optim.name",
        "optim.warmup",
        "optim.decay_schedule",
        "gpt.mtp",
        "optim.momentum_warmup",
    ]
    make_space(tmp_path, text.replace("true", "false"))  # each is fine by itself


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ("[8, 2, 4]", (2, 4, 8)),
        ("{min: 3, max: 6}", (3, 4, 5, 6)),
        ("{min: 3, max: 40, log: true}", (3, 4, 8, 16, 32, 40)),
    ],
)
def test_trunks_are_kept_for_listed_counts_and_for_doublings_of_a_long_range(
    values: str, counts: tuple[int, ...], tmp_path: Path
) -> None:
    space = make_space(tmp_path, SHARED.replace("[1, 2, 4]", values))

    assert epoch_counts(space) == counts


def test_a_trial_is_spared_what_the_furthest_trial_of_its_recipe_has_passed(
    shared: Space,
) -> None:
    """Trunks of 1, 2 and 4 epochs end after 8, 16 and 32 steps of 10, 20 and 40."""
    kept = kept_trunks(shared, [(recipe(shared, 4), 0.5), (recipe(shared, 2), 0.3)])

    assert list(kept.values()) == [(8, 16)]
    assert [spared(shared, recipe(shared, n), kept) for n in (1, 2, 4)] == [0.8, 0.8, 0.4]
    assert spared(shared, recipe(shared, 4, lr=0.008), kept) == 0


def test_a_trunk_is_useless_once_no_epoch_count_would_begin_from_it(shared: Space) -> None:
    digest = recipe_digest(Config.from_settings(recipe(shared, 4)))
    kept = {digest: [8, 16, 32], "unknown": [8]}

    def left(*epochs: int) -> set[int]:
        ended = [recipe(shared, count) for count in epochs]
        return {8, 16, 32} - useless_trunks(shared, ended, kept).get(digest, set())

    assert left(4) == {8, 16}
    assert left(4, 1) == {16}
    assert left(1) == {16, 32}
    assert left(1, 2, 4) == set()
    assert left() == {8, 16, 32}
    assert "unknown" not in useless_trunks(shared, [recipe(shared, 4)], kept)


def test_a_range_of_epochs_keeps_every_trunk(tmp_path: Path) -> None:
    space = make_space(tmp_path, SHARED.replace("[1, 2, 4]", "{min: 1, max: 64, log: true}"))

    assert useless_trunks(space, [recipe(space, 1)], {"any": [8]}) == {}


def test_siblings_are_the_other_epoch_counts(shared: Space) -> None:
    point = {"train.epochs": 2, "optim.lr": 0.004}

    assert [other["train.epochs"] for other in siblings(shared, point)] == [1, 4]


def test_a_whole_ladder_trains_one_trunk_and_every_fall(shared: Space) -> None:
    """10 + 20 + 40 steps alone; 32 of the trunk and 2 + 4 + 8 of falls together."""
    assert ladder_gain(shared) == pytest.approx(70 / 46)
