"""The plain baseline: its recipe, and tables of it as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.config.config import Config
from model.config.setting import Value
from sweep.space.baseline import baseline_points, baseline_settings, read_entries
from sweep.space.settings import BaselineConfig
from sweep.space.space import Space


@pytest.mark.parametrize("head", ["", "\ufeff", "tokens,12,20\n", "\ufefftokens,12,20\n"])
def test_a_heading_is_left_out_and_nothing_else(tmp_path: Path, head: str) -> None:
    path, found = tmp_path / "curve.csv", list[str]()
    path.write_text(f"{head}100M,3.9,3.7\n200M,3.6,3.5\n", encoding="utf-8")

    entries = read_entries([path], found.append)

    assert entries == ("100000000:3.9", "100000000:3.7", "200000000:3.6", "200000000:3.5")
    assert not found


def test_a_first_count_that_is_misspelled_is_no_heading(tmp_path: Path) -> None:
    path, found = tmp_path / "curve.csv", list[str]()
    path.write_text("100m,3.7\n200M,3.5\n300M,3.4\n")

    read_entries([path], found.append)

    assert found == [f"{path} line 1: expected tokens:loss such as 100M:3.7, in nats per token"]


def test_a_plain_baseline_has_one_epoch_adamw_a_cosine_no_dropout_and_no_averages() -> None:
    """Whatever the space fixes; the network and the batch stay as they are."""
    fixed: dict[str, Value] = {
        "gpt.width": 48,
        "gpt.scale": 4.0,
        "gpt.dropout": 0.2,
        "gpt.stochastic_depth": 0.1,
        "gpt.replay_passes": 1,
        "gpt.mtp": "offsets",
        "optim.name": "muon",
        "optim.schedule": "linear",
        "optim.weight_decay_multiplier": 16.0,
        "data.curriculum": "shortest",
        "train.batch_tokens": 2048,
        "train.epochs": 8,
        "train.ema_epochs": 0.5,
        "train.average_last": 3,
        "train.evaluate": "weights",
    }
    space = Space("any", (), fixed, baseline=BaselineConfig(multiples=(2,), lr=0.01))
    (point,) = baseline_points(space)

    config = Config.from_settings(baseline_settings(space, point))

    assert (config.gpt.width, config.gpt.scale, config.train.batch_tokens) == (48, 1.0, 2048)
    assert (config.gpt.dropout, config.gpt.stochastic_depth) == (0.0, 0.0)
    assert (config.gpt.replay_passes, config.gpt.mtp) == (0, "no")
    assert (config.optim.name, config.optim.lr) == ("adamw", 0.01)
    assert (config.optim.schedule, config.optim.weight_decay_multiplier) == ("cosine", 1.0)
    assert (config.data.curriculum, config.train.epochs) == ("no", 1)
    train = config.train
    assert (train.ema_epochs, train.average_last, train.evaluate) == (0.0, 0, "raw")
