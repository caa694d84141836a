from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.clusters import Clusters
from model.config.config import Config, TrainConfig
from model.data.batches import open_table
from model.network.gpt import GPT
from model.progress import Progress
from model.training import checkpoint
from model.training import log_probs as predictions
from model.training.averages import Averages, ema_beta
from model.training.device import runtime
from model.training.evaluate import Evaluation, HeldOut, evaluate
from model.training.train import train

Weights = dict[str, Tensor]
NOTHING = Clusters("blocks", (), ())
# Nats that rounding to float16 moves the mean of 1,024 log-probabilities by, at most: each by
# 0.0006 either way, so that five standard deviations of the mean are this.
ROUNDED = 1e-4


@pytest.fixture
def averaging(small: dict[str, object]) -> dict[str, object]:
    """Three epochs of eight steps, an evaluation after each step, everything averaged."""
    return {
        **small,
        "train.precision": "fp32",
        "train.compile": "no",
        "train.epochs": 3,
        "train.evals": 24,
        "train.ema_epochs": 0.5,
        "train.average_last": 2,
        "train.log_probs": "epochs",
        "optim.lr": 0.02,
        "gpt.dropout": 0.1,
    }


def trained(settings: dict[str, object], folder: Path) -> tuple[list[Progress], list[Weights]]:
    """Every evaluation, and the weights that its checkpoint holds."""
    run, weights = [], []
    for progress in train(Config.from_settings(settings), folder):
        run.append(progress)
        weights.append(checkpoint.restore(folder)["gpt"])
    return run, weights


def mixed(weights: list[Weights], shares: list[float]) -> Weights:
    """Their weighted sum, in double precision."""
    return {
        name: sum(s * w[name].double() for s, w in zip(shares, weights, strict=True)).float()
        for name in weights[0]
    }


def evaluated(settings: dict[str, object], weights: Weights) -> Evaluation:
    """What these weights do on validation, in a network of their own."""
    config = Config.from_settings(settings)
    table = open_table(config.data)
    gpt = GPT(config.gpt, table.vocabulary)
    gpt.load_state_dict(weights)
    held_out = HeldOut(table.val, table.token_lengths, config.gpt.context)
    return evaluate(gpt, held_out, runtime(config))


def test_the_ema_is_the_weighted_mean_of_all_steps(
    averaging: dict[str, object], tmp_path: Path
) -> None:
    run, weights = trained(averaging, tmp_path)

    beta = math.exp(-1 / (0.5 * 8))
    for last in (1, 2, 24):
        shares = [beta ** (last - step) for step in range(1, last + 1)]
        shares = [share / sum(shares) for share in shares]
        direct = evaluated(averaging, mixed(weights[:last], shares))
        assert run[last - 1].ema_loss == pytest.approx(direct.loss, abs=2e-6)
    assert run[-1].ema_loss != pytest.approx(run[-1].raw_loss, abs=1e-3)


@pytest.mark.parametrize(("recency", "shares"), [(False, [1 / 2, 1 / 2]), (True, [1 / 3, 2 / 3])])
def test_the_last_epoch_ends_are_averaged_as_weights_and_as_probabilities(
    recency: bool, shares: list[float], averaging: dict[str, object], tmp_path: Path
) -> None:
    settings = {**averaging, "train.average_recency": recency}
    run, weights = trained(settings, tmp_path)

    ends = [weights[15], weights[23]]
    last = run[-1]
    assert last.weights_loss == pytest.approx(
        evaluated(settings, mixed(ends, shares)).loss, abs=2e-6
    )
    kept = predictions.read(tmp_path)
    p_N = sum(
        s * np.exp(kept[predictions.epoch_key(epoch)].astype(np.float64))
        for s, epoch in zip(shares, (2, 3), strict=True)
    )
    assert last.probabilities_loss == pytest.approx(-np.log(p_N).mean(), abs=ROUNDED)
    others = (last.raw_loss, last.ema_loss, last.weights_loss)
    assert all(last.probabilities_loss != pytest.approx(other, abs=1e-4) for other in others)


