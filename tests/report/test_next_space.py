"""The next run: accepted by `sweep check`, and a continuation of the same folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_folders import Ended, confirm, write_run

from sweep.cli.main import cli
from sweep.journal import read_view
from sweep.report import reading_of
from sweep.report.facts import facts_of
from sweep.report.next_space import NextSpace, next_space
from sweep.space.compatibility import problems
from sweep.space.language import read_space, saved_space

SPACE = """
name: near
search:
  optim.lr: {min: 0.001, max: 0.01, log: true}
  train.epochs: [1, 2, 4]
points: [{train.epochs: 2}]
budget: {trials: 6, hours: 1.5, target_loss: 2.5}
"""
INSIDE = [Ended({"optim.lr": 0.003 + n / 1e4, "train.epochs": 2}, 3.0 + n / 10) for n in range(6)]


def at_an_edge() -> list[Ended]:
    rates = (0.001, 0.002, 0.003, 0.004, 0.005, 0.00983456)
    return [Ended({"optim.lr": lr, "train.epochs": 4}, 3.0 - 20 * lr) for lr in rates]


def proposed(folder: Path) -> NextSpace | None:
    return next_space(facts_of(folder, read_view(folder / "journal.jsonl")))


def test_the_next_space_is_sound_and_continues_the_folder(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "near", SPACE, at_an_edge())

    its = proposed(folder)

    assert its is not None
    file = tmp_path / "near-next.yaml"
    file.write_text(its.text)
    done = CliRunner().invoke(cli, ["check", str(file)])
    assert done.exit_code == 0, done.output
    after, before = read_space(file), saved_space(folder)
    assert before is not None
    view = read_view(folder / "journal.jsonl")
    assert problems(before.resolved(), after.resolved(), after, view) == []
    assert its.problems == ()
    assert its.command == f"sweep run near-next.yaml --runs {tmp_path}"


def test_the_next_space_is_wider_at_the_edges_and_begins_beyond_them(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "near", SPACE, at_an_edge())

    its = proposed(folder)

    assert its is not None
    assert "train.epochs: [1, 2, 4, 8]" in its.text
    assert "optim.lr: {min: 0.001, max: 0.032, log: true}" in its.text
    assert its.text.index("{train.epochs: 2}") < its.text.index(
        "{optim.lr: 0.032, train.epochs: 8}"
    )
    assert "{optim.lr: 0.00983, train.epochs: 8}" in its.text


def test_more_trials_get_more_of_every_budget_and_no_target_that_was_reached(
    tmp_path: Path,
) -> None:
    its = proposed(write_run(tmp_path / "near", SPACE, at_an_edge()))

    assert its is not None
    assert "budget: {trials: 14, hours: 3.5}" in its.text


def test_without_an_edge_an_unsettled_search_goes_on_as_it_is(tmp_path: Path) -> None:
    its = proposed(write_run(tmp_path / "near", SPACE, INSIDE))

    assert its is not None
    assert its.why == "The same space with more trials: the search had not settled."
    assert "train.epochs: [1, 2, 4]" in its.text


def test_a_grid_that_is_through_gets_no_more_trials_of_the_same(tmp_path: Path) -> None:
    text = "name: near\nsearch: {train.epochs: [1, 2, 4, 8]}\n"
    made = [Ended({"train.epochs": n}, 3.0 - 0.1 * (n == 2)) for n in (1, 2, 4, 8)]
    folder = write_run(tmp_path / "near", text, made, ending="nothing left to try")

    reading = reading_of(folder, read_view(folder / "journal.jsonl"))

    assert reading.next is None
    assert reading.answer[-1].text == f"Confirm it with fresh seeds: sweep confirm {folder}"


@pytest.mark.parametrize(
    ("seeds_of_second", "advice"),
    [
        ((2.93, 2.92, 2.95, 2.92), "Train the cheapest .* sweep confirm .* --until-separated"),
        ((3.91, 3.93, 3.92, 3.93), "Nothing more .* its best is confirmed: train that.$"),
    ],
    ids=["tied", "told apart"],
)
def test_after_a_confirmation_the_report_says_train_it_only_of_a_best_that_is_told_apart(
    tmp_path: Path, seeds_of_second: tuple[float, ...], advice: str
) -> None:
    text = "name: near\nsearch: {train.epochs: [1, 2, 4, 8]}\n"
    made = [Ended({"train.epochs": n}, 3.0 - 0.1 * (n == 2)) for n in (1, 2, 4, 8)]
    folder = write_run(tmp_path / "near", text, made, ending="nothing left to try")
    confirm(folder, {"0001": (2.90, 2.94, 2.91, 2.93), "0002": seeds_of_second})

    reading = reading_of(folder, read_view(folder / "journal.jsonl"))

    assert reading.next is None
    assert re.search(advice, reading.answer[-1].text, re.DOTALL)


def test_where_a_trial_lies_outside_the_space_the_next_run_begins_anew_with_the_best(
    tmp_path: Path,
) -> None:
    folder = write_run(tmp_path / "near", SPACE, at_an_edge())
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"optim.lr": 0.004', '"optim.lr": 0.4'))

    its = proposed(folder)

    assert its is not None
    assert its.problems
    assert "--name near-2" in its.command
    assert "{optim.lr: 0.00983, train.epochs: 4}" in its.text
