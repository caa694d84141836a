"""A run of several members that predict as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.config import Config, ConfigError, trial_cost
from model.data.batches import open_table
from model.training import checkpoint, export, log_probs
from model.training.document_losses import document_losses
from model.training.members import member_config, member_folder
from model.training.mixture import mixture_log_probs
from model.training.predictions import predictions
from model.training.sealed_split import evaluate_on_test
from model.training.train import train

Settings = dict[str, object]


@pytest.fixture
def three(small: Settings) -> Config:
    """Three members, with dropout: each draws from a random state of its own."""
    return Config.from_settings({**small, "train.members": 3, "gpt.dropout": 0.1})


def test_the_loss_is_that_of_averaged_probabilities_below_the_members_own(
    three: Config, tmp_path: Path
) -> None:
    *_, last = train(three, tmp_path / "run")

    alone = []
    for member in range(3):
        *_, its = train(member_config(three, member), tmp_path / f"alone-{member}")
        alone.append(log_probs.read(tmp_path / f"alone-{member}")["final"])
    mixed_N = np.log(np.mean(np.exp(np.array(alone, dtype=np.float64)), axis=0))
    assert last.val_loss == pytest.approx(-mixed_N.mean(), abs=1e-4)
    assert last.raw_loss == pytest.approx(-np.mean(alone), abs=1e-4)
    assert last.val_loss < last.raw_loss
    assert log_probs.read(tmp_path / "run")["final"] == pytest.approx(mixed_N, abs=0.01)
    assert last.tokens == 3 * its.tokens
    assert last.clusters is not None


@pytest.mark.parametrize("stop", [1, 2])
def test_members_go_on_as_if_nobody_had_stopped_them(
    three: Config, tmp_path: Path, stop: int
) -> None:
    whole = [progress.val_loss for progress in train(three, tmp_path / "whole")]

    run = train(three, tmp_path / "cut")
    for _ in range(stop):
        next(run)
    run.close()
    # A kill came when one member was ahead of what the checkpoint of all has.
    first = train(member_config(three, 0), member_folder(tmp_path / "cut", 0), member=True)
    for _ in range(stop + 1):
        next(first)
    first.close()

    assert [progress.val_loss for progress in train(three, tmp_path / "cut")] == whole


def test_what_a_network_is_asked_its_members_answer_together(three: Config, tmp_path: Path) -> None:
    *_, last = train(three, tmp_path)
    table = open_table(three.data)

    trained = export.open_run(tmp_path)

    for log_probs_N in (predictions(tmp_path, table), mixture_log_probs(trained, table, 256)):
        assert -log_probs_N.mean() == pytest.approx(last.val_loss, abs=1e-4)
    assert evaluate_on_test(tmp_path).loss > 0
    with pytest.raises(ConfigError, match="holds 3 networks; name one: .*member-1"):
        document_losses(tmp_path, table)


def test_members_cost_as_much_as_so_many_runs(small: Settings) -> None:
    one, three = trial_cost(small), trial_cost({**small, "train.members": 3})

    assert three.flops == pytest.approx(3 * one.flops)
    assert three.tokens == 3 * one.tokens
    assert one.memory < three.memory < 3 * one.memory
    assert three.parameters == one.parameters


def test_no_two_ensembles_of_a_recipe_share_a_member(small: Settings) -> None:
    configs = [Config.from_settings({**small, "train.members": 4, "train.seed": s}) for s in (0, 1)]

    seeds = [member_config(config, k).train.seed for config in configs for k in range(4)]

    assert sorted(set(seeds)) == seeds == list(range(8))


def test_predictions_of_epochs_are_of_one_network(small: Settings) -> None:
    with pytest.raises(ConfigError, match="choose last where train.members is above 1, got 2"):
        Config.from_settings({**small, "train.members": 2, "train.log_probs": "epochs"})


def test_a_member_that_diverges_ends_its_ensemble(small: Settings, tmp_path: Path) -> None:
    wild = {"optim.lr": 10, "optim.grad_clip": 0}
    config = Config.from_settings({**small, "train.members": 2, **wild})

    *_, last = train(config, tmp_path)

    assert last.diverged
    state = checkpoint.read_state(tmp_path)
    assert state is not None
    assert state.ended
