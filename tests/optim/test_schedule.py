from __future__ import annotations

import math

import pytest

from model.config.config import OptimConfig
from model.optim.schedule import decay, momentum, rate

FALLING = ["cosine", "linear", "constant_linear", "constant_1-sqrt", "constant_sqrt"]


@pytest.mark.parametrize("schedule", FALLING)
def test_the_rate_rises_over_warmup_and_ends_at_zero(schedule: str) -> None:
    optim = OptimConfig(schedule=schedule, warmup=0.1, warmdown=0.5)

    assert rate(optim, 0.05, 1) == pytest.approx(0.5)
    assert rate(optim, 0.1, 1) == pytest.approx(1.0)
    assert rate(optim, 1.0, 1) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("schedule", FALLING)
def test_the_rate_ends_at_its_floor_if_one_is_asked(schedule: str) -> None:
    assert rate(OptimConfig(schedule=schedule, final_rate=0.1), 1.0, 1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", 0.5 * (1 + math.cos(0.9 * math.pi))),
        ("linear", 0.1),
        ("constant_linear", 0.25),
        ("constant_1-sqrt", 1 - math.sqrt(0.75)),
        ("constant_sqrt", 0.5),
        ("constant", 1.0),
    ],
)
def test_each_schedule_has_its_own_fall(schedule: str, expected: float) -> None:
    optim = OptimConfig(schedule=schedule, warmup=0.0, warmdown=0.4)

    assert rate(optim, 0.9, 1) == pytest.approx(expected)
    if schedule.startswith("constant"):
        assert rate(optim, 0.6, 1) == pytest.approx(1.0)


def test_schedule_free_stays_at_its_peak_whatever_the_schedule() -> None:
    assert rate(OptimConfig(name="schedule_free", schedule="cosine"), 1.0, 1) == 1.0


def test_a_cyclic_tail_falls_anew_in_each_of_the_last_epochs() -> None:
    optim = OptimConfig(schedule="constant", warmup=0.0, cycle_epochs=2)

    assert rate(optim, 0.5, 4) == 1.0
    assert rate(optim, 2.5 / 4, 4) == pytest.approx(0.525)
    assert rate(optim, 3 / 4, 4) == pytest.approx(0.05)
    assert rate(optim, 3.001 / 4, 4) == pytest.approx(1.0, abs=1e-4)
    assert rate(optim, 1.0, 4) == pytest.approx(0.05)


@pytest.mark.parametrize("epochs", range(2, 40))
def test_every_cycle_ends_low_and_none_begins_early(epochs: int) -> None:
    """At the step that ends an epoch, for which `done` x epochs is not always a whole number."""
    for cycles in range(1, epochs):
        optim = OptimConfig(schedule="constant", warmup=0.0, cycle_epochs=cycles)
        ends = [rate(optim, epoch * 19 / (epochs * 19), epochs) for epoch in range(1, epochs + 1)]

        assert ends == pytest.approx([1.0] * (epochs - cycles) + [0.05] * cycles)


def test_schedule_free_has_no_cyclic_tail() -> None:
    assert rate(OptimConfig(name="schedule_free", cycle_epochs=1), 1.0, 4) == 1.0


def test_a_cyclic_tail_starts_from_the_schedule_it_is_in() -> None:
    optim = OptimConfig(schedule="linear", warmup=0.0, cycle_epochs=2)

    assert rate(optim, 3.5 / 4, 4) == pytest.approx(0.05 + (0.125 - 0.05) / 2)


def test_decay_is_constant_unless_told_otherwise() -> None:
    assert {decay(OptimConfig(), done / 10, 1) for done in range(11)} == {1.0}


def test_decay_follows_lines_between_its_points() -> None:
    optim = OptimConfig(decay_schedule="piecewise", decay_points=("0.2:1", "0.6:0.1", "1:2"))

    values = [decay(optim, done, 1) for done in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]

    assert values == pytest.approx([1, 1, 0.55, 0.1, 1.05, 2])


def test_decay_jumps_after_two_points_at_one_fraction() -> None:
    optim = OptimConfig(decay_schedule="piecewise", decay_points=("0:1", "0.5:2", "0.5:0", "1:1"))

    values = [decay(optim, done, 1) for done in (0.25, 0.5, 0.5 + 1e-9, 0.75)]

    assert values == pytest.approx([1.5, 2, 0, 0.5], abs=1e-6)


def test_decay_rises_as_the_rate_falls() -> None:
    optim = OptimConfig(decay_schedule="rising", decay_low=0.7, schedule="linear", warmup=0.0)

    assert decay(optim, 0.0, 1) == pytest.approx(0.7)
    assert decay(optim, 0.5, 1) == pytest.approx(0.85)
    assert decay(optim, 1.0, 1) == pytest.approx(1.0)


def test_momentum_warms_up() -> None:
    optim = OptimConfig(momentum_start=0.85, momentum=0.95, momentum_warmup=0.2)

    values = [momentum(optim, done) for done in (0.0, 0.1, 0.2, 1.0)]

    assert values == pytest.approx([0.85, 0.9, 0.95, 0.95])
    assert momentum(OptimConfig(), 0.0) == 0.95
