from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import read_view
from sweep.results.laws import EPOCHS, MEMBERS, PARAMETERS, TOKENS, Constant
from sweep.results.laws_of_runs import laws_of
from sweep.results.laws_plot import draw_laws
from sweep.results.laws_report import laws_data, laws_text, worth_text
from sweep.view import View

Settings = Mapping[str, float]
SIZES = [{"gpt.scale": scale} for scale in (0.5, 1, 2, 4)]
DECAYS = (1, 16)


def folder_of(
    folder: Path,
    settings: Iterable[Settings],
    loss: Callable[[Settings], float],
    data: str = "0",
    val: str = "",
    baseline: Iterable[tuple[int, float]] = (),
) -> Path:
    """A run folder whose trials had these settings and losses."""
    folder.mkdir()
    header = {"event": "sweep", "id": "1", "name": folder.name, "trials": 99, "data": data}
    events: list[dict[str, object]] = [
        {**header, "time": 0, "train_tokens": 32_768, "noise": 0.001, "text": {"val_digest": val}},
        {"event": "baseline", "time": 1, "points": list(baseline)},
    ]
    for number, own in enumerate(settings):
        trial = {"trial": f"{number:04d}", "time": 2}
        seen = {"val_loss": loss(own), "val_loss_error": 0.01, "basis_points": 10_000}
        events += [
            {"event": "trial", **trial, "role": "search", "searched": own, "settings": own},
            {"event": "observation", **trial, **seen, "step": 1, "epoch": 1.0, "seconds": 1.0},
            {
                "event": "outcome",
                **trial,
                "outcome": "complete",
                "ending": "finished",
                "reason": "",
            },
        ]
    lines = [json.dumps(event) for event in events if event.get("points") != []]
    (folder / JOURNAL).write_text("\n".join(lines) + "\n")
    return folder


def view_of(folder: Path) -> View:
    return read_view(folder / JOURNAL)


def by_size(settings: Settings) -> float:
    """With decay the loss falls with every doubling of parameters, without it rises."""
    scale = settings["gpt.scale"]
    if settings.get("optim.weight_decay_multiplier", 16) == 1:
        return 3 + 0.1 * math.log2(scale)
    return 2.5 + 0.2 / scale


@pytest.fixture
def sizes(tmp_path: Path) -> Path:
    settings = [{**s, "optim.weight_decay_multiplier": d} for s in SIZES for d in DECAYS]
    return folder_of(tmp_path / "sizes", settings, by_size)


def test_parameters_have_a_law_at_the_best_recipe_of_each_and_not_at_a_bad_one(
    sizes: Path,
) -> None:
    view = view_of(sizes)

    (law,) = laws_of({"a": view}).laws

    assert law.quantity == PARAMETERS
    assert [point.among for point in law.points] == [2, 2, 2, 2]
    assert [point.loss for point in law.points] == pytest.approx([2.9, 2.7, 2.6, 2.55])
    assert [point.x for point in law.points] == sorted({point.x for point in law.points})
    with pytest.raises(SweepError, match=r"does not fall: 2\.9000 at 69\.08K, 3\.0000 at 131\.2K"):
        laws_of({"a": view}, {"optim.weight_decay_multiplier": 1})


def test_runs_over_other_unique_tokens_concatenate(tmp_path: Path) -> None:
    """Of 1 to 4 epochs on 16K to 131K tokens: none of the four has a law alone."""

    def loss(settings: Settings) -> float:
        tokens, epochs = settings["data.train_tokens"], settings["train.epochs"]
        fresh = tokens * (1 - 5 * math.expm1((1 - epochs) / 5))
        return 1.5 + 1.5 * (fresh / 16_384) ** -0.3

    folders = {
        f"{tokens}": folder_of(
            tmp_path / f"{tokens}",
            [{"data.train_tokens": tokens, "train.epochs": epochs} for epochs in (1, 2, 4)],
            loss,
        )
        for tokens in (16_384, 32_768, 65_536, 131_072)
    }
    views = {name: view_of(folder) for name, folder in folders.items()}

    with pytest.raises(SweepError, match="unique tokens: needs 4 different values, has 1: 16.38K"):
        laws_of({"16384": views["16384"]})
    laws = laws_of(views)
    tokens, epochs = laws.laws

    assert tokens.quantity == TOKENS
    assert [point.name for point in tokens.points] == [f"{name}/0002" for name in views]
    assert epochs.quantity == EPOCHS
    assert epochs.worth is not None
    assert epochs.worth.value == pytest.approx(5, rel=0.1)
    assert epochs.exponent.value == pytest.approx(0.3, abs=0.02)
    assert "all repeats together are worth" in laws_text(laws)


