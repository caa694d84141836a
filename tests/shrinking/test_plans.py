"""Plans that bring a network down to a size, and what strategies take out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config.config import GPTConfig
from model.config.setting import ConfigError
from model.trained.importance import Importance
from model.trained.kept import whole
from sweep.shrinking.plans import Network, candidates, smallest_share
from sweep.shrinking.request import Request
from sweep.shrinking.strategies import LAYERS, layers_in_order, without_heads, without_units

VOCABULARY = 100
GPT2 = {"norm": "layer", "bias": True, "positions": "learned", "tied_head": True}


def network(layers: int = 6, seed: int = 0, **options: object) -> Network:
    """One whose parts matter as the dice say."""
    gpt = GPTConfig(layers=layers, width=32, head_width=8, **options)  # type: ignore[arg-type]
    draw = np.random.default_rng(seed)

    def scores(kind: str) -> tuple[np.ndarray, ...]:
        return tuple(draw.random(len(parts)) for parts in getattr(whole(gpt), kind))

    return Network(
        gpt,
        VOCABULARY,
        Importance(
            scores("heads"), scores("heads"), scores("units"), scores("units"), draw.random(layers)
        ),
    )


@pytest.mark.parametrize(
    ("strategy", "order"),
    [
        ("top", [5, 4, 3, 2, 1, 0]),
        ("bottom", [0, 1, 2, 3, 4, 5]),
        ("alternate", [4, 2, 0, 5, 3, 1]),
        ("symmetric", [3, 2, 4, 1, 5, 0]),
        ("contribution", [2, 0, 4, 1, 3, 5]),
    ],
)
def test_strategies_drop_layers_in_their_order(strategy: str, order: list[int]) -> None:
    turned_L = np.array([0.2, 0.4, 0.1, 0.5, 0.3, 0.6])

    assert layers_in_order(strategy, range(6), turned_L) == order


@given(st.sampled_from(LAYERS), st.sets(st.integers(0, 11), min_size=1))
def test_every_order_has_each_layer_that_is_there_once(strategy: str, there: set[int]) -> None:
    order = layers_in_order(strategy, sorted(there), np.arange(12.0))

    assert sorted(order) == sorted(there)


def test_the_least_important_heads_go_first_whatever_their_layer() -> None:
    its = network()

    left = without_heads(whole(its.gpt), 0.25, its.importance)

    gone = [
        its.importance.heads[layer][head]
        for layer, heads in enumerate(left.heads)
        for head in set(range(4)) - set(heads)
    ]
    kept = [its.importance.heads[layer][h] for layer, own in enumerate(left.heads) for h in own]
    assert len(gone) == 6
    assert max(gone) < min(kept)


@given(st.integers(0, 6 * 128 - 1), st.sampled_from(["gradient", "magnitude"]))
def test_as_many_units_go_as_were_asked_for(count: int, strategy: str) -> None:
    its = network()

    left = without_units(whole(its.gpt), count, strategy, its.importance)

    assert sum(map(len, left.units)) == 6 * 128 - count
    if strategy == "magnitude":  # evenly, as sizes of weights do not compare layers
        assert max(map(len, left.units)) - min(map(len, left.units)) <= 1


@settings(max_examples=4, deadline=None)
@given(
    st.floats(0.2, 1.0),
    st.integers(2, 6),
    st.sampled_from([{}, GPT2, {"mlp": "swiglu", "value_residual": "table"}]),
)
def test_plans_are_no_larger_than_asked_and_differ(
    size: float, layers: int, options: dict[str, object]
) -> None:
    its = network(layers, mlp_expansion=1.0, **options)
    try:
        plans = candidates(its, size)
    except ConfigError as error:
        assert "no plan leaves as little as" in str(error)  # noqa: PT017
        assert size < 0.6
        return

    assert all(0 < plan.share <= size for plan in plans)
    assert len({plan.kept for plan in plans}) == len(plans)
    exact = [plan for plan in plans if "units" in plan.strategy]
    assert all(plan.share > size - 0.02 for plan in exact)


def test_rules_that_take_out_the_same_layers_are_one_plan() -> None:
    its = network()
    its.importance.layers[:] = [6, 5, 4, 3, 2, 1]

    alone = [plan.strategy for plan in candidates(its, 0.7) if plan.alone]

    assert alone[0] == "2 layers by top or contribution"


def test_a_size_that_no_plan_reaches_is_refused_with_what_stays() -> None:
    its = network()

    with pytest.raises(ConfigError, match=r"all but layers are 0\.\d\d of them and stay"):
        candidates(its, smallest_share(its) / 2)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({}, "give either --size, or what goes"),
        ({"size": 0.5, "layers": "top:1"}, "give either --size, or what goes"),
        ({"size": 1.5}, "--size: a share of the parameters, above 0 to 1, got 1.5"),
        ({"size": -1}, "--size: a share of the parameters"),
        ({"layers": "tpo:2"}, "there is no strategy 'tpo', only top, .*did you mean top"),
        ({"layers": "top:many"}, "--layers: top: and how many, as top:2; got 'many'"),
        ({"layers": "0,1"}, "--layers: a strategy and a count, as top:2, or numbers from 1"),
        ({"heads": "1"}, "--heads: a share from 0 to below 1, .*none would be left"),
        ({"units": "gradient:x"}, "--units: a share from 0 to below 1"),
        ({"units": "size:0.1"}, "--units: there is no strategy 'size'"),
        ({"size": 0.5, "epochs": 1.5}, "--epochs: 0 for none"),
        ({"size": 0.5, "rate": 0}, "--rate: a share of the run's"),
        ({"size": 0.5, "finalists": 0}, "--finalists: at least 1"),
        ({"layers": "top:1", "compare": True}, "--compare: is of plans of one --size"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(words: dict[str, object], problem: str) -> None:
    problems = Request(**words).problems()  # type: ignore[arg-type]

    assert any(_matches(problem, one) for one in problems), problems


def _matches(pattern: str, text: str) -> bool:
    import re

    return re.search(pattern, text) is not None


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"layers": "top:6"}, "--layers: top:6 leaves no layer"),
        ({"layers": "top:7"}, "--layers: there are 6 layers, got 7"),
        ({"layers": "2,9"}, "--layers: there is no layer 9, only 1, 2, 3, 4, 5, 6"),
    ],
)
def test_a_plan_of_layers_that_are_not_there_is_refused(
    words: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        Request(**words).plan(network())  # type: ignore[arg-type]


def test_words_say_what_goes() -> None:
    its = network()

    plan = Request(layers="2,5", heads="50%", units="magnitude:0.25").plan(its)

    assert plan.kept.layers == (0, 2, 3, 5)
    assert sum(map(len, plan.kept.heads)) == 8
    assert [len(units) for units in plan.kept.units] == [96, 0, 96, 96, 0, 96]
    assert plan.strategy == "layers 2,5, 50% of heads, 25% of units by magnitude"
