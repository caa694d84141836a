from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config.config import OptimConfig
from model.optim.schedule import decay, momentum, rate

FALLING = ["cosine", "linear", "cyclic", "constant_linear", "constant_1-sqrt", "constant_sqrt"]


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
    assert rate(optim, 2.999 / 4, 4) == pytest.approx(0.05, abs=1e-4)
    assert rate(optim, 3 / 4, 4) == pytest.approx(1.0)
    assert rate(optim, 3.999 / 4, 4) == pytest.approx(0.05, abs=1e-4)


def test_a_cyclic_rate_falls_in_each_cycle_and_decay_rises_as_it_does() -> None:
    """As Slowrun's unlimited track has it: 96 cycles, rate 1 to 0.08, decay 0.7 to 1."""
    cycles, steps = 96, 7
    optim = OptimConfig(
        schedule="cyclic",
        cycles=cycles,
        warmup=0.0,
        final_rate=0.08,
        decay_schedule="rising",
        decay_low=0.7,
    )

    each = [step / (cycles * steps) for step in range(cycles * steps)]
    falls = [1 - 0.92 * at / steps for at in range(steps)] * cycles

    assert [rate(optim, done, 192) for done in each] == pytest.approx(falls)
    assert [decay(optim, done, 192) for done in each] == pytest.approx(
        [0.7 + 0.3 * (1 - share) / 0.92 for share in falls]
    )


def test_a_warmup_is_within_the_first_cycle() -> None:
    optim = OptimConfig(schedule="cyclic", cycles=2, warmup=0.1)

    assert [rate(optim, done, 2) for done in (0.1, 0.3, 0.5, 0.75)] == pytest.approx(
        [1.0, 0.5, 1.0, 0.5]
    )


@pytest.mark.parametrize("epochs", range(2, 40))
def test_every_cycle_begins_high_and_ends_low(epochs: int) -> None:
    """At an epoch's first and last step, for which `done` x epochs is not always a whole number."""
    low = 0.05 + 0.95 * (1 + math.cos(math.pi * 18 / 19)) / 2
    for cycles in range(1, epochs):
        optim = OptimConfig(schedule="constant", warmup=0.0, cycle_epochs=cycles)
        begins, ends = (
            [rate(optim, (epoch * 19 + at) / (epochs * 19), epochs) for epoch in range(epochs)]
            for at in (0, 18)
        )

        assert begins == pytest.approx([1.0] * epochs)
        assert ends == pytest.approx([1.0] * (epochs - cycles) + [low] * cycles)


@pytest.mark.parametrize("schedule", FALLING)
def test_no_step_of_a_run_has_rate_zero(schedule: str) -> None:
    """The first of W steps of warmup has 1 / (W + 1) of the peak, the last of the run a rest."""
    optim, steps = OptimConfig(schedule=schedule, warmup=0.1, warmdown=0.5), 40

    rates = [rate(optim, step / steps, 1, 1 / steps) for step in range(steps)]

    assert rates[:5] == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5, 1])
    assert rates[-1] == rate(optim, 39 / 40, 1) > 0


def test_the_rate_is_nanogpts_at_every_step() -> None:
    """Its formula by iteration: linear warmup, then a cosine to a tenth."""
    optim, steps, warm = OptimConfig(schedule="cosine", warmup=0.1, final_rate=0.1), 100, 10

    def nanogpt(it: int) -> float:
        if it < warm:
            return (it + 1) / (warm + 1)
        return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (it - warm) / (steps - warm)))

    ours = [rate(optim, it / steps, 1, 1 / steps) for it in range(steps)]

    assert ours == pytest.approx([nanogpt(it) for it in range(steps)])


def test_the_rate_is_slowruns_at_every_step() -> None:
    """Constant, then a line to zero, in its last epochs under cosines (#56): by step, as it is."""
    epochs, per_epoch, warmdown, cycles = 15, 19, 0.4, 4
    optim = OptimConfig(
        schedule="constant_linear", warmup=0.0, warmdown=warmdown, cycle_epochs=cycles
    )
    steps = epochs * per_epoch

    def slowrun(it: int) -> float:
        left = min(1.0, (steps - it) / (warmdown * steps))
        if it < (epochs - cycles) * per_epoch:
            return left
        into = it % per_epoch / per_epoch
        return 0.05 + (max(left, 0.05) - 0.05) * (1 + math.cos(math.pi * into)) / 2

    ours = [rate(optim, it / steps, epochs, 1 / steps) for it in range(steps)]

    assert ours == pytest.approx([slowrun(it) for it in range(steps)])


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


def test_rising_decay_is_whole_where_the_rate_is_at_its_floor() -> None:
    """As slowrun's unlimited track has it: 0.7 to 1 while the rate falls from 1 to 0.08."""
    optim = OptimConfig(
        decay_schedule="rising", decay_low=0.7, schedule="linear", warmup=0.0, final_rate=0.08
    )

    values = [decay(optim, done, 1) for done in (0.0, 0.5, 1.0)]

    assert values == pytest.approx([0.7, 0.85, 1.0])


def test_momentum_warms_up() -> None:
    optim = OptimConfig(momentum_start=0.85, momentum=0.95, momentum_warmup=0.2)

    values = [momentum(optim, done) for done in (0.0, 0.1, 0.2, 1.0)]

    assert values == pytest.approx([0.85, 0.9, 0.95, 0.95])
    assert momentum(OptimConfig(), 0.0) == 0.95


@given(
    st.integers(1, 97),
    st.floats(0.01, 0.9),
    st.sampled_from(("constant_linear", "constant_1-sqrt", "constant_sqrt", "constant")),
)
def test_runs_of_any_epochs_rise_alike_to_the_last_bit(
    per_epoch: int, warmup: float, schedule: str
) -> None:
    """In the epoch in which the rate rises over `warmup` of it; also where steps do not divide."""
    optim = OptimConfig(schedule=schedule, warmup_epochs=warmup, warmdown=0.05)

    runs = [
        [
            rate(optim, step / (per_epoch * epochs), epochs, 1 / (per_epoch * epochs))
            for step in range(int(per_epoch * 0.95))
        ]
        for epochs in (1, 2, 3, 7, 16, 63)
    ]

    assert all(run == runs[0] for run in runs)


def test_a_warmup_in_epochs_is_that_of_the_same_fraction() -> None:
    by_epochs, by_share = OptimConfig(warmup_epochs=0.5), OptimConfig(warmup=0.125)

    for one_step in (0.0, 1 / 64):
        ours = [rate(by_epochs, step / 64, 4, one_step) for step in range(64)]
        assert ours == pytest.approx([rate(by_share, step / 64, 4, one_step) for step in range(64)])