def test_runs_on_other_tokens_are_refused_with_both_digests(sizes: Path, tmp_path: Path) -> None:
    other = folder_of(tmp_path / "other", SIZES, by_size, data="fedc")

    with pytest.raises(SweepError, match="cannot be compared\n  a: 0\n  b: fedc"):
        laws_of({"a": view_of(sizes), "b": view_of(other)})


def test_runs_with_the_same_validation_tokens_concatenate_whatever_else_they_read(
    tmp_path: Path,
) -> None:
    """More of a text to train on makes another table, with the same tokens held out."""
    views = {
        name: view_of(folder_of(tmp_path / name, sizes, by_size, data=name, val=val))
        for name, sizes, val in (("a", SIZES[:2], "11"), ("b", SIZES[2:], "11"), ("c", [], "22"))
    }

    (law,) = laws_of({name: views[name] for name in "ab"}).laws

    assert len(law.points) == 4
    with pytest.raises(SweepError, match="different validation tokens .*\n  a: 11\n  c: 22"):
        laws_of(views)


def test_the_plain_baseline_has_a_law_of_its_own_that_two_runs_share(tmp_path: Path) -> None:
    curve = [(1000 * 2**i, 2 + 0.5**i) for i in range(5)]
    views = {
        name: view_of(folder_of(tmp_path / name, SIZES, by_size, baseline=curve)) for name in "ab"
    }

    laws = laws_of(views).laws

    assert [law.of for law in laws] == ["32,768 unique tokens", "plain baseline of a"]
    assert laws[1].exponent.value == pytest.approx(1, abs=0.01)


def test_runs_that_differ_in_seeds_alone_are_repeats(tmp_path: Path) -> None:
    """Two losses 0.02 apart deviate by 0.02 / sqrt(2), in each of four recipes."""
    views = {
        f"{seed}": view_of(
            folder_of(
                tmp_path / f"{seed}",
                [{**size, "train.seed": seed} for size in SIZES],
                lambda settings: by_size(settings) + 0.02 * settings["train.seed"],
            )
        )
        for seed in (0, 1)
    }

    (law,) = laws_of(views).laws

    assert [point.runs for point in law.points] == [2, 2, 2, 2]
    assert [point.loss for point in law.points] == pytest.approx([2.91, 2.71, 2.61, 2.56])
    assert law.sd == pytest.approx(0.02 / 2**0.5)
    assert "from 4 repeats" in law.by


def test_members_of_an_ensemble_have_a_law(sizes: Path) -> None:
    curve = [(k, 3.34 + 0.25 / k) for k in (1, 2, 3, 4, 8)]

    law = laws_of({"a": view_of(sizes)}, members={"of trial 0003": curve}).laws[-1]

    assert (law.quantity, law.of) == (MEMBERS, "of trial 0003")
    assert law.floor.value == pytest.approx(3.34, abs=0.002)


def test_members_are_what_sweep_ensemble_wrote(sizes: Path) -> None:
    losses = [3.34 + 0.25 / k for k in (1, 2, 3, 4, 5)]
    written = {"members": [], "curves": [{"of": "the members chosen", "losses": losses}]}
    (sizes / "ensemble.json").write_text(json.dumps(written))

    done = CliRunner().invoke(cli, ["laws", str(sizes)])

    assert "Loss by members of an ensemble, sizes, the members chosen" in done.output
    assert "mixed of the same members, and others would have another curve" in done.output


