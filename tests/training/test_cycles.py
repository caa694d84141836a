from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config.config import Config
from model.data.batches import open_table
from model.network.gpt import GPT
from model.training import checkpoint, log_probs
from model.training.cycles import begin_cycle, noise_before
from model.training.device import runtime
from model.training.members import mean_probabilities
from model.training.run import make_run
from model.training.teacher import Predecessor
from model.training.train import train


@pytest.fixture
def cyclic(small: dict[str, object]) -> dict[str, Any]:
    """Four cycles of two epochs, of eight steps each; evaluated at their ends and between."""
    return {
        **small,
        "train.precision": "fp32",
        "train.compile": "no",
        "train.epochs": 8,
        "train.evals": 8,
        "train.average_cycles": 3,
        "train.evaluate": "probabilities",
        "train.log_probs": "cycles",
        "optim.schedule": "cyclic",
        "optim.cycles": 4,
        "optim.warmup": 0.0,
        "optim.final_rate": 0.08,
        "optim.decay_schedule": "rising",
        "optim.cycle_noise": 0.25,
        "optim.cycle_noise_last": 0.05,
    }


def test_the_ends_of_the_last_cycles_are_the_members_of_one_run(
    cyclic: dict[str, Any], tmp_path: Path
) -> None:
    run = list(train(Config.from_settings(cyclic), tmp_path))
    kept = log_probs.read(tmp_path)

    ends = [log_probs.epoch_key(epoch) for epoch in (2, 4, 6, 8)]
    assert sorted(kept) == sorted([*ends, log_probs.FINAL])
    mixed_N = mean_probabilities([kept[key] for key in ends[1:]])
    assert kept[log_probs.FINAL] == pytest.approx(mixed_N, abs=5e-3)  # float16
    assert (
        run[-1].val_loss == run[-1].probabilities_loss == pytest.approx(-mixed_N.mean(), abs=2e-4)
    )
    assert run[-1].raw_loss == pytest.approx(-kept[ends[-1]].mean(), abs=2e-4)
    assert [p.probabilities_loss is None for p in run] == [True] * 3 + [False] * 5


def test_all_ends_are_averaged_where_there_are_fewer_cycles_than_asked() -> None:
    asked = {"train.epochs": 8, "train.average_cycles": 8, "optim.schedule": "cyclic"}
    ends = {
        cycles: list(Config.from_settings({**asked, "optim.cycles": cycles}).averaged_epochs)
        for cycles in (1, 2, 8)
    }

    assert ends == {1: [8], 2: [4, 8], 8: [1, 2, 3, 4, 5, 6, 7, 8]}


@pytest.mark.parametrize("evals", [4, 5])
def test_continuing_through_cycles_equals_never_stopping_bit_for_bit(
    evals: int, cyclic: dict[str, Any], tmp_path: Path
) -> None:
    """Left at the ends of cycles, before the noise, and between them; each teaches the next."""
    chain = {"train.chain_after": 1, "gpt.dropout": 0.1, "optim.name": "muon"}
    config = Config.from_settings({**cyclic, **chain, "train.evals": evals})
    whole = [p.val_loss for p in train(config, tmp_path / "whole")]

    for made in range(1, evals):
        list(islice(train(config, tmp_path / "parts"), made))
    continued = [p.val_loss for p in train(config, tmp_path / "parts")]

    assert continued == whole
    left, right = (checkpoint.restore(tmp_path / part)["gpt"] for part in ("parts", "whole"))
    assert all(torch.equal(left[key], right[key]) for key in right)


def test_noise_falls_along_half_a_cosine_and_never_follows_the_last_cycle() -> None:
    settings = {
        "data.train_tokens": 2049,  # two steps an epoch
        "train.epochs": 10,
        "optim.schedule": "cyclic",
        "optim.cycles": 5,
        "optim.cycle_noise": 0.25,
        "optim.cycle_noise_last": 0.05,
    }
    config = Config.from_settings(settings)

    assert [noise_before(config, cycle) for cycle in (1, 2, 3, 4)] == pytest.approx(
        [0.25 - 0.2 * (1 - math.cos(math.pi * share)) / 2 for share in (0, 1 / 3, 2 / 3, 1)]
    )


def test_a_cycle_begins_with_noise_in_proportion_to_each_tensors_spread(
    cyclic: dict[str, Any],
) -> None:
    """What is equal throughout, as gains are at first, stays; nothing happens between cycles."""
    config = Config.from_settings({**cyclic, "gpt.width": 64})
    run, again = (make_run(config, open_table(config.data), runtime(config)) for _ in range(2))
    before = {name: p.detach().clone() for name, p in run.gpt.named_parameters()}

    for step in (0, 1, 15, 17):
        begin_cycle(run.gpt, config, step)
    assert all(torch.equal(p, before[name]) for name, p in run.gpt.named_parameters())

    for its in (run, again):
        begin_cycle(its.gpt, config, 16)
    moved = 0
    for (name, p), twin in zip(run.gpt.named_parameters(), again.gpt.parameters(), strict=True):
        assert torch.equal(p, twin)
        spread, change = float(before[name].std()), float((p - before[name]).detach().std())
        assert change == pytest.approx(0.25 * spread, rel=0.15)
        moved += spread > 0
    assert moved > 3


def test_networks_without_cycles_are_left_alone(small: dict[str, Any]) -> None:
    config = Config.from_settings({**small, "optim.cycle_noise": 0.5, "optim.cycles": 2})
    gpt = GPT(config.gpt, 64)
    before = [p.detach().clone() for p in gpt.parameters()]

    for step in range(config.steps):
        begin_cycle(gpt, config, step)

    assert np.all([torch.equal(p, was) for p, was in zip(gpt.parameters(), before, strict=True)])


def test_the_network_at_the_end_of_a_cycle_teaches_the_next_without_its_noise(
    cyclic: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From cycle 2 on, counted from 0: what it says is what the end of the one before says."""
    taught: dict[int, Tensor] = {}
    tokens_BT = torch.arange(32).repeat(2, 1)
    lesson = Predecessor.lesson
    step = 0

    def noted(its: Predecessor, x_BT: Tensor) -> object:
        nonlocal step
        its_lesson = lesson(its, tokens_BT)
        if its_lesson:
            taught[step] = its_lesson[0]
            assert its_lesson[1:] == (0.45, 1.2)
        step += 1
        return lesson(its, x_BT)

    monkeypatch.setattr(Predecessor, "lesson", noted)
    chain = {"train.chain_after": 2, "train.teacher_weight": 0.45, "train.teacher_temperature": 1.2}
    config = Config.from_settings({**cyclic, **chain, "train.evals": 4})

    ends = []
    for _ in train(config, tmp_path):
        gpt = GPT(config.gpt, open_table(config.data).vocabulary).eval()
        gpt.load_state_dict(checkpoint.restore(tmp_path)["gpt"])
        ends.append(gpt(tokens_BT))

    assert list(taught) == list(range(32, 64))  # steps of the last two of four cycles
    for step_, said in taught.items():
        torch.testing.assert_close(said, ends[step_ // 16 - 1])
    assert checkpoint.restore(tmp_path)["predecessor"] is None  # it never goes on
