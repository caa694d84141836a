"""The grid of a space: its levels, and when all of it was tried."""

from __future__ import annotations

import pytest

from sweep.space.grid import grid_points, is_through, make_grid
from sweep.space.hyperparameter import Choice, Hyperparameter, Range
from sweep.space.points import snapped

LAYERS = Hyperparameter("gpt.layers", Range(1, 4, whole=True))
EPOCHS = Hyperparameter("train.epochs", Range(1, 10, log=True, whole=True))


@pytest.mark.parametrize(("hp", "levels"), [(LAYERS, (1, 2, 3, 4)), (EPOCHS, (1, 2, 5, 10))])
def test_levels_of_whole_numbers_are_the_nearest_ones_each_once(
    hp: Hyperparameter, levels: tuple[int, ...]
) -> None:
    """They were cut off below the point, so that 1.75 became another 1."""
    (line,) = make_grid([hp], factor=2.0)

    assert line.levels == levels


def test_a_grid_over_whole_numbers_ends_once_each_point_was_tried() -> None:
    grid = (LAYERS, Hyperparameter("optim.name", Choice(("adamw", "muon")))), 2.0, 0
    points = grid_points(*grid)

    assert len(points) == 8
    assert not is_through(*grid, points[:-1])
    assert is_through(*grid, points)


def test_a_range_of_whole_numbers_has_no_others() -> None:
    assert LAYERS.domain.has(2.0)
    assert not LAYERS.domain.has(2.5)
    assert snapped(LAYERS.domain, 2.7) == 3


@pytest.mark.parametrize(
    ("values", "open_ends"),
    [
        ((0.25, 0.5, 0.75), [0.25, 0.75]),
        ((0.0, 0.5, 1.0), []),  # optim.final_rate is from 0 to 1
        ((0.0, 0.5, 0.75), [0.75]),
        ((0.5, 0.75, 1.0), [0.5]),
        ((0.5,), []),
    ],
)
def test_an_end_of_a_grid_is_open_unless_the_setting_ends_there_too(
    values: tuple[float, ...], open_ends: list[float]
) -> None:
    (line,) = make_grid([Hyperparameter("optim.final_rate", Choice(values))], factor=2.0)

    assert [value for value in values if line.open_end(value)] == open_ends
