"""A finished run on the test split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model.config.config import Config
from model.config.setting import ConfigError
from model.data.batches import open_table
from model.training import export, sealed_split
from model.training.device import CPU
from model.training.evaluate import HeldOut, evaluate
from model.training.train import train


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"train.evaluate": "ema", "train.ema_epochs": 0.5},
        {"train.evaluate": "weights", "train.average_last": 1},
        {"optim.name": "schedule_free"},
    ],
)
def test_what_is_evaluated_is_what_the_run_was_judged_by(
    how: dict[str, object],
    small: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the validation tokens in the place of the test tokens, the loss is the run's own."""
    config = Config.from_settings({**small, **how})
    last = list(train(config, tmp_path / "run"))[-1]
    true_loss = sealed_split.evaluate_on_test(tmp_path / "run").loss
    table = open_table(config.data)

    monkeypatch.setattr(sealed_split, "open_table", lambda data: replace(table, test=table.val))
    found = sealed_split.evaluate_on_test(tmp_path / "run")

    assert found.loss == pytest.approx(last.val_loss, rel=1e-6)
    assert found.standard_error == pytest.approx(last.val_loss_error, rel=1e-6)
    assert true_loss != pytest.approx(last.val_loss, rel=1e-6)


def test_a_run_that_has_not_ended_is_refused(small: dict[str, object], tmp_path: Path) -> None:
    progress = train(Config.from_settings(small), tmp_path / "run")
    next(progress)
    progress.close()

    with pytest.raises(ConfigError, match="holds no run that has ended"):
        sealed_split.evaluate_on_test(tmp_path / "run")


def test_averaged_probabilities_are_refused(small: dict[str, object], tmp_path: Path) -> None:
    how = {"train.evaluate": "probabilities", "train.average_last": 1}
    list(train(Config.from_settings({**small, **how}), tmp_path / "run"))

    with pytest.raises(ConfigError, match="kept of the validation split alone"):
        sealed_split.evaluate_on_test(tmp_path / "run")


def test_data_without_a_test_split_has_nothing_to_look_at(
    small: dict[str, object], tmp_path: Path
) -> None:
    list(train(Config.from_settings({**small, "data.test_tokens": 0}), tmp_path / "run"))

    with pytest.raises(ConfigError, match="its data has no test split, so nothing is sealed"):
        sealed_split.evaluate_on_test(tmp_path / "run")


def test_the_test_split_is_read_by_the_network_that_the_run_ended_as(
    small: dict[str, object], tmp_path: Path
) -> None:
    """One that replays layers late in the run replays them there too."""
    config = Config.from_settings({**small, "gpt.replay_passes": 1, "gpt.layers": 5})
    for _ in train(config, tmp_path):
        pass
    test = HeldOut.of(open_table(config.data), "test", config.gpt.context)

    expected = evaluate(export.open_run(tmp_path).gpt, test, CPU).loss

    assert sealed_split.evaluate_on_test(tmp_path).loss == pytest.approx(expected, abs=1e-5)