def test_a_damaged_ensemble_file_is_told(sizes: Path) -> None:
    (sizes / "ensemble.json").write_text('{"curves": [{}')

    done = CliRunner().invoke(cli, ["laws", str(sizes)])

    assert "Write it again: sweep ensemble" in str(done.exception)


def test_a_run_without_points_enough_says_what_it_lacks(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "few", SIZES[:2], by_size)

    done = CliRunner().invoke(cli, ["laws", str(folder)])

    assert isinstance(done.exception, SweepError)
    assert done.exception.code == 2
    told = str(done.exception)
    assert (
        "parameters, 32,768 unique tokens: needs 4 different values, has 2: 69.08K, 131.2K" in told
    )
    assert "epochs: needs 3 different values, and 5 with those at other unique tokens" in told


def test_a_run_without_finished_trials_has_no_laws(tmp_path: Path) -> None:
    empty = folder_of(tmp_path / "none", [], by_size)

    with pytest.raises(SweepError, match="parameters: needs 4 different values, has 0: none"):
        laws_of({"none": view_of(empty)})
    with pytest.raises(SweepError, match="no complete trial has train.epochs=8"):
        laws_of({"none": view_of(empty)}, {"train.epochs": 8})


def test_the_command_prints_and_draws(sizes: Path, tmp_path: Path) -> None:
    plot = tmp_path / "laws.svg"

    text = CliRunner().invoke(cli, ["laws", str(sizes), "--plot", str(plot)])
    data = json.loads(CliRunner().invoke(cli, ["laws", str(sizes), "--json"]).stdout)

    assert text.exit_code == 0, text.output
    for words in ("Loss by parameters", "exponent 1", "extrapolated", "endless", "No law of:"):
        assert words in text.output
    (law,) = data["laws"]
    assert law["floor"]["low"] <= law["floor"]["value"] <= law["floor"]["high"]
    assert [place["x"] for place in law["extrapolated"]][-1] is None
    assert all(abs(point["off"]) < 0.01 for point in law["points"])
    for words in ("beyond the data", "parameters", "off the law", "best recipes"):
        assert words in plot.read_text()


def test_points_that_follow_no_such_law_are_told(tmp_path: Path) -> None:
    """The loss falls by more with each doubling: what a law says beyond it is not to be trusted."""
    losses = {0.5: 3.2, 1: 3.1, 2: 2.9, 4: 2.5}
    folder = folder_of(tmp_path / "a", SIZES, lambda settings: losses[settings["gpt.scale"]])
    good = folder_of(tmp_path / "b", SIZES, by_size)

    assert "do not follow this law, or are noisy" in laws_text(laws_of({"a": view_of(folder)}))
    assert "do not follow" not in laws_text(laws_of({"b": view_of(good)}))


def test_the_same_laws_draw_the_same_file(sizes: Path, tmp_path: Path) -> None:
    laws = laws_of({"a": view_of(sizes)})

    draw_laws(laws, tmp_path / "a.svg")
    draw_laws(laws, tmp_path / "b.svg")

    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert json.dumps(laws_data(laws), allow_nan=False)


@pytest.mark.parametrize("words", [["--where", "optim.wd=1"], ["--where", "train.epochs"]])
def test_a_setting_that_is_none_is_told(sizes: Path, words: list[str]) -> None:
    done = CliRunner().invoke(cli, ["laws", str(sizes), *words])

    assert isinstance(done.exception, SweepError)
    assert words[1] in str(done.exception)


def test_a_plot_that_cannot_be_written_is_told(sizes: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["laws", str(sizes), "--plot", str(tmp_path / "no" / "x.svg")])

    assert isinstance(done.exception, SweepError)
    assert "cannot write" in str(done.exception)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (10, 20, "all repeats together are worth 15 times the text"),
        (10, 1000, "no end of what repeats are worth is in sight"),
        (0.1, 20, "repeats may be worth next to nothing"),
        (0.1, 1000, "these points do not say what repeats are worth"),
    ],
)
def test_what_repeats_are_worth_is_told_as_far_as_the_points_know(
    low: float, high: float, words: str
) -> None:
    assert words in worth_text(Constant(15, low, high))[1]
