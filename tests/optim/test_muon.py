from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from model.optim.muon import POLAR_EXPRESS, QUINTIC, Muon, orthogonalise

SETTINGS = {"lr": 0.01, "momentum": 0.95, "weight_decay": 0.5}


def after(gradients: list[Tensor], start: Tensor, **settings: Any) -> Tensor:
    parameter = torch.nn.Parameter(start.clone())
    muon = Muon([parameter], **{**SETTINGS, **settings})
    for gradient in gradients:
        parameter.grad = gradient.clone()
        muon.step()
    return parameter.detach()


def draws(shape: tuple[int, int], steps: int = 3) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(0)
    return torch.randn(shape), [torch.randn(shape) for _ in range(steps)]


@pytest.mark.parametrize("shape", [(32, 32), (64, 16), (16, 64)])
@pytest.mark.parametrize("bf16", [False, True])
def test_muon_agrees_with_torchs_to_bf16_rounding(shape: tuple[int, int], bf16: bool) -> None:
    start, gradients = draws(shape, steps=5)
    theirs = torch.nn.Parameter(start.clone())
    muon = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **SETTINGS)
    for gradient in gradients:
        theirs.grad = gradient.clone()
        muon.step()

    ours = after(gradients, start, bf16=bf16)

    assert (ours - theirs).norm() < 0.01 * (theirs - start).norm()


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("polar", [False, True])
def test_orthogonalising_pushes_singular_values_towards_one(polar: bool, bf16: bool) -> None:
    torch.manual_seed(0)
    drawn = torch.randn(3, 24, 40)

    values = torch.linalg.svdvals(
        orthogonalise(drawn, POLAR_EXPRESS if polar else QUINTIC, bf16).float()
    )

    assert values.min() > (0.8 if polar else 0.6)
    assert values.max() < (1.2 if polar else 1.3)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_a_plain_update_is_the_formula(shape: tuple[int, int]) -> None:
    """Nesterov momentum, orthogonalised, of AdamW's size, after decay; in fp64 by hand."""
    start, gradients = draws(shape)
    weight, buffer = start.double(), torch.zeros(shape, dtype=torch.float64)
    for gradient in gradients:
        buffer = 0.95 * buffer + 0.05 * gradient
        direction = 0.05 * gradient + 0.95 * buffer
        x = direction / direction.norm()
        for _ in range(5):
            a, b, c = 3.4445, -4.7750, 2.0315
            gram = x @ x.T
            x = a * x + b * gram @ x + c * gram @ gram @ x
        weight = weight * (1 - 0.01 * 0.5) - 0.01 * 0.2 * max(shape) ** 0.5 * x

    assert torch.allclose(after(gradients, start).double(), weight, atol=1e-5)


@pytest.mark.parametrize("size", [1.0, 1e-5, 1e-7])
def test_polar_express_is_the_formula(size: float) -> None:
    """In fp64 by hand, singular values kept two per cent below one at first; 1e-6 to the norm."""
    drawn = draws((24, 40))[0] * size
    x = drawn.double() / (1.02 * drawn.double().norm() + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x

    assert torch.allclose(orthogonalise(drawn[None], POLAR_EXPRESS)[0].double(), x, atol=1e-5)


def test_scale_by_shape_leaves_singular_values_at_one() -> None:
    start, gradients = draws((24, 40), steps=1)

    moved = after(gradients, start, weight_decay=0.0, scale="shape") - start

    values = torch.linalg.svdvals(moved) / 0.01
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_rows_of_the_direction_are_made_equally_long_first() -> None:
    start, (gradient,) = draws((24, 40), steps=1)
    gradient[0] *= 100
    normalised = gradient / gradient.norm(dim=-1, keepdim=True)

    ours = after([gradient], start, row_normalised=True)

    assert torch.allclose(ours, after([normalised], start), atol=1e-5)
    assert not torch.allclose(ours, after([gradient], start), atol=1e-3)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_normuon_evens_out_updates_and_keeps_their_norm(shape: tuple[int, int]) -> None:
    """By row of tall matrices and by column of wide ones, with a running mean square."""
    start, gradients = draws(shape, steps=2)
    hp = 1 if shape[0] >= shape[1] else 0
    weight, mean = start.clone(), torch.zeros(())
    buffer = torch.zeros(shape)
    for gradient in gradients:
        buffer = 0.95 * buffer + 0.05 * gradient
        update = orthogonalise((0.05 * gradient + 0.95 * buffer)[None])[0]
        mean = 0.95 * mean + 0.05 * update.square().mean(dim=hp, keepdim=True)
        evened = update / mean.sqrt()
        evened = evened * update.norm() / evened.norm()
        weight = weight * (1 - 0.01 * 0.5) - 0.01 * 0.2 * max(shape) ** 0.5 * evened

    assert torch.allclose(after(gradients, start, normuon=True), weight, atol=1e-5)
    assert not torch.allclose(after(gradients, start), weight, atol=1e-4)
