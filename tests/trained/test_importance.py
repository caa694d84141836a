"""What text and weights tell of heads, units and layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import OPTIONS, blocks, network
from torch import Tensor

from model.data.batches import windows
from model.trained.importance import Importance, importance
from model.training.device import CPU
from model.training.trained import Trained

TOKENS_N = np.random.default_rng(0).integers(0, 257, 16 * 24 + 1)


def measured(trained: Trained, at_once: int = 8) -> Importance:
    starts = np.arange(24) * 16
    parts = np.split(starts, 24 // at_once)
    return importance(trained.gpt, (windows(TOKENS_N, part, 16) for part in parts), CPU)  # type: ignore[arg-type]


@torch.no_grad()
def silence(weight: Tensor, columns: slice) -> None:
    weight[:, columns] = 0


@pytest.mark.parametrize("name", ["default", "grouped heads", "head mixing", "everything"])
def test_a_head_whose_output_nobody_reads_is_the_least_important(name: str) -> None:
    trained = network(**OPTIONS[name])
    gpt = trained.config.gpt
    wide = gpt.queries_per_kv * gpt.width // gpt.heads
    silence(blocks(trained)[2].attention.out.weight, slice(wide, 2 * wide))  # type: ignore[union-attr]

    heads = measured(trained).heads

    assert heads[2][1] == 0
    assert min(float(head) for layer in heads for head in layer if layer is not heads[2]) > 0
    assert all(np.linalg.norm(layer) == pytest.approx(1) for layer in heads)


@pytest.mark.parametrize("rule", ["units", "magnitudes"])
def test_planted_useless_units_are_found(rule: str) -> None:
    trained = network(mlp="swiglu")
    planted = [3, 17, 40, 99]
    for unit in planted:
        silence(blocks(trained)[1].mlp.project.weight, slice(unit, unit + 1))  # type: ignore[union-attr]

    scores = getattr(measured(trained), rule)[1]

    assert sorted(np.argsort(scores)[: len(planted)]) == planted


def test_the_measure_of_a_head_is_the_gradient_of_a_mask_on_it() -> None:
    """By finite differences: each sequence with the head a little quieter and louder."""
    trained = network()
    gpt = trained.gpt.double()
    x_BT, y_BT = windows(TOKENS_N, np.arange(24) * 16, 16)
    x, y = torch.from_numpy(x_BT), torch.from_numpy(y_BT)
    attention = blocks(trained)[1].attention
    assert attention is not None

    def losses_B(scale: float) -> Tensor:
        mask = torch.ones(32, dtype=torch.float64)
        mask[8:16] = scale
        hook = attention.out.register_forward_pre_hook(lambda m, y: (y[0] * mask,))
        with torch.no_grad():
            its: Tensor = gpt.losses(x, y).mean(1)
        hook.remove()
        return its

    slope_B = (losses_B(1 + 1e-2) - losses_B(1 - 1e-2)) / 2e-2
    raw = importance(gpt, [(x_BT, y_BT)], CPU)  # type: ignore[arg-type]

    assert raw.head_gradients[1][1] == pytest.approx(float(slope_B.abs().mean()), rel=0.02)


def test_importance_does_not_depend_on_how_many_sequences_are_read_at_once() -> None:
    trained = network(**OPTIONS["everything"])

    one, many = measured(trained, 4), measured(trained, 24)

    for part in ("heads", "units"):
        for a, b in zip(getattr(one, part), getattr(many, part), strict=True):
            assert a == pytest.approx(b, rel=1e-3, abs=1e-9)
    assert one.layers == pytest.approx(many.layers, rel=1e-4)


def test_a_layer_that_does_nothing_contributes_nothing() -> None:
    trained = network()
    with torch.no_grad():
        blocks(trained)[2].attention.out.weight.zero_()  # type: ignore[union-attr]
        blocks(trained)[2].mlp.project.weight.zero_()  # type: ignore[union-attr]

    layers = measured(trained).layers

    assert layers[2] == pytest.approx(0, abs=1e-6)
    assert np.delete(layers, 2).min() > 1e-3


def test_layers_without_attention_or_mlp_have_nothing_to_measure() -> None:
    trained = network(heads_by_layer="4 0 4 4", units_by_layer="128 128 0 7")

    its = measured(trained)

    assert [len(heads) for heads in its.heads] == [4, 0, 4, 4]
    assert [len(units) for units in its.units] == [128, 128, 0, 7]
    assert [len(units) for units in its.magnitudes] == [128, 128, 0, 7]