def test_averages_are_there_from_their_first_epoch_end_on(
    averaging: dict[str, object], tmp_path: Path
) -> None:
    """Of the last 2 of 3 epochs, the first ends after 16 steps; until 24 it is the only one."""
    run, _ = trained(averaging, tmp_path)

    for progress in run:
        exists = progress.step >= 16
        assert (progress.weights_loss is not None) == exists
        assert (progress.probabilities_loss is not None) == exists
    at_16 = run[15]
    assert at_16.weights_loss == at_16.raw_loss
    assert at_16.probabilities_loss == pytest.approx(at_16.raw_loss, abs=1e-6)
    assert {p.weights_loss for p in run[15:23]} == {at_16.weights_loss}
    assert run[16].raw_loss != at_16.raw_loss


def test_averages_do_not_touch_training(averaging: dict[str, object], tmp_path: Path) -> None:
    """The weights that train on are those that were there before averages were evaluated."""
    without = {
        **averaging,
        "train.ema_epochs": 0,
        "train.average_last": 0,
        "train.log_probs": "no",
    }

    (averaged, a), (plain, b) = (
        trained(settings, tmp_path / str(at)) for at, settings in enumerate((averaging, without))
    )

    assert [p.raw_loss for p in averaged] == [p.raw_loss for p in plain]
    assert all(torch.equal(a[-1][name], b[-1][name]) for name in b[-1])
    assert {(p.ema_loss, p.weights_loss, p.probabilities_loss) for p in plain} == {(None,) * 3}


def test_epoch_ends_are_taken_between_evaluations_too(
    averaging: dict[str, object], tmp_path: Path
) -> None:
    """Two evaluations, after 12 and 24 steps; the epochs end after 8, 16 and 24."""
    often, _ = trained(averaging, tmp_path / "often")
    rarely, _ = trained({**averaging, "train.evals": 2}, tmp_path / "rarely")

    assert rarely[-1].weights_loss == often[-1].weights_loss
    assert rarely[-1].probabilities_loss == often[-1].probabilities_loss
    assert rarely[-1].ema_loss == often[-1].ema_loss
    assert rarely[0].weights_loss is None


@pytest.mark.parametrize("named", ["raw", "ema", "weights", "probabilities"])
def test_the_validation_loss_is_of_what_evaluate_names(
    named: str, averaging: dict[str, object], tmp_path: Path
) -> None:
    settings = {**averaging, "train.evaluate": named, "train.evals": 4}

    run = list(train(Config.from_settings(settings), tmp_path))

    last = run[-1]
    assert last.val_loss == getattr(last, f"{named}_loss")
    assert len({last.raw_loss, last.ema_loss, last.weights_loss, last.probabilities_loss}) == 4
    first = run[0]
    assert first.val_loss == (first.ema_loss if named == "ema" else first.raw_loss)
    kept_N = predictions.read(tmp_path)[predictions.FINAL]
    assert -kept_N.astype(np.float64).mean() == pytest.approx(last.val_loss, abs=ROUNDED)
    table = open_table(Config.from_settings(settings).data)
    bytes_N = table.token_lengths[table.val[1:]]
    bits = -kept_N[bytes_N > 0].astype(np.float64).sum() / math.log(2)
    assert last.bits_per_byte == pytest.approx(bits / bytes_N.sum(), abs=2 * ROUNDED)


def test_of_schedule_free_its_own_average_is_evaluated_and_followed(
    averaging: dict[str, object], tmp_path: Path
) -> None:
    """Not the weights that train on, which the checkpoint holds. So short an EMA is the last."""
    own = {"optim.name": "schedule_free", "train.ema_epochs": 0.005, "train.average_last": 0}
    settings = {**averaging, **own, "train.log_probs": "last"}

    run, weights = trained(settings, tmp_path)

    assert run[-1].ema_loss == pytest.approx(run[-1].raw_loss, abs=1e-5)
    assert evaluated(settings, weights[-1]).loss != pytest.approx(run[-1].raw_loss, abs=1e-3)


def test_the_horizon_is_where_a_weight_counts_for_one_in_e() -> None:
    assert ema_beta(2.0, 50) ** 100 == pytest.approx(1 / math.e)
    assert ema_beta(0.527, 190) ** 190 == pytest.approx(0.15, abs=1e-3)  # slowrun tiny


