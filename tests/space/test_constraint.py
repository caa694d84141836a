"""Limits on what trials may take."""

from __future__ import annotations

import pytest

from model.config.cost import trial_cost
from model.config.setting import ConfigError
from sweep.space.constraint import (
    QUANTITIES,
    Constraint,
    projected_seconds,
    read_constraint,
    violations,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpt.parameters <= 500M", Constraint("gpt.parameters", 5e8)),
        ("gpt.block_parameters>=1.5B", Constraint("gpt.block_parameters", 1.5e9, ">=")),
        ("train.seconds <= 1h30min", Constraint("train.seconds", 5400)),
        ("train.flops <= 1e17", Constraint("train.flops", 1e17)),
        ("train.memory <= 80GB", Constraint("train.memory", 8e10)),
    ],
)
def test_a_constraint_is_a_quantity_a_sign_and_a_limit(text: str, expected: Constraint) -> None:
    assert read_constraint(text) == expected
    assert read_constraint(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (3, "expected text such as gpt.parameters <= 500M, got 3"),
        ("gpt.parameters", "expected text such as"),
        ("gpt.params <= 3M", "did you mean gpt.parameters?"),
        ("gpt.parameters < 3M", "write <= or >="),
        ("gpt.parameters <= 3h", "h is a time"),
        ("train.seconds <= 3x", "x is no unit of time"),
        ("train.seconds >= 3", "known once it is spent"),
        ("train.flops <= 0", "above 0"),
        ("train.flops <= many", "expected a number, got 'many'"),
    ],
)
def test_what_is_no_constraint_is_refused_with_the_reason(text: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_constraint(text)

    assert message in str(caught.value)


def test_every_quantity_known_before_training_is_what_a_trial_costs() -> None:
    settings = {"train.epochs": 2, "gpt.scale": 2}
    cost = vars(trial_cost(settings))
    for quantity in QUANTITIES:
        if quantity == "train.seconds":
            continue
        exactly = cost[quantity.partition(".")[2]]
        limit, half = (Constraint(quantity, exactly * share) for share in (1, 0.5))
        floor = Constraint(quantity, exactly * 2, ">=")
        beyond = violations(settings, [limit, half, floor])
        assert list(beyond.values()) == pytest.approx([0, 1, 0.5])


def test_settings_that_cannot_be_trained_break_no_constraint() -> None:
    assert violations({"gpt.width": 9}, [Constraint("gpt.parameters", 1)]) == {}


def test_time_is_projected_from_the_last_two_evaluations() -> None:
    """What the first took compiles and caches, and says nothing of the rest."""
    assert projected_seconds([(2500, 100)]) == 100
    assert projected_seconds([(2500, 100), (5000, 110)]) == 130
    assert projected_seconds([(2500, 100), (5000, 110), (10_000, 200)]) == 200
