"""The shares of ranks, without processes: what each reads, and that it adds up to what one does."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.config import Config, ConfigError, width_problems
from model.data.batches import batch, open_table
from model.progress import Progress
from model.training.device import CPU
from model.training.ranks import Ranks, buckets, joined, pieces
from model.training.run import Run, add_gradients, make_run
from model.training.train import train


@given(st.integers(0, 200), st.integers(0, 300), st.integers(1, 17))
def test_shares_are_all_there_is_in_order_and_about_as_long(first: int, n: int, width: int) -> None:
    things = range(first, first + n)
    shares = [Ranks(rank, width).share(things) for rank in range(width)]

    assert [thing for share in shares for thing in share] == list(things)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.integers(1, 100), st.integers(1, 40))
def test_micro_batches_are_as_few_as_can_be_and_none_is_too_large(n: int, most: int) -> None:
    cut = pieces(range(7, 7 + n), most)

    assert [sequence for piece in cut for sequence in piece] == list(range(7, 7 + n))
    assert len(cut) == -(-n // most)
    assert max(map(len, cut)) <= most


def test_a_bucket_holds_no_more_than_it_may_unless_one_tensor_does() -> None:
    sizes = [3, 3, 5, 1, 1, 9]

    filled = [[t.numel() for t in bucket] for bucket in buckets(map(torch.zeros, sizes), 6)]

    assert filled == [[3, 3], [5, 1], [1], [9]]


def run_of(config: Config, ranks: Ranks) -> Run:
    return replace(make_run(config, open_table(config.data), CPU), ranks=ranks)


def gradients(config: Config, ranks: Ranks) -> tuple[float, list[Tensor]]:
    """Of the first step: the loss, and all gradients."""
    run = run_of(config, ranks)
    run.gpt.enter(0.0, config.train.seed, 0)
    for parameter in run.gpt.parameters():  # away from zeros, where other gradients are zero too
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    loss = add_gradients(run, *batch(config, run.table, 0), 0.0)
    return loss, [p.grad for p in run.gpt.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("width", "settings"),
    [
        (2, {}),
        (3, {}),  # of eight sequences: their shares are unequal
        (8, {"train.micro_batch_tokens": 64}),
        (3, {"train.micro_batch_tokens": 64, "gpt.mtp": "block"}),
        (2, {"train.meta_step": 0.1, "train.meta_parts": 4}),
    ],
    ids=["halves", "unequal", "one each", "micro-batches", "parts with a step of their own"],
)
def test_gradients_and_losses_of_ranks_add_up_to_those_of_one_process(
    width: int, settings: dict[str, object], small: dict[str, object]
) -> None:
    config = Config.from_settings({**small, **settings})
    loss, whole = gradients(config, Ranks())

    losses, parts = zip(
        *[gradients(config, Ranks(rank, width)) for rank in range(width)], strict=True
    )

    assert sum(losses) == pytest.approx(loss, rel=1e-6)
    for expected, *shares in zip(whole, *parts, strict=True):
        torch.testing.assert_close(sum(shares), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("width", [2, 3])
def test_every_target_is_evaluated_by_one_rank_to_the_same_bits(
    width: int, small: dict[str, object]
) -> None:
    config = Config.from_settings({**small, "train.micro_batch_tokens": 128})
    whole_N = run_of(config, Ranks()).evaluate().log_probs_N

    shares = [run_of(config, Ranks(rank, width)).evaluate().log_probs_N for rank in range(width)]

    assert sum(shares).tolist() == whole_N.tolist()  # type: ignore[union-attr]
    assert all((share_N == 0).any() for share_N in shares)


@pytest.mark.parametrize(
    ("width", "settings", "why"),
    [
        (9, {}, r"256 are 8 sequences, too few for 9 devices; raise it or lower trial.gpus"),
        (3, {"train.meta_step": 0.1, "train.meta_parts": 2}, "neither 2 parts nor halves of 2"),
    ],
)
def test_more_ranks_than_a_batch_has_parts_for_are_refused(
    width: int, settings: dict[str, object], why: str, small: dict[str, object]
) -> None:
    config = Config.from_settings({**small, **settings})

    with pytest.raises(ConfigError, match=why), joined(config, 0, width, 0):
        pass
    assert not width_problems(config, 2)


def of_a_group(config: Config, folder: Path, evaluations: int | None = None) -> list[Progress]:
    """The evaluations of a group of one rank, without their clock."""
    meeting = folder.with_name("a meeting of 100%")
    meeting.unlink(missing_ok=True)
    with joined(config, 0, 1, 0, meeting) as ranks:
        run = list(islice(train(config, folder, ranks=ranks), evaluations))
    return [replace(progress, seconds=0.0) for progress in run]


def test_a_group_goes_on_bit_for_bit_whatever_was_drawn_between(
    small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings(
        {**small, "gpt.dropout": 0.2, "train.micro_batch_tokens": 64, "optim.name": "muon"}
    )
    whole = of_a_group(config, tmp_path / "whole")

    of_a_group(config, tmp_path / "parts", 2)
    torch.manual_seed(5)

    assert of_a_group(config, tmp_path / "parts") == whole


def test_a_group_of_one_trains_as_a_process_alone_to_the_last_bit(
    small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**small, "train.ema_epochs": 0.5, "train.meta_step": 0.05})

    alone = [replace(progress, seconds=0.0) for progress in train(config, tmp_path / "alone")]

    assert of_a_group(config, tmp_path / "group") == alone
