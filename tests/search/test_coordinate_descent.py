from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from model.config.config import MULTIPLIER
from sweep.search.coordinate_descent import (
    Certificate,
    Finished,
    certificate,
    next_point,
)
from sweep.space.grid import Line, make_grid, neighbours
from sweep.space.hyperparameter import Choice, Hyperparameter, Range, as_number
from sweep.space.points import Point, key

Loss = Callable[[Point], float]
HYPERPARAMETERS = (
    Hyperparameter("train.epochs", Choice((1, 2, 4, 8, 16))),
    Hyperparameter("gpt.scale", Range(0.25, 4.0, log=True)),
    Hyperparameter("optim.name", Choice(("adamw", "muon"))),
)
GRID = make_grid(HYPERPARAMETERS, factor=2.0)


def bowl(point: Point) -> float:
    """Best at 4 epochs, scale 1 and Muon; convex in the logarithms."""
    epochs, scale = (math.log2(as_number(point[n])) for n in ("train.epochs", "gpt.scale"))
    return 3.0 + 0.1 * (epochs - 2) ** 2 + 0.1 * scale**2 + 0.05 * (point["optim.name"] == "adamw")


def descend(
    grid: tuple[Line, ...], loss: Loss, start: Point, margin: float = 0.01, workers: int = 1
) -> list[Finished]:
    """Finished trials of a whole descent, `workers` at a time."""
    finished: list[Finished] = [(start, loss(start))]
    while True:
        running: list[Point] = []
        while len(running) < workers:
            point = next_point(grid, finished, running, margin)
            if point is None:
                break
            running.append(point)
        if not running:
            return finished
        finished += [(point, loss(point)) for point in running]


def certified(
    grid: tuple[Line, ...], finished: list[Finished], margin: float = 0.01
) -> Certificate:
    found = certificate(grid, finished, margin)
    assert found is not None
    return found


START: Point = {"train.epochs": 1, "gpt.scale": 4.0, "optim.name": "adamw"}


@pytest.mark.parametrize("workers", [1, 4])
def test_it_finds_and_certifies_the_optimum_of_a_convex_grid(workers: int) -> None:
    finished = descend(GRID, bowl, START, workers=workers)

    found = certified(GRID, finished)

    assert found.centre == {"train.epochs": 4, "gpt.scale": 1.0, "optim.name": "muon"}
    assert found.certified
    assert len(finished) < 5 * 5 * 2 / 2


def test_workers_are_given_different_points_and_go_on_while_neighbours_run() -> None:
    finished = [(START, bowl(START))]
    running: list[Point] = []
    for _ in range(12):
        point = next_point(GRID, finished, running, margin=0.01)
        assert point is not None
        running.append(point)

    assert len({key(point) for point in [START, *running]}) == 13


def test_an_optimum_at_the_edge_gets_no_certificate() -> None:
    def downhill(point: Point) -> float:
        return 3.0 - 0.1 * math.log2(as_number(point["gpt.scale"]))

    found = certified(GRID, descend(GRID, downhill, START))

    assert not found.certified
    assert found.edges == ("gpt.scale",) or "gpt.scale" in found.edges
    assert "uncertified: " in found.lines()[0]
    assert "edge in gpt.scale" in found.lines()[0]


def test_an_edge_that_the_setting_itself_has_is_none() -> None:
    """Fewer than one epoch cannot be trained: nothing lies beyond it."""
    grid = make_grid((Hyperparameter("train.epochs", Choice((1, 2, 4))),), factor=2.0)

    def epochs(point: Point) -> float:
        return as_number(point["train.epochs"])

    found = certified(grid, descend(grid, epochs, {"train.epochs": 4}))

    assert found.centre == {"train.epochs": 1}
    assert found.certified


def test_a_neighbour_better_by_less_than_the_margin_does_not_move_the_centre() -> None:
    grid = make_grid((Hyperparameter("gpt.scale", Range(0.25, 4.0, log=True)),), factor=2.0)
    losses = {0.25: 3.5, 0.5: 3.2, 1.0: 3.001, 2.0: 3.0, 4.0: 9.0}
    finished: list[Finished] = [({"gpt.scale": s}, losses[s]) for s in (0.5, 1.0, 2.0)]

    found = certified(grid, finished, margin=0.01)

    assert found.centre == {"gpt.scale": 1.0}
    assert [n.point for n in found.tied] == [{"gpt.scale": 2.0}]
    assert next_point(grid, finished, [], margin=0.01) is None
    assert next_point(grid, finished, [], margin=0.0005) == {"gpt.scale": 4.0}


