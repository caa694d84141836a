"""A network with parts taken out computes what the whole one does without them.

Shapes: B sequences, T tokens, D width, H heads, G key and value heads, K head width, U units.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import LAYERS, OPTIONS, VOCABULARY, blocks
from networks import network as built
from torch import Tensor, nn

from model.config.setting import ConfigError
from model.config.size import parameters
from model.network import GPT, Cache, Mixture
from model.trained.kept import Kept, share_of_parameters, shrunk_config, whole
from model.trained.shrink import shrunk
from model.training import export
from model.training.trained import Trained

network = cache(built)  # nobody changes one here
TOKENS = torch.randint(0, VOCABULARY, (2, 16), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits_without(
    trained: Trained,
    layers: set[int] = frozenset(),
    **masks: dict[int, list[int]],  # type: ignore[assignment]
) -> Tensor:
    """What the whole network says while hooks pass by layers and set heads and units to zero.

    heads, units   by layer, what is zero
    """
    gpt = trained.gpt
    wide = gpt.config.queries_per_kv * (gpt.config.width // gpt.config.heads)

    def zero(which: list[int], many: int) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
        def hook(module: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
            masked = arguments[0].clone()
            for one in which:
                masked[..., one * many : (one + 1) * many] = 0
            return (masked,)

        return hook

    with ExitStack() as hooks:
        for number, block in enumerate(blocks(trained)):
            assert block.attention is not None
            assert block.mlp is not None
            if number in layers:
                handle: Any = block.register_forward_hook(lambda m, arguments, y: arguments[0])
                hooks.callback(handle.remove)
            heads, units = masks.get("heads", {}), masks.get("units", {})
            for module, which, many in (
                (block.attention.out, heads.get(number, []), wide),
                (block.mlp.project, units.get(number, []), 1),
            ):
                hooks.callback(module.register_forward_pre_hook(zero(which, many)).remove)
        logits: Tensor = gpt(TOKENS)
    return logits


@torch.no_grad()
def logits(trained: Trained) -> Tensor:
    its: Tensor = trained.gpt(TOKENS)
    return its


def less(kept: Kept, layer: int, **gone: list[int]) -> Kept:
    """`kept` less heads or units of one layer."""
    lists = {"heads": list(kept.heads), "units": list(kept.units)}
    for part, numbers in gone.items():
        lists[part][layer] = tuple(one for one in lists[part][layer] if one not in numbers)
    return Kept(tuple(lists["heads"]), tuple(lists["units"]))


@pytest.mark.parametrize("name", OPTIONS)
def test_taking_nothing_out_changes_nothing(name: str) -> None:
    trained = network(**OPTIONS[name])

    same = shrunk(trained, whole(trained.config.gpt))

    assert same.config.gpt == replace(trained.config.gpt, mtp="no")
    assert torch.equal(logits(same), logits(trained))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("gone", [{0}, {3}, {1, 2}])
def test_a_dropped_layer_is_passed_by(name: str, gone: set[int]) -> None:
    trained = network(**OPTIONS[name])

    small = shrunk(trained, whole(trained.config.gpt).without_layers(sorted(gone)))

    assert torch.allclose(logits(small), logits_without(trained, gone), atol=1e-5)
    assert not torch.allclose(logits(small), logits(trained), atol=1e-4)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_dropped_head_and_its_output_set_to_zero_are_the_same(name: str) -> None:
    trained = network(**OPTIONS[name])
    kept = less(less(whole(trained.config.gpt), 1, heads=[1]), 3, heads=[0])

    small = shrunk(trained, kept)

    expected = logits_without(trained, heads={1: [1], 3: [0]})
    assert torch.allclose(logits(small), expected, atol=1e-5)
    assert not torch.allclose(logits(small), logits(trained), atol=1e-4)


@pytest.mark.parametrize("name", OPTIONS)
def test_dropped_units_and_these_set_to_zero_are_the_same(name: str) -> None:
    trained = network(**OPTIONS[name])
    gone = {0: [3, 5, 100], 2: list(range(60))}

    kept = less(less(whole(trained.config.gpt), 0, units=gone[0]), 2, units=gone[2])
    small = shrunk(trained, kept)

    assert torch.allclose(logits(small), logits_without(trained, units=gone), atol=1e-5)
    assert not torch.allclose(logits(small), logits(trained), atol=1e-4)


@st.composite
def plans(draw: st.DrawFn, trained: Trained) -> Kept:
    """Any heads and units of each layer, at least one of them all."""
    every = whole(trained.config.gpt)

    def some(count: int) -> st.SearchStrategy[tuple[int, ...]]:
        numbers = st.sets(st.integers(0, count - 1), max_size=count)
        return numbers.map(lambda chosen: tuple(sorted(chosen)))

    heads, units = (
        tuple(draw(some(len(layer))) for layer in part) for part in (every.heads, every.units)
    )
    kept = Kept(heads, units)
    return kept if kept.layers else every


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from(sorted(OPTIONS)))
def test_parameters_of_any_plan_are_counted_without_building_it(
    data: st.DataObject, name: str
) -> None:
    trained = network(**OPTIONS[name])
    gpt = trained.config.gpt
    kept = data.draw(plans(trained))

    small = shrunk(trained, kept)

    padding = small.gpt.embedding.weight.shape[0] - VOCABULARY  # type: ignore[union-attr, index]
    tables = sum(
        p.shape[1] * padding
        for name, p in small.gpt.named_parameters()
        if name.startswith(("embedding.", "value_tables.", "head."))
        and not (name.startswith("head.") and gpt.tied_head)
    )
    counted = parameters(shrunk_config(gpt, kept), VOCABULARY)
    assert sum(p.numel() for p in small.gpt.parameters()) - tables == counted
    assert share_of_parameters(gpt, kept, VOCABULARY) == counted / parameters(gpt, VOCABULARY)
    assert whole(small.config.gpt).layers == kept.layers


@settings(max_examples=5, deadline=None)
@given(st.data())
def test_shrinking_twice_is_shrinking_once(data: st.DataObject) -> None:
    trained = network()
    once = data.draw(plans(trained))
    first = shrunk(trained, once)
    gone = data.draw(st.sampled_from(once.layers))
    if len(once.layers) == 1:
        return

    twice = shrunk(first, whole(first.config.gpt).without_layers([gone]))

    assert torch.allclose(logits(twice), logits(shrunk(trained, once.without_layers([gone]))))


@pytest.mark.parametrize("name", ["default", "everything"])
def test_a_smaller_network_survives_the_way_through_a_folder(name: str, tmp_path: Path) -> None:
    trained = network(**OPTIONS[name])
    kept = less(whole(trained.config.gpt).without_layers([1]), 0, heads=[0], units=[1, 2])
    small = shrunk(trained, kept)

    export.write(small, tmp_path / "small")

    back = export.load(tmp_path / "small")
    assert back.config == small.config
    assert torch.equal(logits(back), logits(small))


def test_scaled_networks_are_shrunk_in_the_shape_they_have() -> None:
    trained = network(scale=4.0)
    layers = len(blocks(trained))

    small = shrunk(trained, whole(trained.config.gpt).without_layers([layers - 1]))

    assert (small.config.gpt.scale, small.config.gpt.layers) == (1.0, layers)
    assert torch.allclose(logits(small), logits_without(trained, {layers - 1}), atol=1e-5)


def test_a_plan_that_leaves_nothing_is_refused() -> None:
    trained = network()

    with pytest.raises(ConfigError, match="leaves no layer"):
        shrunk(trained, whole(trained.config.gpt).without_layers(range(LAYERS)))


@torch.no_grad()
@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_left_reads_token_by_token_as_it_reads_all_at_once(name: str) -> None:
    """The first layer has no attention, so that it has no keys to keep either."""
    trained = network(**OPTIONS[name])
    kept = less(whole(trained.config.gpt).without_layers([2]), 0, heads=[0, 1, 2, 3])
    small, cache = shrunk(trained, kept), Cache()
    assert isinstance(small.gpt, GPT)

    said = [small.gpt.after(TOKENS[:, at : at + 1], cache) for at in range(TOKENS.shape[1])]

    assert torch.allclose(torch.stack(said, dim=1), logits(small), atol=1e-4)


def test_several_networks_as_one_are_not_shrunk() -> None:
    trained = network()
    mixture = Mixture([trained.gpt], [1.0])

    with pytest.raises(ConfigError, match="shrink one of them"):
        shrunk(replace(trained, gpt=mixture), whole(trained.config.gpt))
