"""A trained network apart from its run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from model.config import Config, ConfigError
from model.data.batches import open_table
from model.training import export as saved
from model.training.predictions import predictions, predictions_of
from model.training.train import train


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train.ema_epochs": 0.5, "train.evaluate": "ema"},
        {"train.average_last": 1, "train.evaluate": "weights"},
        {"optim.name": "schedule_free"},
        {"gpt.replay_passes": 1, "gpt.layers": 5},
    ],
    ids=["raw", "ema", "weights", "schedule-free", "replay"],
)
def test_a_saved_network_is_worth_what_its_run_reported(
    settings: Mapping[str, object], small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**small, **settings})
    *_, last = train(config, tmp_path / "run")
    saved.save(tmp_path / "run", tmp_path / "saved")

    trained = saved.load(tmp_path / "saved")

    from model.training.device import CPU
    from model.training.evaluate import HeldOut, evaluate

    table = open_table(config.data)
    held_out = HeldOut(table.val, table.token_lengths, config.gpt.context)
    found = evaluate(trained.gpt, held_out, CPU)
    assert found.loss == pytest.approx(last.val_loss, abs=1e-5)
    with torch.no_grad():
        assert not trained.gpt.training


def test_of_a_run_that_mixes_its_states_the_last_is_saved_with_its_own_loss(
    small: dict[str, object], tmp_path: Path
) -> None:
    mixes = {"train.average_last": 2, "train.evaluate": "probabilities"}
    config = Config.from_settings({**small, **mixes})
    *_, last = train(config, tmp_path / "run")
    assert last.raw_loss != last.val_loss

    its = saved.open_run(tmp_path / "run")

    assert (its.val_loss, its.val_loss_error) == (last.raw_loss, None)


def test_a_saved_network_predicts_what_its_run_did(
    small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings(small)
    for _ in train(config, tmp_path / "run"):
        pass
    saved.save(tmp_path / "run", tmp_path / "saved")
    table = open_table(config.data)

    apart_N = predictions_of(tmp_path / "saved", table)

    assert np.allclose(apart_N, predictions(tmp_path / "run", table), atol=1e-5)


@pytest.mark.parametrize("left", [[], ["0123456789 " * 1000]], ids=["gone", "another"])
def test_a_run_whose_text_is_gone_or_another_is_opened_by_the_digest_of_its_tokens(
    left: list[str], small: dict[str, object], corpus: Path, tmp_path: Path
) -> None:
    config = Config.from_settings({**small, "data.tokenizer": "chars", "train.epochs": 1})
    list(train(config, tmp_path / "run"))
    table = open_table(config.data)
    shutil.rmtree(corpus)
    for text in left:
        corpus.mkdir()
        (corpus / "text.txt").write_text(text)

    assert saved.open_run(tmp_path / "run").tokenizer.pieces == table.tokenizer.pieces


def test_a_folder_without_a_checkpoint_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no checkpoint"):
        saved.save(tmp_path, tmp_path / "saved")
