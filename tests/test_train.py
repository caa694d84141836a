from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from model import checkpoint
from model.config import Config, GPTConfig
from model.data import TokenTable, batch, open_table
from model.evaluate import evaluate
from model.gpt import GPT
from model.progress import Progress
from model.setting import ConfigError
from model.train import train


def values(run: list[Progress]) -> list[Progress]:
    """What must be equal: all but the clock."""
    return [Progress(**{**p.to_dict(), "seconds": 0.0}) for p in run]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_continuing_equals_never_stopping_bit_for_bit(
    name: str, small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**small, "optim.name": name, "gpt.dropout": 0.1})
    whole = list(train(config, tmp_path / "whole"))

    for already in range(config.train.evals):
        # Leave after one more evaluation each time; those already made come back first.
        parts = list(islice(train(config, tmp_path / "parts"), already + 1))
    continued = list(train(config, tmp_path / "parts"))

    assert values(parts) == values(whole)
    assert values(continued) == values(whole)
    a, b = (checkpoint._open(tmp_path / f / checkpoint.NAME)[1] for f in ("whole", "parts"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_evaluations_come_at_equal_fractions_and_the_loss_falls(
    small: dict[str, object], tmp_path: Path
) -> None:
    run = list(train(Config.from_settings(small), tmp_path))

    assert [p.basis_points for p in run] == [2500, 5000, 7500, 10_000]
    assert run[-1].done
    assert run[-1].val_loss < run[0].val_loss < math.log(257)
    assert run[-1].epoch == 2


def test_a_folder_of_other_settings_is_refused(small: dict[str, object], tmp_path: Path) -> None:
    list(islice(train(Config.from_settings(small), tmp_path), 1))

    with pytest.raises(ConfigError, match=r"optim.lr: .* was trained with 0.004, not 0.1"):
        list(train(Config.from_settings({**small, "optim.lr": 0.1}), tmp_path))


def test_an_exploding_loss_ends_the_run_as_diverged(
    small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**small, "optim.lr": 10, "optim.grad_clip": 0})

    run = list(train(config, tmp_path))

    assert run[-1].diverged
    assert not run[-1].done
    assert values(list(train(config, tmp_path))) == values(run)


def test_two_seeds_and_two_orders_give_four_runs(small: dict[str, object], tmp_path: Path) -> None:
    finals = {
        list(
            train(
                Config.from_settings({**small, "train.seed": seed, "train.data_seed": order}),
                tmp_path / f"{seed}{order}",
            )
        )[-1].val_loss
        for seed in (0, 1)
        for order in (0, 1)
    }

    assert len(finals) == 4


def test_a_tiny_corpus_can_be_learned_by_heart(small: dict[str, object], tmp_path: Path) -> None:
    settings = {
        **small,
        "data.train_tokens": 65,
        "gpt.width": 32,
        "train.batch_tokens": 64,
        "train.epochs": 200,
        "optim.lr": 0.02,
    }

    run = list(train(Config.from_settings(settings), tmp_path))

    assert run[-1].train_loss < 0.05
    assert run[-1].val_loss > 3


def test_validation_does_not_depend_on_how_much_is_done_at_once(
    small: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.from_settings(small)
    table = open_table(config.data)
    torch.manual_seed(0)
    gpt = GPT(config.gpt, table.vocabulary)
    torch.nn.init.normal_(gpt.head.weight)
    results = []
    for at_once in (32, 1000, 8192):
        monkeypatch.setattr("model.evaluate.TOKENS_AT_ONCE", at_once)
        results.append(evaluate(gpt, table.val, table.token_lengths, 32, torch.float32))

    assert results[1].loss == pytest.approx(results[0].loss, rel=1e-6)
    assert results[2].loss == pytest.approx(results[0].loss, rel=1e-6)


def test_bits_per_byte_leave_the_separator_without_text() -> None:
    """A head of zeros guesses uniformly: ln 257 nats for each token, 255/256 of them with text."""
    gpt = GPT(Config().gpt, vocabulary=257)
    tokens = np.full(257, 65, dtype=np.uint16)
    tokens[100] = 256
    lengths = np.array([1] * 256 + [0])

    result = evaluate(gpt, tokens, lengths, 64, torch.float32)

    assert result.loss == pytest.approx(math.log(257), rel=1e-6)
    assert result.bits_per_byte == pytest.approx(math.log2(257) * 256 / 255, rel=1e-6)


def test_a_crash_while_saving_leaves_the_last_checkpoint(
    small: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.from_settings(small)
    whole = list(train(config, tmp_path / "whole"))
    list(islice(train(config, tmp_path / "crash"), 2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("pulled plug")))
        with pytest.raises(OSError, match="pulled plug"):
            list(train(config, tmp_path / "crash"))

    assert values(list(train(config, tmp_path / "crash"))) == values(whole)


def test_a_damaged_checkpoint_is_explained(small: dict[str, object], tmp_path: Path) -> None:
    config = Config.from_settings(small)
    list(islice(train(config, tmp_path), 1))
    path = tmp_path / checkpoint.NAME
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(ConfigError, match="is damaged .* delete it and the run starts over"):
        list(train(config, tmp_path))


def test_two_processes_do_not_train_in_one_folder(
    small: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath(checkpoint.LOCK).touch()
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX)"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{hold}; print(flush=True); input()", tmp_path / checkpoint.LOCK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    monkeypatch.setattr(checkpoint, "SECONDS_TO_WAIT", 0.0)

    with pytest.raises(ConfigError, match="another process is training in"):
        next(train(Config.from_settings(small), tmp_path))
    holder.communicate(b"\n")
    assert next(train(Config.from_settings(small), tmp_path)).basis_points == 2500


def test_losses_after_twenty_steps_are_what_they_were(
    small: dict[str, object], tmp_path: Path
) -> None:
    """Golden losses: a change that moves them must say so, with the loss before and after.

    To update them, take the values that the failed assertion shows.
    """
    settings = {**small, "data.train_tokens": 2561, "train.evals": 2}
    finals = {
        name: list(train(Config.from_settings({**settings, "optim.name": name}), tmp_path / name))[
            -1
        ].val_loss
        for name in ("adamw", "muon")
    }

    assert finals == pytest.approx({"adamw": 4.6465, "muon": 5.1590}, abs=2e-3)


def test_validation_is_without_dropout() -> None:
    gpt = GPT(GPTConfig(dropout=0.5), vocabulary=257)
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tokens = np.arange(1025, dtype=np.uint16) % 257
    lengths = np.ones(257, dtype=np.int64)

    a, b = (evaluate(gpt, tokens, lengths, 64, torch.float32).loss for _ in range(2))

    assert a == b
    assert gpt.training


def test_each_epoch_reads_every_sequence_of_the_budget_once_in_its_own_order(
    small: dict[str, object],
) -> None:
    config = Config.from_settings(small)
    tokens = np.arange(10_000, dtype=np.uint16)  # more than the budget: the rest is not read
    table = TokenTable("", 257, np.ones(257), train=tokens, val=tokens, test=tokens)

    epochs = [
        np.concatenate(
            [
                batch(config, table, epoch * config.steps_per_epoch + step)[0][:, 0]
                for step in range(config.steps_per_epoch)
            ]
        ).tolist()
        for epoch in range(2)
    ]

    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(0, 2048, 32))
    assert epochs[0] != epochs[1]
