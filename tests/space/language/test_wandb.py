"""Sweep files written for W&B, pasted over."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from sweeps import WANDB_FILE, make_space, problems

from sweep.space.hyperparameter import Choice, Range
from sweep.space.language import wandb as wandb_keys


def test_a_file_of_wandb_is_read_as_it_is(tmp_path: Path) -> None:
    space = make_space(tmp_path, WANDB_FILE)

    domains = {hp.setting: hp.domain for hp in space.hyperparameters}
    assert domains == {
        "optim.name": Choice(("adamw", "muon")),
        "optim.lr": Range(1e-4, 1e-2, log=True),
        "gpt.dropout": Range(0.0, 0.4, step=0.1),
        "train.epochs": Range(1, 8, whole=True),
        "train.batch_tokens": Choice((512, 1024)),
    }
    assert space.fixed == {"gpt.layers": 4, "data.train_tokens": 64_000}
    assert (space.sampler.name, space.budget.trials) == ("random", 40)
    assert [note.partition(":")[0] for note in space.notes] == ["program", "project"]


def domain(folder: Path, name: str, leaf: str) -> Choice | Range:
    return make_space(folder, f"parameters: {{{name}: {leaf}}}").hyperparameters[0].domain


@pytest.mark.parametrize(
    ("name", "leaf", "expected"),
    [
        ("gpt.scale", "{distribution: uniform, min: 1, max: 4}", Range(1, 4)),
        ("gpt.scale", "{distribution: int_uniform, min: 1, max: 4}", Range(1, 4, step=1)),
        ("gpt.layers", "{distribution: int_uniform, min: 1, max: 4}", Range(1, 4, whole=True)),
        (
            "gpt.layers",
            "{distribution: q_uniform, min: 2, max: 8, q: 2}",
            Range(2, 8, False, True, 2),
        ),
        (
            "train.epochs",
            "{distribution: q_log_uniform_values, min: 1, max: 32}",
            Range(1, 32, log=True, whole=True),
        ),
        (
            "train.epochs",
            "{distribution: log_uniform, min: 0, max: 3}",
            Range(1, 20, log=True, whole=True),
        ),
        ("gpt.width", "{min: 32, max: 128, step: 32}", Range(32, 128, False, True, 32)),
    ],
)
def test_distributions_are_ranges(name: str, leaf: str, expected: Range, tmp_path: Path) -> None:
    assert domain(tmp_path, name, leaf) == expected


def test_log_uniform_takes_exponents(tmp_path: Path) -> None:
    found = domain(tmp_path, "optim.lr", "{distribution: log_uniform, min: -9.2, max: -4.6}")

    assert found == Range(math.exp(-9.2), math.exp(-4.6), log=True)


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (
            "{distribution: normal, mu: 0.01, sigma: 0.001}",
            "normal is not searched: proposals",
        ),
        ("{distribution: q_log_uniform, min: 1, max: 2}", "use q_log_uniform_values"),
        ("{distribution: beta, min: 1, max: 2}", "give the part of [0, 1]"),
        ("{distribution: unifrom, min: 1, max: 2}", "did you mean uniform?"),
        ("{distribution: [1], min: 1, max: 2}", "no such distribution"),
        ("{distribution: uniform, values: [1, 2]}", "uniform needs min and max"),
        ("{distribution: uniform, min: 1, max: 2, log: true}", "leave out log and step"),
        ("{distribution: uniform, min: 1, max: 2, q: 1}", "q goes with q_uniform"),
        ("{min: 1, max: 2, q: 1}", "write step"),
        ("{distribution: q_log_uniform_values, min: 1, max: 2, q: 1}", "no even width"),
        ("{distribution: log_uniform, min: a, max: 2}", "takes logarithms"),
        ("{distribution: log_uniform, min: 1, max: 9999}", "takes logarithms"),
        ("{values: [1, 2], probabilities: [0.1, 0.9]}", "probabilities are not kept"),
        ("{values: [1, 2], mu: 3}", "unknown key mu"),
        ("{min: 1, max: 2, step: 0.3}", "do not lead from 1 to 2"),
        ("{min: 1, max: 2, step: -1}", "above 0"),
        ("{min: 1, max: 2, step: 0.5, log: true}", "a log range has no step"),
        ("{parameters: {x: {value: 1}}, values: [1]}", "values cannot stand beside parameters"),
        ("{parameters: 3}", "expected `key: value` lines"),
        ("{}", "optim.lr: expected either values, or both min and max"),
    ],
)
def test_what_is_not_supported_is_refused_with_what_to_write(
    leaf: str, expected: str, tmp_path: Path
) -> None:
    found = problems(tmp_path, f"parameters: {{optim.lr: {leaf}}}")

    assert any(expected in problem for problem in found)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "method: bayess",
            "expected bayes, random, grid, got 'bayess'; did you mean",
        ),
        ("metric: {name: accuracy, goal: maximize}", "trials are compared by val_loss"),
        ("metric: {name: val_loss, goal: maximize}", "the lower the better"),
        ("metric: val_loss", "expected {name: val_loss"),
        ("metric: {name: val_loss, targte: 3}", "unknown key targte"),
        ("metric: {name: val_loss, target: low}", "line 2: budget.target_loss: expected a number"),
        ("early_terminate: 3", "has best, median, "),
        ("early_terminate: {type: medianstop}", "expected {type: hyperband}"),
        ("run_cap: many", "line 2: budget.trials: expected a whole number"),
        ("run_cap: 3\nbudget: {trials: 4}", "budget.trials: is said by a key of W&B too"),
        ("metod: grid", "did you mean method?"),
        ("search: {optim.lr: [3]}", "is given in search and in parameters"),
    ],
)
def test_keys_that_mean_something_else_are_refused_with_the_reason(
    line: str, expected: str, tmp_path: Path
) -> None:
    found = problems(tmp_path, f"parameters: {{optim.lr: [1, 2]}}\n{line}")

    assert any(expected in problem for problem in found)


def test_the_target_of_the_metric_ends_the_sweep(tmp_path: Path) -> None:
    text = "parameters: {optim.lr: [1, 2]}\nrun_cap: 3\nmetric: {name: val_loss, target: 3.5}"

    space = make_space(tmp_path, text)

    assert (space.budget.trials, space.budget.target_loss) == (3, 3.5)


def test_a_method_that_no_sampler_knows_says_which_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(wandb_keys.METHODS, "grid", "lattice")

    found = problems(tmp_path, "parameters: {optim.lr: [1, 2]}\nmethod: grid")

    assert any("no sampler for grid; write sampler: {name: ...} with surface" in p for p in found)


def test_hyperband_stops_trials_where_there_is_such_a_rule(tmp_path: Path) -> None:
    from sweep.space.settings import SWEEP_SETTINGS

    text = "parameters: {optim.lr: [1, 2]}\nearly_terminate: {type: hyperband, min_iter: 3}"

    if "hyperband" in SWEEP_SETTINGS["prune.rule"].choices:
        space = make_space(tmp_path, text)
        assert space.prune.rule == "hyperband"
        assert "min_iter not used" in space.notes[0]
    else:
        assert any("there is no hyperband" in problem for problem in problems(tmp_path, text))