class Average:
    """An Averages over a network of one number, evaluated as that number."""

    def __init__(self, **settings: Any) -> None:
        self.gpt = torch.nn.Linear(1, 1, bias=False)
        train = TrainConfig(**settings)
        ends = Config(train=train).averaged_epochs
        self.averages = Averages(self.gpt, train, 1, ends)  # type: ignore[arg-type]

    def take(self, epoch: int, weight: float, probability: float) -> None:
        torch.nn.init.constant_(self.gpt.weight, weight)
        if self.averages.takes(epoch):
            self.averages.take(epoch, np.log([probability], dtype=np.float32))

    def found(self) -> dict[str, float]:
        def score(log_probs_N: np.ndarray) -> Evaluation:
            return Evaluation(float(np.exp(log_probs_N[0])), NOTHING, 0, log_probs_N)

        def read() -> Evaluation:
            return Evaluation(float(self.gpt.weight.detach()), NOTHING, 0, np.zeros(1))

        return {k: e.loss for k, e in self.averages.evaluate(read(), read, score).items()}


@pytest.mark.parametrize(
    ("recency", "weights", "probabilities"),
    [(False, (2 + 4 + 7) / 3, (0.2 + 0.4 + 0.9) / 3), (True, (2 + 8 + 21) / 6, 3.7 / 6)],
)
def test_the_last_of_three_counts_three_times_the_first_if_recent_ones_count_more(
    recency: bool, weights: float, probabilities: float
) -> None:
    average = Average(epochs=4, average_last=3, average_recency=recency)
    taken = ((100.0, 0.99), (2.0, 0.2), (4.0, 0.4), (7.0, 0.9))
    for epoch, (weight, probability) in enumerate(taken, start=1):
        average.take(epoch, weight, probability)

    found = average.found()

    assert found == pytest.approx({"raw": 7, "weights": weights, "probabilities": probabilities})
    assert average.found()["raw"] == 7.0  # the network has its own weights again


@pytest.mark.parametrize(
    ("asked", "weight"), [({"average_last": 2}, 3.0), ({"average_cycles": 2}, 4.0)]
)
def test_where_probabilities_are_averaged_epochs_give_their_mean_weights_cycles_the_last(
    asked: dict[str, int], weight: float
) -> None:
    """Cycles end far apart: the mean of their weights is mostly worse than the last network."""
    average = Average(epochs=2, **asked)
    average.averages._ends = range(1, 3)
    average.take(1, 2.0, 0.5)
    average.take(2, 4.0, 0.5)

    with average.averages.named("probabilities"):
        assert average.gpt.weight.item() == weight


def test_an_error_while_evaluating_an_average_gives_the_weights_back() -> None:
    average = Average(epochs=1, ema_epochs=1)
    weight = average.gpt.weight
    for value in (1.0, 2.0):
        torch.nn.init.constant_(weight, value)
        average.averages.follow()
    raw = Evaluation(0, NOTHING, 0, np.zeros(1))

    def fail() -> Evaluation:
        assert weight.item() not in (1.0, 2.0)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        average.averages.evaluate(raw, fail, lambda log_probs_N: raw)

    assert weight.item() == 2.0


def test_log_probabilities_of_each_epoch_are_of_its_last_weights(
    averaging: dict[str, object], tmp_path: Path
) -> None:
    _, weights = trained(averaging, tmp_path)

    kept = predictions.read(tmp_path)

    assert sorted(kept) == ["epoch_0001", "epoch_0002", "epoch_0003", "final"]
    for epoch in (1, 2, 3):
        direct = evaluated(averaging, weights[8 * epoch - 1])
        rounded_N = direct.log_probs_N.astype(np.float16)
        np.testing.assert_array_equal(kept[predictions.epoch_key(epoch)], rounded_N)
    assert kept["final"].shape == (1024,)  # every token but the first


@pytest.mark.parametrize(("setting", "keys"), [("no", []), ("last", ["final"])])
def test_log_probabilities_are_kept_as_asked(
    setting: str, keys: list[str], averaging: dict[str, object], tmp_path: Path
) -> None:
    settings = {**averaging, "train.log_probs": setting, "train.evals": 2}
    config = Config.from_settings(settings)

    list(islice(train(config, tmp_path), 1))
    assert not (tmp_path / predictions.NAME).exists()
    list(train(config, tmp_path))

    assert sorted(predictions.read(tmp_path)) == keys


def test_log_probabilities_of_an_earlier_run_are_not_taken_over(
    averaging: dict[str, object], tmp_path: Path
) -> None:
    predictions.add(tmp_path, predictions.epoch_key(9), np.zeros(3))

    list(train(Config.from_settings({**averaging, "train.evals": 2}), tmp_path))

    assert predictions.epoch_key(9) not in predictions.read(tmp_path)
