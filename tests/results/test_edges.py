"""At which edges of its space a search ended, and how far to search next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from run_folders import Ended, write_run
from sweeps import make_space

from model.config import Value
from sweep.cli.main import cli
from sweep.folder import JOURNAL, RESOLVED
from sweep.journal import read_view
from sweep.records import FinalistRun, TrialEnding
from sweep.results import report
from sweep.results.edges import Edge, edge_sentences, edges_of, edges_text
from sweep.space import Space
from sweep.view import TrialView, View

EPOCHS = "search: {train.epochs: [1, 2, 4, 8]}\n"
Tried = Sequence[tuple[Mapping[str, Value], float]]


def view_of(trials: Tried, error: float = 0.0) -> View:
    """Finished trials with these searched settings and losses."""
    view = View()
    view.apply({"event": "sweep", "time": 0, "train_tokens": 1, "trials": 99, "name": "edges"})
    for number, (searched, loss) in enumerate(trials):
        trial = {"trial": f"{number:04d}", "time": number + 1}
        of = {"searched": searched, "settings": searched}
        view.apply({"event": "trial", "role": "search", **trial, **of})
        last = {"basis_points": 10_000, "val_loss": loss, "val_loss_error": error, "seconds": 1.0}
        view.apply({"event": "observation", **trial, **last})
        view.apply({"event": "outcome", **trial, "outcome": "complete", "reason": ""})
    return view


def edges(folder: Path, text: str, trials: Tried) -> list[Edge]:
    return edges_of(view_of(trials), make_space(folder, text))


def along(name: str, *values: Value) -> Tried:
    """A trial at each value, each better than the one before."""
    return [({name: value}, 4.0 - place / 10) for place, value in enumerate(values)]


def test_the_last_number_of_a_list_is_an_edge_and_the_list_goes_on_as_it_ends(
    tmp_path: Path,
) -> None:
    (edge,) = edges(tmp_path, EPOCHS, along("train.epochs", 1, 2, 4, 8))

    assert (edge.end, edge.high, edge.wider, edge.firm) == (8, True, 16, True)
    assert edge_sentences([edge]) == (
        "The winner sits at the edge of the space: widen train.epochs above 8 (to 16)."
    )


def test_a_best_inside_is_at_no_edge(tmp_path: Path) -> None:
    assert edges(tmp_path, EPOCHS, along("train.epochs", 1, 2, 8, 4)) == []


@pytest.mark.parametrize(
    ("domain", "value", "wider"),
    [
        ("{min: 0.001, max: 0.064, log: true}", 0.06, 0.51),  # half as many octaves more
        ("{min: 0.001, max: 0.064, log: true}", 0.0011, 0.00013),
        ("{min: 0.01, max: 0.03}", 0.0299, 0.04),
        ("{min: 0.01, max: 0.03}", 0.0101, 0.005),  # and never 0, which no rate is
    ],
)
def test_the_end_of_a_range_is_a_share_of_it_on_its_own_scale(
    tmp_path: Path, domain: str, value: float, wider: float
) -> None:
    text = f"search: {{optim.lr: {domain}}}\n"

    (edge,) = edges(tmp_path, text, along("optim.lr", 0.02, 0.021, 0.022, value))

    assert edge.wider == pytest.approx(wider, rel=0.02)


@pytest.mark.parametrize(("low", "high", "wider"), [(1.0, 1.03, 1.045), (1.0, 1.1, 1.15)])
def test_a_narrow_range_grows_beyond_its_end_whatever_its_digits(
    tmp_path: Path, low: float, high: float, wider: float
) -> None:
    text = f"search: {{optim.lr: {{min: {low}, max: {high}}}}}\n"

    (edge,) = edges(tmp_path, text, along("optim.lr", 1.01, 1.011, 1.012, high))

    assert edge.wider == pytest.approx(wider, abs=0.005)


def test_a_number_well_within_a_range_is_at_no_edge(tmp_path: Path) -> None:
    text = "search: {optim.lr: {min: 0.001, max: 0.064, log: true}}\n"

    assert edges(tmp_path, text, along("optim.lr", 0.001, 0.002, 0.064, 0.05)) == []


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("search: {gpt.dropout: [0, 0.1, 0.2]}", "gpt.dropout", (0.2, 0.1, 0.15, 0.0)),
        ("search: {optim.name: [adamw, muon]}", "optim.name", ("adamw", "soap", "lion", "muon")),
        ("search: {data.train_tokens: [16k, 32k]}", "data.train_tokens", (1, 2, 3, 32000)),
    ],
    ids=["a limit of the setting", "no order", "more text"],
)
def test_where_nothing_lies_beyond_or_has_an_order_there_is_no_edge(
    tmp_path: Path, text: str, name: str, values: Sequence[Value]
) -> None:
    assert edges(tmp_path, text, along(name, *values)) == []


def test_a_tied_recipe_inside_speaks_against_widening(tmp_path: Path) -> None:
    trials = [*along("train.epochs", 1, 2, 3), ({"train.epochs": 4}, 3.0001), *along("x")]
    trials.append(({"train.epochs": 8}, 3.0))

    (edge,) = edges(tmp_path, EPOCHS, trials)

    assert edge.inside == ("0003",)
    assert edge_sentences([edge]) == (
        "train.epochs 8 is near the largest searched too, but 0003, tied with it, has other "
        "values: that the best lies beyond is not shown."
    )


def test_a_constraint_that_allows_nothing_beyond_is_named(tmp_path: Path) -> None:
    text = "search: {train.epochs: [1, 2, 4, 8]}\nconstraints: [train.tokens <= 600k]\n"

    (edge,) = edges(tmp_path, text, along("train.epochs", 1, 2, 4, 8))

    assert edge.wider is None
    assert edge_sentences([edge]) == (
        "train.epochs 8 is the largest searched; the constraint train.tokens <= 600000 allows "
        "no next."
    )


def test_alternatives_of_a_setting_have_edges_of_their_own(tmp_path: Path) -> None:
    text = """
