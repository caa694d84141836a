"""What is left of a network, trained on: in memory, or as a run that the trainer goes on with."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from sweeps import write_texts

from model.config.config import Config
from model.config.setting import ConfigError
from model.data.batches import open_table
from model.data.table import TokenTable
from model.trained.kept import whole
from model.trained.retrain import (
    RATES,
    is_begun,
    loss_on,
    standing,
    tuned,
    tuning,
    write_finished,
    write_start,
)
from model.trained.shrink import shrunk
from model.training import checkpoint, log_probs
from model.training.export import open_run
from model.training.predictions import predictions
from model.training.train import train
from model.training.trained import Trained

WAYS: dict[str, dict[str, object]] = {
    "plain": {},
    "muon, averaged, replayed": {
        "optim.name": "muon",
        "train.ema_epochs": 0.5,
        "train.evaluate": "ema",
        "gpt.replay_passes": 1,
        "gpt.replay_first": 0.0,
        "gpt.replay_last": 0.5,
    },
    "schedule_free": {"optim.name": "schedule_free"},
}


every_way = pytest.mark.parametrize("original", WAYS, indirect=True)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Runs that have ended, by how they were trained; nobody changes one."""
    home = tmp_path_factory.mktemp("retrain")
    corpus = write_texts(home / "corpus")
    networks = {}
    for way, settings in WAYS.items():
        config = Config.from_settings(
            {
                "data.path": str(corpus),
                "data.train_tokens": 2049,
                "data.val_tokens": 1025,
                "data.test_tokens": 0,
                "gpt.layers": 2,
                "gpt.width": 16,
                "gpt.context": 32,
                "optim.lr": 0.01,
                "train.batch_tokens": 256,
                "train.precision": "fp32",
                "train.evals": 1,
                "train.epochs": 4,
                "train.device": "cpu",
                **settings,
            }
        )
        for _ in train(config, home / way):
            pass
        networks[way] = open_run(home / way)
    return networks


@pytest.fixture
def original(request: pytest.FixtureRequest, opened: dict[str, Trained]) -> Trained:
    return opened[getattr(request, "param", "plain")]


@pytest.fixture
def table(original: Trained) -> TokenTable:
    return open_table(original.config.data)


@pytest.fixture
def cut(original: Trained) -> Trained:
    """It, without its second layer and some units."""
    return shrunk(original, whole(original.config.gpt).without_layers([1]))


@every_way
def test_the_loss_of_an_opened_run_is_the_one_that_it_ended_with(
    original: Trained, table: TokenTable
) -> None:
    assert loss_on(original, table.val).loss == pytest.approx(original.val_loss, rel=1e-5)


@every_way
def test_a_network_without_fine_tune_is_a_run_that_has_ended(
    cut: Trained, table: TokenTable, tmp_path: Path
) -> None:
    folder = tmp_path / "small"

    write_finished(cut, table, train_loss=3.0, folder=folder)

    [progress] = train(standing(cut), folder)
    back = open_run(folder)
    assert progress.done
    assert progress.val_loss == back.val_loss == pytest.approx(loss_on(cut, table.val).loss)
    assert loss_on(back, table.val).loss == pytest.approx(progress.val_loss)
    kept = log_probs.read(folder)[log_probs.FINAL]
    assert predictions(folder, table) == pytest.approx(kept, abs=0.01)


@every_way
def test_a_fine_tune_begins_with_the_weights_that_are_left_and_betters_them(
    cut: Trained, table: TokenTable, tmp_path: Path
) -> None:
    config, folder = tuning(cut, epochs=4, rate=0.5), tmp_path / "small"

    write_start(cut, config, table, folder)
    begun = open_run(folder)
    *_, last = train(config, folder)

    assert loss_on(begun, table.val).loss == pytest.approx(loss_on(cut, table.val).loss, rel=1e-4)
    assert last.val_loss < loss_on(cut, table.val).loss


@every_way
def test_an_interrupted_fine_tune_goes_on_bit_for_bit(
    cut: Trained, table: TokenTable, tmp_path: Path
) -> None:
    config = tuning(cut, epochs=2, rate=0.5)
    losses = []
    for name, stops in (("once", []), ("twice", [2])):
        assert not is_begun(tmp_path / name)
        write_start(cut, config, table, tmp_path / name)
        for stop in stops:
            list(islice(train(config, tmp_path / name), stop))
            assert is_begun(tmp_path / name)
        losses.append([progress.val_loss for progress in train(config, tmp_path / name)])

    assert losses[0] == losses[1]


def test_a_damaged_start_is_not_taken_for_a_run(
    cut: Trained, table: TokenTable, tmp_path: Path
) -> None:
    """The trainer would begin again with random weights."""
    write_start(cut, tuning(cut, epochs=1, rate=0.5), table, tmp_path)
    (tmp_path / checkpoint.NAME).write_bytes(b"damaged")
    checkpoint.forget_before(tmp_path)

    assert not is_begun(tmp_path)


def test_a_tune_in_memory_learns_and_leaves_the_original_alone(
    cut: Trained, table: TokenTable
) -> None:
    before, state = loss_on(cut, table.val).loss, torch.get_rng_state()
    steps: list[int] = []

    after = tuned(cut, tuning(cut, epochs=4, rate=0.5), table, 20, steps.append)

    assert steps == list(range(1, 21))
    assert (
        loss_on(after, np.asarray(table.train[:1025])).loss
        < loss_on(cut, np.asarray(table.train[:1025])).loss
    )
    assert loss_on(cut, table.val).loss == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fine_tune_has_the_runs_decay_and_a_share_of_its_rates(original: Trained) -> None:
    before, after = original.config, tuning(original, epochs=2, rate=0.25)

    for name in RATES:
        assert getattr(after.optim, name) == pytest.approx(0.25 * getattr(before.optim, name))
    assert after.optim.weight_decay == before.optim.weight_decay
    assert (after.optim.schedule, after.train.epochs) == ("linear", 2)
    assert (after.train.evaluate, after.train.ema_epochs) == ("raw", 0.0)


@pytest.mark.parametrize(
    ("epochs", "rate", "match"), [(1.5, 0.3, "epochs"), (0, 0.3, "epochs"), (1, 0, "rate")]
)
def test_a_fine_tune_that_cannot_be_is_refused(
    original: Trained, epochs: float, rate: float, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        tuning(original, epochs, rate)


def test_less_than_an_epoch_reads_the_first_tokens(original: Trained) -> None:
    config = tuning(original, epochs=0.5, rate=0.3)

    assert config.data.train_tokens == 1025
    assert config.train.epochs == 1
