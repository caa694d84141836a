"""Typical mistakes that break no rule are noted, and others are told where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweeps import make_space, problems


def notes(folder: Path, text: str, *overrides: str) -> list[str]:
    return list(make_space(folder, text, *overrides).notes)


def test_two_values_that_were_meant_as_a_range_are_noted(tmp_path: Path) -> None:
    (note,) = notes(tmp_path, "search:\n  optim.lr: [1e-4, 1e-2]")

    assert note == (
        "line 2: optim.lr: takes these two values and none between; for a range write "
        "{min: 0.0001, max: 0.01, log: true}"
    )


@pytest.mark.parametrize(
    "listed", ["gpt.dropout: [0.0, 0.1]", "optim.lr: [0.01, 0.02]", "optim.lr: [1e-4, 1e-3, 1e-2]"]
)
def test_values_that_are_plainly_listed_are_not(listed: str, tmp_path: Path) -> None:
    assert notes(tmp_path, f"search: {{{listed}}}") == []


def test_a_grid_says_which_values_of_a_range_it_tries(tmp_path: Path) -> None:
    text = "sampler: {name: grid}\nsearch:\n  optim.lr: {min: 1e-3, max: 4e-3, log: true}"

    (note,) = notes(tmp_path, text)

    assert note.startswith("line 3: optim.lr: is a range, of which the grid tries 0.001, 0.002, ")
    assert notes(tmp_path, text, "sampler.name=random") == []


def test_hours_beside_the_default_number_of_trials_are_noted(tmp_path: Path) -> None:
    text = "search: {train.epochs: [1, 2]}\nbudget: {hours: 2h}"

    (note,) = notes(tmp_path, text)

    assert "is 16, its default, so the sweep ends then even if hours are left" in note
    assert notes(tmp_path, text, "budget.trials=99") == []
    assert notes(tmp_path, text.replace("2h", "2h, trials: 16")) == []


def test_mistakes_inside_a_misspelled_section_are_told_as_well(tmp_path: Path) -> None:
    text = "serach:\n  optim.lrr: [1]\n  train.epochs: [two]\nbudgte: {trails: 3}"

    assert problems(tmp_path, text) == [
        "line 1: serach: no such section; did you mean search?",
        "line 2: optim.lrr: no such setting; did you mean optim.lr?",
        "line 3: train.epochs: expected a whole number, got 'two'",
        "line 4: budgte: no such section; did you mean budget?",
        "line 4: budget.trails: no such setting; did you mean budget.trials?",
    ]


@pytest.mark.parametrize(
    ("fixed", "expected"),
    [
        ("gpt.width: 63", "line 3: gpt.width: must be a multiple of 4, got 63"),
        (
            "train.batch_tokens: 16",
            "line 3: train.batch_tokens: must be a multiple of gpt.context (64), got 16",
        ),
        # What is too few was never written; what asks for it was.
        ("train.batch_tokens: 128K", "line 3: data.train_tokens: 65536 are too few for one batch"),
    ],
)
def test_settings_that_do_not_go_together_are_told_with_their_line(
    fixed: str, expected: str, tmp_path: Path
) -> None:
    text = f"search: {{optim.lr: [0.01, 0.02]}}\nfixed:\n  {fixed}"

    assert any(problem.startswith(expected) for problem in problems(tmp_path, text))


def test_a_setting_of_the_command_line_has_no_line(tmp_path: Path) -> None:
    text = "search: {optim.lr: [0.01, 0.02]}\nfixed: {gpt.width: 64}"

    (problem,) = problems(tmp_path, text, "gpt.width=63")

    assert problem == "gpt.width: must be a multiple of 4, got 63"


@pytest.mark.parametrize("name", ["train.hours", "train.time", "minutes"])
def test_a_limit_on_time_is_one_on_seconds(name: str, tmp_path: Path) -> None:
    text = f"search: {{optim.lr: [0.01, 0.02]}}\nconstraints: [{name} <= 2]"

    (problem,) = problems(tmp_path, text)

    assert f"{name} cannot be limited; did you mean train.seconds, such as" in problem


@pytest.mark.parametrize("section", ["search", "fixed"])
def test_time_is_no_setting_but_a_limit(section: str, tmp_path: Path) -> None:
    text = f"search: {{optim.lr: [0.01, 0.02]}}\n{section}: {{train.hours: [1]}}"
    text = text.partition("\n")[2] if section == "search" else text

    assert any(
        "train.hours: no such setting; time is limited by `constraints: [train.seconds <= 2h]`"
        in problem
        for problem in problems(tmp_path, text)
    )


def test_the_command_line_gets_the_suggestions_of_a_file(tmp_path: Path) -> None:
    text = "search: {train.epochs: [1, 2]}"

    assert problems(tmp_path, text, "lr=1e-3", "budget.trails=3") == [
        "--set lr=1e-3: no such setting; did you mean optim.lr?",
        "--set budget.trails=3: no such setting; did you mean budget.trials?",
    ]


def test_bayes_of_wandb_is_the_default_sampler_and_says_so(tmp_path: Path) -> None:
    from sweep.space.settings import SamplerConfig

    space = make_space(tmp_path, "method: bayes\nparameters: {train.epochs: {values: [1, 2]}}")

    assert space.sampler == SamplerConfig()
    assert space.notes[0].startswith(f"method: bayes is sampler.name {space.sampler.name} here")
