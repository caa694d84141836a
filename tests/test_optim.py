from __future__ import annotations

from itertools import chain

import pytest
import torch

from model.config import GPTConfig, OptimConfig
from model.gpt import GPT
from model.muon import Muon, orthogonalise
from model.optim import make_optimizers, step
from model.schedule import rate


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_is_in_exactly_one_group(name: str) -> None:
    gpt = GPT(GPTConfig(layers=2, width=16), vocabulary=50)

    optimizers = make_optimizers(gpt, OptimConfig(name=name))

    groups = chain.from_iterable(optimizer.param_groups for optimizer in optimizers)
    owned = [id(p) for group in groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in gpt.parameters())


@pytest.mark.parametrize("shape", [(32, 32), (64, 16), (16, 64)])
def test_muon_agrees_with_torchs_to_bf16_rounding(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    settings = {"lr": 0.01, "momentum": 0.95, "weight_decay": 0.5}
    a = Muon([ours], **settings)
    b = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings)

    for _ in range(5):
        gradient = torch.randn(shape)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()

    assert (ours - theirs).norm() < 0.01 * (theirs - start).norm()


def test_orthogonalising_pushes_singular_values_towards_one() -> None:
    torch.manual_seed(0)

    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, 24, 40)))

    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_decay_shrinks_every_weight_by_lr_times_decay_per_step(name: str) -> None:
    """Without gradient there is no other change."""
    gpt = GPT(GPTConfig(layers=1, width=16), vocabulary=50)
    optim = OptimConfig(name=name, lr=0.01, rest_lr=0.01, weight_decay_multiplier=20, warmup=0)
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    before = [parameter.detach().clone() for parameter in gpt.parameters()]

    step(make_optimizers(gpt, optim), gpt, optim, done=0.0)

    for parameter, was in zip(gpt.parameters(), before, strict=True):
        assert torch.allclose(parameter, was * (1 - 0.01 * 2.0), rtol=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_rises_over_warmup_and_ends_at_zero(schedule: str) -> None:
    optim = OptimConfig(schedule=schedule, warmup=0.1)

    assert rate(optim, 0.05) == pytest.approx(0.5)
    assert rate(optim, 0.1) == pytest.approx(1.0)
    assert rate(optim, 0.55) == pytest.approx(0.5)
    assert rate(optim, 1.0) == pytest.approx(0.0, abs=1e-12)
