"""What a trained network says, apart from its run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from model.config.config import Config
from model.config.setting import ConfigError
from model.trained.cost import cost
from model.trained.generate import continuation
from model.training import export as saved
from model.training.train import train

LINE = "the cat sat on the mat. "


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> saved.Trained:
    """A network that knows one line by heart."""
    folder = tmp_path_factory.mktemp("learned")
    (folder / "corpus").mkdir()
    for number in range(8):
        (folder / "corpus" / f"{number}.txt").write_text(LINE * 40)
    settings = {
        "data.path": str(folder / "corpus"),
        "data.splits": "stream",
        "data.train_tokens": 2049,
        "data.val_tokens": 257,
        "data.test_tokens": 257,
        "gpt.layers": 1,
        "gpt.width": 32,
        "gpt.context": 64,
        "train.batch_tokens": 256,
        "train.evals": 1,
        "train.epochs": 30,
        "train.device": "cpu",
        "train.precision": "fp32",
        "optim.lr": 0.01,
    }
    for _ in train(Config.from_settings(settings), folder / "run"):
        pass
    saved.save(folder / "run", folder / "saved")
    return saved.load(folder / "saved")


def test_greedy_decoding_of_an_overfit_network_repeats_its_corpus(learned: saved.Trained) -> None:
    said = continuation(learned, LINE * 2, max_new_tokens=100, temperature=0)

    assert said == (LINE * 5)[:100]


def test_the_same_seed_draws_the_same_text_and_another_another(learned: saved.Trained) -> None:
    one, again, other = (
        continuation(learned, "the", 40, temperature=2.0, seed=seed) for seed in (1, 1, 2)
    )

    assert one == again != other


def test_a_prompt_longer_than_the_context_is_read_from_its_end(learned: saved.Trained) -> None:
    long = continuation(learned, LINE * 20, 24, temperature=0)

    assert long == LINE


def test_text_it_knows_costs_less_than_text_it_does_not(learned: saved.Trained) -> None:
    known, unknown = cost(learned, LINE * 6), cost(learned, "Zq!8" * 36)

    assert known is not None
    assert unknown is not None
    assert known.loss < 0.5 < 2 < unknown.loss
    assert known.bits_per_byte == pytest.approx(known.loss / math.log(2))  # a token is a byte


def test_nothing_costs_nothing_and_a_negative_temperature_is_refused(
    learned: saved.Trained,
) -> None:
    assert cost(learned, "") is None
    with pytest.raises(ConfigError, match="temperature: must be from 0 to 100, got -1"):
        continuation(learned, "the", 1, temperature=-1)


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

    from model.data.batches import open_table
    from model.training.device import CPU
    from model.training.evaluate import HeldOut, evaluate

    table = open_table(config.data)
    held_out = HeldOut(table.val, table.token_lengths, config.gpt.context)
    found = evaluate(trained.gpt, held_out, CPU)
    assert found.loss == pytest.approx(last.val_loss, abs=1e-5)
    with torch.no_grad():
        assert not trained.gpt.training


def test_a_folder_without_a_checkpoint_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no checkpoint"):
        saved.save(tmp_path, tmp_path / "saved")