def test_what_was_stopped_early_is_no_better() -> None:
    grid = make_grid((Hyperparameter("train.epochs", Choice((2, 4, 8))),), factor=2.0)
    finished: list[Finished] = [
        ({"train.epochs": 2}, math.inf),
        ({"train.epochs": 4}, 3.0),
        ({"train.epochs": 8}, math.inf),
    ]

    found = certified(grid, finished)

    assert found.certified
    assert found.lines()[-1].strip().startswith("stopped")


def test_a_certificate_is_not_given_while_neighbours_are_missing() -> None:
    found = certified(GRID, [(START, bowl(START))])

    assert not found.certified
    assert "neighbours not run" in found.lines()[0]


def test_a_step_of_the_rate_keeps_the_decay_timescale() -> None:
    grid = make_grid(
        (
            Hyperparameter("optim.lr", Range(0.001, 0.016, log=True)),
            Hyperparameter(MULTIPLIER, Range(1.0, 16.0, log=True)),
        ),
        factor=2.0,
    )

    found = {
        n.step: n.point
        for n in neighbours(
            grid,
            dict(
                zip(("optim.lr", MULTIPLIER), (grid[0].levels[2], grid[1].levels[2]), strict=True)
            ),
        )
    }

    up = found["optim.lr up at equal decay timescale"]
    assert up["optim.lr"] == grid[0].levels[3]
    assert up[MULTIPLIER] == grid[1].levels[1]
    assert found[f"{MULTIPLIER} up"]["optim.lr"] == grid[0].levels[2]


def test_another_optimizer_takes_its_own_rates_at_the_same_place() -> None:
    hyperparameters = (
        Hyperparameter("optim.name", Choice(("adamw", "muon"))),
        Hyperparameter("optim.lr", Choice((0.001, 0.002, 0.004)), (("optim.name", ("adamw",)),)),
        Hyperparameter("optim.lr", Choice((0.01, 0.02, 0.04)), (("optim.name", ("muon",)),)),
    )
    grid = make_grid(hyperparameters, factor=2.0)

    found = {n.step: n.point for n in neighbours(grid, {"optim.name": "adamw", "optim.lr": 0.004})}

    assert found["optim.name muon"] == {"optim.name": "muon", "optim.lr": 0.04}


@pytest.mark.parametrize(
    ("adamw", "muon"),
    [
        ((0.004, 0.008), (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)),
        ((0.001, 0.002, 0.004), (0.01,)),
        ((0.001,), (0.01, 0.02)),
    ],
)
def test_the_ends_of_a_list_are_carried_to_those_of_a_list_of_another_length(
    adamw: tuple[float, ...], muon: tuple[float, ...]
) -> None:
    hyperparameters = (
        Hyperparameter("optim.name", Choice(("adamw", "muon"))),
        Hyperparameter("optim.lr", Choice(adamw), (("optim.name", ("adamw",)),)),
        Hyperparameter("optim.lr", Choice(muon), (("optim.name", ("muon",)),)),
    )
    grid = make_grid(hyperparameters, factor=2.0)

    def carried(name: str, rate: float, other: str) -> object:
        found = {n.step: n.point for n in neighbours(grid, {"optim.name": name, "optim.lr": rate})}
        return found[f"optim.name {other}"]["optim.lr"]

    longer, shorter = sorted((("adamw", adamw), ("muon", muon)), key=lambda pair: -len(pair[1]))
    assert carried(longer[0], longer[1][-1], shorter[0]) == shorter[1][-1]
    assert carried(longer[0], longer[1][0], shorter[0]) == shorter[1][0]
    assert all(carried(shorter[0], rate, longer[0]) in longer[1] for rate in shorter[1])


def test_a_log_range_is_cut_into_steps_of_about_the_factor() -> None:
    (line,) = make_grid((Hyperparameter("optim.lr", Range(0.001, 0.01, log=True)),), factor=2.0)

    assert line.levels[0] == 0.001
    assert line.levels[-1] == 0.01
    assert len(line.levels) == 4
