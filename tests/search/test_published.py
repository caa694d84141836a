from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from model.config.config import MULTIPLIER, Config
from model.config.presets import TIMESCALE
from sweep.search import published
from sweep.search.published import LOOKED_AT, PUBLISHED, first_points
from sweep.space.hyperparameter import Choice, Hyperparameter, Range, as_number
from sweep.space.space import Space

HYPERPARAMETERS = (
    Hyperparameter("train.epochs", Choice((1, 2, 4, 8, 16, 32))),
    Hyperparameter("gpt.scale", Choice((0.5, 1.0, 4.0))),
    Hyperparameter("optim.lr", Range(0.001, 0.1, log=True)),
    Hyperparameter(MULTIPLIER, Range(0.5, 200.0, log=True)),
)
SPACE = Space("small", HYPERPARAMETERS, {"data.train_tokens": 65_537})


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each network whose parameters were counted."""
    counted: list[object] = []
    count: Callable[..., int] = published.parameters

    def counting(gpt: object, token_kinds: int) -> int:
        counted.append(gpt)
        return count(gpt, token_kinds)

    monkeypatch.setattr(published, "parameters", counting)
    return counted


def test_published_decay_is_a_timescale_of_a_quarter_to_half_an_epoch() -> None:
    """Literature: within 0.195 and 0.52 epochs over all of Kim et al.'s 16 cells."""
    assert len(PUBLISHED) == 17
    assert all(0.19 < fact.timescale < 0.53 for fact in PUBLISHED)


def test_first_points_lie_inside_the_space() -> None:
    points = first_points(SPACE)

    assert 1 <= len(points) <= 3
    for point in points:
        assert point.keys() == {hp.setting for hp in HYPERPARAMETERS}
        assert all(hp.domain.has(point[hp.setting]) for hp in HYPERPARAMETERS)


def test_they_have_the_published_timescale_at_the_space_s_own_batches() -> None:
    for point in first_points(SPACE):
        config = Config.from_settings({**SPACE.fixed, **point})
        assert 0.15 < config.optim.decay_timescale < 0.7


def test_decay_searched_as_timescale_is_taken_over_as_such() -> None:
    hyperparameters = (*HYPERPARAMETERS[:3], Hyperparameter(TIMESCALE, Range(0.05, 5.0, log=True)))

    points = first_points(replace(SPACE, hyperparameters=hyperparameters))

    assert points
    assert all(0.19 < as_number(point[TIMESCALE]) < 0.53 for point in points)


def test_text_in_plenty_has_no_prior_from_scarce_text() -> None:
    """A thousand times the text in as many batches: only tokens per parameter differ."""
    plenty = {"data.train_tokens": 65_536_001, "train.batch_tokens": 1_024_000}

    assert first_points(replace(SPACE, fixed=plenty)) == ()


def test_a_single_epoch_has_no_prior_from_many() -> None:
    hyperparameters = (Hyperparameter("train.epochs", Choice((1, 2))), *HYPERPARAMETERS[1:])

    assert first_points(replace(SPACE, hyperparameters=hyperparameters)) == ()


def test_decay_that_is_not_searched_near_the_published_has_no_prior() -> None:
    hyperparameters = (*HYPERPARAMETERS[:3], Hyperparameter(MULTIPLIER, Choice((0.5, 1.0))))

    assert first_points(replace(SPACE, hyperparameters=hyperparameters)) == ()


def test_an_optimizer_nobody_published_gets_none() -> None:
    fixed = {**SPACE.fixed, "optim.name": "lion"}

    assert first_points(replace(SPACE, fixed=fixed)) == ()


def test_networks_are_looked_at_once_not_at_every_proposal(evaluations: list[object]) -> None:
    space = replace(SPACE, fixed={**SPACE.fixed, "gpt.dropout": 0.125})  # asked for nowhere else

    points = [first_points(space) for _ in range(3)]

    assert points[0] == points[1] == points[2]
    assert len(evaluations) == 3


def test_of_many_networks_some_from_all_over_the_space_are_looked_at(
    evaluations: list[object],
) -> None:
    """6 x 6 x 4 x 2 x 3 networks with each of two optimizers took seconds."""
    networks = (
        Hyperparameter("optim.name", Choice(("adamw", "muon"))),
        Hyperparameter("gpt.layers", Choice((1, 2, 3, 4, 6, 8))),
        Hyperparameter("gpt.width", Choice((32, 64, 96, 128, 192, 256))),
        Hyperparameter("gpt.context", Choice((32, 64, 128, 256))),
        Hyperparameter("gpt.tied_head", Choice((False, True))),
        Hyperparameter("gpt.mlp_expansion", Choice((2.0, 3.0, 4.0))),
    )
    rest = tuple(hp for hp in HYPERPARAMETERS if hp.setting != "gpt.scale")
    fixed = {**SPACE.fixed, "gpt.head_width": 32, "train.batch_tokens": 1024}

    points = first_points(replace(SPACE, hyperparameters=(*networks, *rest), fixed=fixed))

    assert points
    assert len(evaluations) <= LOOKED_AT
    for hp in networks[1:]:
        part, _, field = hp.setting.partition(".")
        assert part == "gpt"
        assert {getattr(gpt, field) for gpt in evaluations} == set(hp.domain.values)
