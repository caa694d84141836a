from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from model.config.config import Config
from model.data.batches import batch, open_table
from model.network.gpt import GPT
from model.training import checkpoint
from model.training.device import runtime
from model.training.run import Run, add_gradients, make_run
from model.training.train import train

Weights = dict[str, Tensor]


@pytest.fixture
def looking_ahead(small: dict[str, object]) -> dict[str, object]:
    """Eight sequences a step, and a temporary step that is long beside the weights."""
    return {
        **small,
        "train.precision": "fp32",
        "train.compile": "no",
        "train.meta_step": 2.0,
        "gpt.layers": 2,
        "optim.name": "muon",
        "optim.schedule": "linear",
        "optim.warmup": 0.0,
    }


def begun(settings: dict[str, object]) -> tuple[Run, Tensor, Tensor]:
    """A run of weights that are not zero anywhere, and the sequences of its fourth step."""
    config = Config.from_settings(settings)
    run = make_run(config, open_table(config.data), runtime(config))
    with torch.no_grad():
        for parameter in run.gpt.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x_BT, y_BT = (torch.from_numpy(part) for part in batch(config, run.table, 3))
    return run, x_BT, y_BT


def gradient(gpt: GPT, weights: Weights, x_BT: Tensor, y_BT: Tensor) -> Weights:
    """Of the mean loss, by autograd on weights that are handed in."""

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gpt = gpt

        def forward(self) -> Tensor:
            return self.gpt.losses(x_BT, y_BT).mean()

    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    loss = functional_call(Loss(), {f"gpt.{name}": leaf for name, leaf in leaves.items()}, ())
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def by_the_formula(
    gpt: GPT, moved: set[str], length: float, x_BT: Tensor, y_BT: Tensor, parts: int
) -> Weights:
    """The mean over parts of (first(theta) + second(theta - length first / |first|)) / 2."""
    theta = {name: parameter.detach() for name, parameter in gpt.named_parameters()}
    total = {name: torch.zeros_like(value) for name, value in theta.items()}
    for x, y in zip(x_BT.chunk(parts), y_BT.chunk(parts), strict=True):
        (x_1, x_2), (y_1, y_2) = x.chunk(2), y.chunk(2)
        first = gradient(gpt, theta, x_1, y_1)
        norm = sum(float(first[name].double().square().sum()) for name in moved) ** 0.5
        ahead = {
            name: value - length * first[name] / norm if name in moved else value
            for name, value in theta.items()
        }
        second = gradient(gpt, ahead, x_2, y_2)
        for name in total:
            total[name] += (first[name] + second[name]) / (2 * parts)
    return total


@pytest.mark.parametrize(
    ("more", "length"),
    [
        ({}, 2.0),
        ({"train.meta_on": "mlp"}, 2.0),
        ({"train.meta_schedule": "rate"}, 1.5),  # a quarter of the run is done
        ({"train.micro_batch_tokens": 64}, 2.0),
        ({"train.meta_parts": 2, "train.micro_batch_tokens": 32}, 2.0),
    ],
)
def test_the_gradient_is_the_mean_of_one_half_here_and_one_where_that_leads(
    more: dict[str, object], length: float, looking_ahead: dict[str, object]
) -> None:
    run, x_BT, y_BT = begun({**looking_ahead, **more})
    names = {n for n, p in run.gpt.named_parameters() if n.startswith("blocks.") and p.dim() == 2}
    if more.get("train.meta_on") == "mlp":
        names = {name for name in names if ".mlp." in name}
    before = {name: parameter.clone() for name, parameter in run.gpt.named_parameters()}
    parts = run.config.train.meta_parts
    expected = by_the_formula(run.gpt, names, length, x_BT, y_BT, parts)
    plain = gradient(run.gpt, before, x_BT, y_BT)

    add_gradients(run, x_BT.numpy(), y_BT.numpy(), 0.25)

    for name, parameter in run.gpt.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[name], rtol=2e-3, atol=2e-6)
        assert torch.equal(parameter, before[name]), name
    differs = max(float((expected[name] - plain[name]).abs().max()) for name in names)
    assert differs > 1e-3  # so that agreeing to 2e-6 says something


def test_the_reported_loss_is_the_mean_of_both_halves_where_they_were_read(
    looking_ahead: dict[str, object],
) -> None:
    run, x_BT, y_BT = begun(looking_ahead)
    plain, _, _ = begun({**looking_ahead, "train.meta_step": 0.0})

    loss, of_plain = (add_gradients(its, x_BT.numpy(), y_BT.numpy(), 0.0) for its in (run, plain))

    assert loss != pytest.approx(of_plain, abs=1e-4)  # the second was read elsewhere


@pytest.mark.parametrize("name", ["adamw", "schedule_free"])
def test_continuing_with_a_meta_step_equals_never_stopping_bit_for_bit(
    name: str, looking_ahead: dict[str, object], tmp_path: Path
) -> None:
    """Beside all that draws or changes over the run."""
    settings: dict[str, Any] = {
        **looking_ahead,
        "optim.name": name,
        "train.meta_schedule": "rate",
        "train.meta_parts": 2,
        "train.ema_epochs": 0.5,
        "gpt.dropout": 0.1,
        "gpt.stochastic_depth": 0.2,
        "gpt.mtp": "offsets",
        "gpt.replay_passes": 1,
        "gpt.replay_first": 0.0,
        "gpt.replay_start": 0.4,
    }
    config = Config.from_settings(settings)
    whole = [p.val_loss for p in train(config, tmp_path / "whole")]

    for made in (1, 3):
        list(islice(train(config, tmp_path / "parts"), made))
    continued = [p.val_loss for p in train(config, tmp_path / "parts")]

    assert continued == whole
    left, right = (checkpoint.restore(tmp_path / part)["gpt"] for part in ("parts", "whole"))
    assert all(torch.equal(left[key], right[key]) for key in right)
