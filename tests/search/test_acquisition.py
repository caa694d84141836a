"""What the surface proposes next, where that can be said by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sweeps import make_space

from model.config.cost import trial_flops
from sweep.search.acquisition import propose
from sweep.search.seen import Seen
from sweep.space.hyperparameter import Choice, Hyperparameter, Range
from sweep.space.points import drawn, share_of
from sweep.space.settings import SamplerConfig
from sweep.space.space import Space

EPOCHS = (1, 2, 4, 8, 16, 32, 64)
SAMPLER = SamplerConfig(name="surface", explore=0.0, cost_weight=0.0, expect=False)
SPACE = Space("line", (Hyperparameter("train.epochs", Choice(EPOCHS)),), sampler=SAMPLER)


def proposed(*seen: Seen) -> int:
    suggestion = propose(SPACE, seen, np.random.default_rng(0))
    assert suggestion is not None
    epochs = suggestion.point["train.epochs"]
    assert isinstance(epochs, int)
    return epochs


def after(epochs: int, loss: float | None, running: bool = False) -> Seen:
    return Seen({"train.epochs": epochs}, loss, running)


def test_a_trial_that_was_stopped_speaks_against_its_place_and_a_running_one_does_not() -> None:
    """Losses fall by half a nat with each doubling, as far as trials have ended."""
    ended = [after(1, 4.5), after(2, 4.0), after(4, 3.5)]

    assert proposed(*ended, after(32, None)) < 32
    assert proposed(*ended, after(32, None, running=True)) == 64


def test_random_proposals_are_drawn_in_inverse_proportion_to_their_cost() -> None:
    """Of 1 and 4 epochs, four in five are of 1; with half the weight, two in three."""
    line = (Hyperparameter("train.epochs", Choice((1, 4))),)
    once, four = (trial_flops({"train.epochs": epochs}) for epochs in (1, 4))
    assert four == pytest.approx(4 * once)

    for weight, share in ((1.0, 4 / 5), (0.5, 2 / 3), (0.0, 1 / 2)):
        sampler = replace(SAMPLER, explore=1.0, cost_weight=weight)
        space, rng = replace(SPACE, hyperparameters=line, sampler=sampler), np.random.default_rng(1)
        suggestions = [propose(space, [], rng) for _ in range(600)]
        drawn = Counter(s.point["train.epochs"] for s in suggestions if s is not None)
        assert drawn[1] / 600 == pytest.approx(share, abs=0.06)


SHARED = """
name: shared
search:
  train.epochs: [2, 4, 8, 16]
  optim.lr: {min: 1e-3, max: 1e-2, log: true}
fixed: {optim.schedule: constant_linear, optim.warmup: 0, optim.warmdown: 0.2}
trial: {share_trunks: true}
sampler: {explore: 0}
"""


def test_what_a_trunk_makes_cheap_is_proposed_before_what_costs_the_whole(tmp_path: Path) -> None:
    """The better recipe was tried at 8 epochs: its trunk spares half of 16 and most of 2 and 4."""
    tried = [
        Seen({"train.epochs": 8, "optim.lr": lr}, loss)
        for lr, loss in ((0.001, 3.6), (0.002, 3.4), (0.0041, 3.2), (0.009, 3.5))
    ]
    proposed = {}
    for share in ("true", "false"):
        space = make_space(tmp_path, SHARED.replace("trunks: true", f"trunks: {share}"))
        suggestion = propose(space, tried, np.random.default_rng(0))
        assert suggestion is not None
        proposed[share] = suggestion.point["optim.lr"]

    assert proposed["true"] in [seen.point["optim.lr"] for seen in tried]
    assert proposed["false"] not in [seen.point["optim.lr"] for seen in tried]


MANY_RANGES = tuple(
    Hyperparameter(name, Range(low, high))
    for name, low, high in (
        ("optim.lr", 0.001, 0.1),
        ("gpt.dropout", 0.0, 0.5),
        ("optim.beta1", 0.8, 0.98),
        ("optim.beta2", 0.9, 0.999),
        ("optim.warmup", 0.0, 0.3),
        ("optim.final_rate", 0.0, 0.5),
        ("gpt.stochastic_depth", 0.0, 0.3),
        ("optim.grad_clip", 0.1, 10.0),
    )
)


@pytest.mark.parametrize(("hyperparameters", "least", "most"), [(8, 4, 6), (4, 0, 0)])
def test_among_many_hyperparameters_most_proposals_keep_some_of_the_best_values(
    hyperparameters: int, least: int, most: int
) -> None:
    """Losses fall towards a corner that no trial came near; among few the search goes there.

    Of 8 proposals two look all over the space, and steps from the best may change every value.
    """
    ranges = MANY_RANGES[:hyperparameters]
    space = replace(SPACE, hyperparameters=ranges)
    shares = 0.3 + 0.4 * np.random.default_rng(0).random((24, hyperparameters))
    stayed = 0
    for trials in range(16, 24):
        tried = shares[:trials]
        seen = [Seen(drawn(ranges, row), 4 - sum(row) / 4) for row in tried.tolist()]
        suggestion = propose(space, seen, np.random.default_rng(trials))
        assert suggestion is not None
        at = [share_of(hp.domain, suggestion.point[hp.setting]) for hp in ranges]
        best = tried[np.argsort(-tried.sum(axis=1))[:2]]
        stayed += bool((abs(best - at) < 1e-6).any())

    assert least <= stayed <= most
