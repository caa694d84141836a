"""Points, constraints, repeats and constants, as a space file gives them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import SPACE
from sweeps import make_space, problems

from sweep.session.enqueue import parameters
from sweep.space.constraint import Constraint
from sweep.space.hyperparameter import Choice, Range
from sweep.space.points import corners, draws


def test_points_may_name_some_of_what_is_searched(tmp_path: Path) -> None:
    space = make_space(tmp_path, SPACE + "points: [{train.epochs: 2}, {optim.lr: 1e-2}]")

    assert space.points == ({"train.epochs": 2}, {"optim.lr": 0.01})
    assert space.resolved()["points"] == [{"train.epochs": 2}, {"optim.lr": 0.01}]


def test_a_point_gives_its_value_to_every_alternative_that_can_take_it(tmp_path: Path) -> None:
    space = make_space(tmp_path, SPACE)

    by_name = parameters({"optim.lr": 0.01}, space.hyperparameters)
    assert set(by_name) == {"optim.lr [optim.name=adamw]", "optim.lr [optim.name=muon]"}
    assert parameters({"optim.lr": 0.05}, space.hyperparameters) == {
        "optim.name": "muon",
        "optim.lr [optim.name=muon]": 0.05,
    }
    decided = parameters({"optim.lr": 0.01, "optim.name": "adamw"}, space.hyperparameters)
    assert decided == {"optim.name": "adamw", "optim.lr [optim.name=adamw]": 0.01}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("points: {train.epochs: 2}", "points: expected a list of mappings"),
        ("points: [3]", "points: expected `key: value` lines"),
        ("points: [{train.epochs: 3}]", "points: train.epochs: 3 is outside what is searched"),
        ("points: [{train.epochs: two}]", "train.epochs: expected a whole number, got 'two'"),
        ("points: [{gpt.layers: 3}]", "points: gpt.layers: is not searched"),
        ("points: [{learning_rate: 3}]", "is not searched; did you mean optim.lr?"),
        ("points: [{optim.name: adamw, optim.lr: 0.05}]", "0.05 is outside what is searched"),
        ("constraints: [gpt.parameters]", "constraints: expected text such as"),
        ("constraints: {gpt.parameters: 3}", "constraints: expected text such as"),
        ("repeat: 0", "repeat: expected the seeds of each proposal, 1 to 100"),
        ("repeat: {times: 3}", "repeat: expected the seeds"),
        ("repeat: true", "repeat: expected the seeds"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(text: str, expected: str, tmp_path: Path) -> None:
    line = SPACE.count("\n") + 1

    (found,) = problems(tmp_path, SPACE + text)

    assert found.startswith(f"line {line}: ")
    assert expected in found


def test_a_condition_that_a_point_does_not_meet_is_told(tmp_path: Path) -> None:
    text = """
search:
  optim.name: [adamw, muon]
  optim.momentum: {min: 0.9, max: 0.99, when: {optim.name: muon}}
points: [{optim.name: adamw, optim.momentum: 0.95}]
"""
    assert problems(tmp_path, text) == [
        "line 5: points: optim.momentum: its conditions are not met by this point"
    ]


def test_a_setting_fixed_on_the_command_line_leaves_the_points(tmp_path: Path) -> None:
    text = SPACE + "points: [{train.epochs: 2}, {train.epochs: 1, optim.name: muon}]"

    assert make_space(tmp_path, text, "train.epochs=4").points == ({"optim.name": "muon"},)


def test_constraints_and_repeats_are_part_of_what_a_sweep_is(tmp_path: Path) -> None:
    text = SPACE + "constraints: [gpt.parameters <= 1.5M, train.seconds <= 2h]\nrepeat: {seeds: 3}"

    space = make_space(tmp_path, text)

    limits = (Constraint("gpt.parameters", 1.5e6), Constraint("train.seconds", 7200))
    assert (space.constraints, space.repeat) == (limits, 3)
    resolved = space.resolved()
    assert resolved["constraints"] == ["gpt.parameters <= 1.5e+06", "train.seconds <= 7200"]
    assert resolved["repeat"] == 3


def test_repeats_need_the_seed_for_themselves(tmp_path: Path) -> None:
    text = "search: {train.seed: [1, 2], train.epochs: [1, 2]}\nrepeat: 2"

    assert problems(tmp_path, text) == ["repeat: counts train.seed up, which is searched; keep one"]


def test_a_value_is_a_constant_and_under_a_condition_an_alternative(tmp_path: Path) -> None:
    text = """