search:
  optim.name: [adamw, muon]
  optim.lr:
    - {when: {optim.name: adamw}, values: [0.001, 0.002]}
    - {when: {optim.name: muon}, values: [0.002, 0.02]}
"""
    trials = [
        ({"optim.name": "muon", "optim.lr": 0.02}, 3.9),
        ({"optim.name": "muon", "optim.lr": 0.02}, 3.8),
        ({"optim.name": "adamw", "optim.lr": 0.001, "train.seed": 1}, 3.7),
        ({"optim.name": "adamw", "optim.lr": 0.001, "train.epochs": 2}, 3.6),
        ({"optim.name": "adamw", "optim.lr": 0.002}, 3.0),
    ]

    (edge,) = edges(tmp_path, text, trials)

    assert (edge.end, edge.wider) == (0.002, 0.004)


def test_one_of_three_trials_is_at_an_end_by_chance(tmp_path: Path) -> None:
    assert edges(tmp_path, EPOCHS, along("train.epochs", 1, 2, 8)) == []


def test_after_a_confirmation_the_edges_are_those_of_the_confirmed_best(tmp_path: Path) -> None:
    view = view_of(along("train.epochs", 1, 2, 4, 8))
    space = make_space(tmp_path, EPOCHS)
    plan = {"seeds": 2, "allocation": "optimal", "until_separated": False}
    view.apply({"event": "confirm", "time": 1, "finalists": ["0003", "0002"], **plan})
    for name, loss in (("0003", 3.9), ("0002", 3.2)):
        for seed in (1, 2):
            run = FinalistRun(name, seed)
            last = {"val_loss": loss + seed / 1e4, "val_loss_error": 0.0, "seconds": 1.0}
            confirming = TrialView(run.name(0), run, view.trials[name].settings, 0, [last])
            confirming.ending = TrialEnding.FINISHED
            view.trials[confirming.name] = confirming

    assert edges_of(view_of(along("train.epochs", 1, 2, 4, 8)), space)[0].firm
    assert not any(edge.firm for edge in edges_of(view, space))


def test_status_best_and_the_end_of_a_run_say_what_to_widen(tmp_path: Path) -> None:
    """A winner at the last epochs and the largest network was told of without a word."""
    made = [Ended({"train.epochs": n}, 3.0 - n / 10) for n in (1, 2, 4, 8)]
    folder = write_run(tmp_path / "edges", EPOCHS, made)
    sentence = "The winner sits at the edge of the space: widen train.epochs above 8 (to 16)."

    status, best, both = (
        CliRunner().invoke(cli, [*words, str(folder)])
        for words in (["status"], ["best"], ["status", "--json"])
    )

    assert sentence in status.stdout
    assert sentence in best.stderr
    (edge,) = json.loads(both.stdout)["edges"]
    assert (edge["setting"], edge["widen_to"], edge["tied_inside"]) == ("train.epochs", 16, [])
    told = report.result(read_view(folder / JOURNAL), folder)
    assert sentence in told
    assert f"sweep report {folder}" in told


def test_a_folder_whose_space_cannot_be_read_has_no_edges(tmp_path: Path) -> None:
    view = view_of(along("train.epochs", 1, 2, 4, 8))
    space: Space = make_space(tmp_path, EPOCHS)

    assert edges_text(view, tmp_path) == ""
    (tmp_path / RESOLVED).write_text(yaml.safe_dump(space.resolved()))
    assert "widen train.epochs above 8 (to 16)" in edges_text(view, tmp_path)
