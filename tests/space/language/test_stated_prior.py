"""`prior:` in a space: what it means, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from sweeps import make_space, problems

from sweep.cli.space import check, plan
from sweep.space.hyperparameter import Prior

RATE = "search: {optim.lr: {min: 1e-3, max: 1e-1, log: true, prior: {at: 0.02, within: 4x}}}"


@pytest.mark.parametrize(
    ("text", "prior"),
    [
        (RATE, Prior(0.02, 4.0, factor=True)),
        (
            "search: {optim.lr: {distribution: log_uniform_values, min: 1e-3, max: 1e-1, "
            "prior: {at: 2e-2, within: 1.5x}}}",
            Prior(0.02, 1.5, factor=True),
        ),
        (
            "search: {gpt.dropout: {min: 0, max: 0.5, prior: {at: 0.1, within: 5e-2}}}",
            Prior(0.1, 0.05),
        ),
        (
            "search: {train.epochs: {values: [1, 4, 16], prior: {at: 8, within: 2x}}}",
            Prior(8, 2.0, factor=True),
        ),
        ("search: {train.epochs: {values: [1, 4, 16], prior: {at: 8, within: 3}}}", Prior(8, 3.0)),
        ("search: {optim.name: {values: [adamw, muon], prior: {at: muon}}}", Prior("muon")),
        ("search: {gpt.tied_head: {values: [true, false], prior: {at: true}}}", Prior(True)),
    ],
)
def test_a_prior_is_read(text: str, prior: Prior, tmp_path: Path) -> None:
    (hp,) = make_space(tmp_path, text).hyperparameters

    assert hp.prior == prior


def test_alternatives_have_priors_of_their_own(tmp_path: Path) -> None:
    text = """
search:
  optim.name: [adamw, muon]
  optim.lr:
    - {when: {optim.name: adamw}, min: 1e-3, max: 1e-2, log: true}
    - {when: {optim.name: muon}, min: 1e-2, max: 1e-1, log: true, prior: {at: 0.02, within: 2x}}
"""
    space = make_space(tmp_path, text)

    assert space.priors == {"optim.lr [optim.name=muon]": "0.02 within 2x"}
    assert make_space(tmp_path, text, "optim.lr=0.02").priors == {}


def test_every_problem_of_priors_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = """
search:
  optim.lr: {min: 1e-3, max: 1e-1, log: true, prior: {at: 0.2, within: 1x}}
  gpt.dropout: {min: 0, max: 0.2, prior: {at: 0.1, within: 2x}}
  gpt.scale: {min: 0.5, max: 2, log: true, prior: {at: 1, wihtin: 0.5}}
  train.epochs: {values: [1, 2, 4], prior: 3}
  optim.name: {values: [adamw, muon], prior: {at: lion, within: 2x}}
  optim.momentum: {min: 0.9, max: 0.99, prior: {at: high, within: 0}}
  gpt.layers: {value: 2, prior: {at: 2, within: 2x}}
"""

    assert problems(tmp_path, text) == [
        "line 3: optim.lr: prior: at 0.2 is outside what is searched; name a value within it",
        "line 3: optim.lr: prior: within must be a factor above 1x (such as 4x), got '1x'",
        "line 4: gpt.dropout: prior: within must be a distance above 0, got '2x'",
        "line 5: gpt.scale: prior: unknown key wihtin; did you mean within?; at and within are "
        "known",
        "line 5: gpt.scale: prior: within must be a factor above 1x (such as 4x), got nothing",
        "line 6: train.epochs: prior: expected {at: VALUE, within: 4x}, got 3",
        "line 7: optim.name: prior: at lion is outside what is searched; name a value within it",
        "line 7: optim.name: prior: its values have no order; leave out within",
        "line 8: optim.momentum: expected a number, got 'high'",
        "line 8: optim.momentum: prior: within must be a factor above 1x (such as 4x) or a "
        "distance above 0, got 0",
        "line 9: gpt.layers: prior: one value has none; give values, or min and max",
    ]


def test_a_prior_goes_with_the_surface_alone(tmp_path: Path) -> None:
    assert problems(tmp_path, RATE + "\nsampler: {name: tpe}") == [
        "line 1: optim.lr: prior: sampler.name tpe has no use for it; write surface there, or "
        "leave out prior"
    ]
    assert problems(tmp_path, RATE, "sampler.name=random")


def test_check_and_plan_say_where_the_best_is_expected(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(RATE, encoding="utf-8")

    for command in (check, plan):
        result = CliRunner().invoke(command, [str(path)])
        assert "expected at: optim.lr 0.02 within 4x" in result.output