search:
  optim.name: [adamw, muon]
  gpt.layers: {value: 3}
  optim.lr:
    - {when: {optim.name: adamw}, value: 3e-3}
    - {when: {optim.name: muon}, min: 1e-2, max: 1e-1, log: true}
"""
    space = make_space(tmp_path, text)

    assert space.fixed == {"gpt.layers": 3}
    domains = {hp.parameter: hp.domain for hp in space.hyperparameters}
    assert domains["optim.lr [optim.name=adamw]"] == Choice((3e-3,))


def test_a_constant_stands_once(tmp_path: Path) -> None:
    text = "search: {gpt.layers: {value: 3}, train.epochs: [1, 2]}\nfixed: {gpt.layers: 4}"

    assert problems(tmp_path, text) == ["line 1: gpt.layers: is given twice; keep one"]


def test_draws_stay_inside_and_reach_both_ends(tmp_path: Path) -> None:
    text = """
search:
  gpt.width: {min: 32, max: 128, step: 32}
  train.epochs: {min: 1, max: 8, log: true}
  optim.lr: {min: 1e-4, max: 1e-2, log: true}
  gpt.dropout: {min: 0, max: 0.4, step: 0.1}
  gpt.scale: {min: 1, max: 2}
"""
    space = make_space(tmp_path, text)

    found = draws(space.hyperparameters, 400)

    for hp in space.hyperparameters:
        assert all(hp.domain.has(point[hp.setting]) for point in found)
    assert {point["gpt.width"] for point in found} == {32, 64, 96, 128}
    assert {point["train.epochs"] for point in found} == set(range(1, 9))
    assert sum(point["optim.lr"] < 1e-3 for point in found) == pytest.approx(200, abs=40)
    assert found == draws(space.hyperparameters, 400)
    assert found != draws(space.hyperparameters, 400, seed=1)


def test_corners_of_stepped_ranges_have_the_first_step_too(tmp_path: Path) -> None:
    """Else a width of which only the ends are multiples would pass the check."""
    text = "search: {gpt.width: {min: 32, max: 96, step: 1}}"
    found = problems(tmp_path, text)
    assert any("33" in problem for problem in found)

    space = make_space(tmp_path, "search: {gpt.width: {min: 32, max: 96, step: 32}}")
    assert [corner["gpt.width"] for corner in corners(space.hyperparameters)] == [32, 64, 96]


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (Range(0, 1, step=0.25), [0, 0.25, 1.0], [0.3, 1.25, -0.25, True, "0.5"]),
        (Range(1, 9, whole=True), [1, 9], [0, 10]),
        (Choice((1, "a")), [1, "a"], [2, True]),
    ],
)
def test_a_domain_knows_its_values(
    domain: Range | Choice, inside: list[object], outside: list[object]
) -> None:
    assert all(map(domain.has, inside))
    assert not any(map(domain.has, outside))


def test_a_point_that_breaks_a_constraint_whatever_is_drawn_is_told(tmp_path: Path) -> None:
    text = "search: {gpt.scale: [1, 64], train.epochs: [1, 2]}\nconstraints: [gpt.parameters <= 1M]"

    assert make_space(tmp_path, f"{text}\npoints: [{{train.epochs: 2}}]")
    (found,) = problems(tmp_path, f"{text}\npoints: [{{gpt.scale: 64}}]")

    assert "points: {'gpt.scale': 64.0} breaks gpt.parameters <= 1e+06 whatever else" in found
