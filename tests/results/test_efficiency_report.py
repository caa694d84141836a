from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import fake_train
from sweeps import make_space

from model.config.config import Config
from model.progress import Progress
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.records import End, Ending, FinalistRun, TrialEnding
from sweep.results import report
from sweep.results.bootstrap import Noise
from sweep.results.efficiency_report import (
    devices_of,
    efficiency_data,
    efficiency_text,
    figures_of,
    noise_of,
)
from sweep.results.power_law import misfit
from sweep.run import local
from sweep.run.interrupt import Interrupt
from sweep.session.session import Session
from sweep.space.space import Space
from sweep.view import TrialView, View

Open = Callable[..., Session]
BUDGETS = """
name: fake
search:
  data.train_tokens: [32768, 65536]
  optim.weight_decay_multiplier: [4, 8]
  train.seed: [0, 1]
budget: {trials: 16}
sampler: {name: random}
prune: {rule: none}
baseline: {multiples: [1, 2, 4, 8]}
"""


def finished(session: Session, folder: Path, train: local.Train = fake_train) -> View:
    with Interrupt() as interrupt:
        local.run(session, train, folder, interrupt)
    session.close(End(Ending.TRIALS_SPENT))
    return session.journal.view


@pytest.fixture
def view(space: Space, open_session: Open, tmp_path: Path) -> View:
    wide = replace(space, baseline=replace(space.baseline, multiples=(1, 2, 4, 8)))
    return finished(open_session(wide), tmp_path / "trials")


def test_every_complete_trial_has_both_multipliers_with_intervals(view: View) -> None:
    view.header["noise"] = 0.01

    data = efficiency_data(figures_of(view))

    assert [t["name"] for t in data["trials"]] == [t.name for t in view.ranked()]
    for trial in data["trials"]:
        for method in ("lines", "law"):
            worth = trial[method]
            assert worth["low"]["value"] <= worth["point"]["value"] <= worth["high"]["value"]
        assert trial["lines"]["low"]["value"] <= trial["law"]["low"]["value"]
        assert trial["lines"]["high"]["value"] >= trial["law"]["high"]["value"]
    assert data["baseline"]["law"]["exponent"] > 0
    assert json.dumps(data, allow_nan=False)


def test_the_multiplier_rises_over_a_trials_epochs_and_the_sweeps_hours(view: View) -> None:
    figures = figures_of(view)

    best = [m.value for _, m in figures.epochs[figures.trials[0].name]]
    assert best == sorted(best)
    hours, worth = zip(*figures.spent, strict=True)
    assert list(hours) == sorted(hours)
    assert worth[-1].lines.point.value == figures.trials[0].lines.point.value
    assert figures.total_hours == pytest.approx(sum(figures.hours.values()))
    assert hours[-1] <= figures.total_hours


def test_hours_count_every_device_of_a_trial(view: View) -> None:
    hours, total = [h for h, _ in figures_of(view).spent], figures_of(view).total_hours

    view.header["gpus"] = 2

    assert [h for h, _ in figures_of(view).spent] == pytest.approx([2 * h for h in hours])
    assert figures_of(view).total_hours == pytest.approx(2 * total)


def test_the_best_recipe_at_each_budget_is_the_mean_of_its_seeds(
    tmp_path: Path, open_session: Open
) -> None:
    """The fake's loss falls by 0.2 for each doubling of data, by 0.1 towards decay 4."""
    view = finished(open_session(make_space(tmp_path, BUDGETS)), tmp_path / "trials")

    figures = figures_of(view)

    assert [worth.tokens for worth in figures.recipes] == [32_768, 65_536]
    assert [worth.val_loss for worth in figures.recipes] == pytest.approx([3.2, 3.0])
    assert all(worth.runs > 1 for worth in figures.recipes)
    assert "The best recipe at each budget" in efficiency_text(figures)


def test_the_same_run_again_is_no_repeat(tmp_path: Path, open_session: Open) -> None:
    """A random search of two points proposes each of them again and again, with the same seed."""
    text = """
search: {optim.weight_decay_multiplier: [4, 8]}
budget: {trials: 8}
sampler: {name: random}
prune: {rule: none}
baseline: {multiples: [1, 2]}
"""
    view = finished(open_session(make_space(tmp_path, text)), tmp_path / "trials")

    (best,) = figures_of(view).recipes
    assert len(view.ranked()) == 8
    assert (best.runs, noise_of(view).freedom) == (1, 0)


def test_repeats_of_a_recipe_measure_the_noise_between_seeds(
    tmp_path: Path, open_session: Open
) -> None:
    """Two losses 0.02 apart deviate by 0.02 / sqrt(2); two recipes give two degrees of freedom."""
    text = """
search: {optim.weight_decay_multiplier: [4, 8]}
budget: {trials: 4}
repeat: 2
sampler: {name: grid}
prune: {rule: none}
baseline: {multiples: [1, 2]}
"""

    def by_seed(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in fake_train(config, folder):
            yield replace(progress, val_loss=progress.val_loss + 0.02 * config.train.seed)

    view = finished(open_session(make_space(tmp_path, text)), tmp_path / "trials", by_seed)

    noise, (best,) = noise_of(view), figures_of(view).recipes
    assert (noise.sd, noise.freedom) == (pytest.approx(0.02 / 2**0.5), 2)
    assert (best.runs, best.val_loss) == (2, pytest.approx(min(mean_losses(view))))


def mean_losses(view: View) -> list[float]:
    """Of the recipes, each the mean of its two runs."""
    losses: dict[object, list[float]] = {}
    for trial in view.ranked():
        decay = trial.settings["optim.weight_decay_multiplier"]
        losses.setdefault(decay, []).append(trial.val_loss)
    return [sum(its) / len(its) for its in losses.values()]


def test_noise_is_stated_or_measured_and_never_assumed(view: View) -> None:
    assert noise_of(view).sd is None
    view.header["noise"] = 0.01
    assert (noise_of(view).sd, noise_of(view).source) == (0.01, "stated by baseline.noise")
    del view.header["noise"]
    view.baseline_runs.append(replace(view.baseline_runs[0], loss=view.baseline_runs[0].loss + 0.2))
    assert noise_of(view).sd == pytest.approx(0.1 * 2**0.5)
    view.baseline_source = "slowrun"  # its cells are sizes
    assert noise_of(view).freedom == 0


def test_nothing_has_an_interval_where_nobody_measured_the_noise(
    view: View, tmp_path: Path
) -> None:
    """0.004 nats was assumed before, an eighth of what some small corpora show."""
    from sweep.results.efficiency_plot import draw_figures

    figures = figures_of(view)
    data, text = efficiency_data(figures), efficiency_text(figures)
    draw_figures(figures, tmp_path / "a.svg")

    assert data["noise"]["sd"] is None
    assert all(t["lines"]["low"] is t["law"]["high"] is None for t in data["trials"])
    assert "x to " not in text
    assert "interval is" not in text
    assert "95 %" not in text
    assert "repeat: 2" in text
    assert "sweep confirm measures it" in text
    assert "95 %" not in (tmp_path / "a.svg").read_text()
    assert json.dumps(data, allow_nan=False)


def with_fresh_seeds(view: View, losses: dict[str, list[float]]) -> View:
    """The same search with its finalists run again with these losses."""
    plan = {"seeds": 2, "until_separated": False, "allocation": "optimal"}
    view.apply({"event": "confirm", "time": 1, "finalists": list(losses), **plan})
    for finalist, its in losses.items():
        for seed, loss in enumerate(its, 1):
            run = FinalistRun(finalist, seed)
            last = {**(view.trials[finalist].last or {}), "val_loss": loss}
            confirming = TrialView(run.name(0), run, view.trials[finalist].settings, 0, [last])
            confirming.ending = TrialEnding.FINISHED
            view.trials[confirming.name] = confirming
    return view


def test_a_confirmed_trial_has_the_mean_of_its_fresh_seeds_wherever_its_loss_stands(
    view: View, tmp_path: Path
) -> None:
    from sweep.results.efficiency_plot import draw_figures

    names = [trial.name for trial in view.ranked()]
    (best, second), lowest = names[:2], view.ranked()[0].val_loss
    with_fresh_seeds(view, {best: [3.08, 3.10], second: [3.02, 3.04]})

    figures = figures_of(view)
    data, rows = efficiency_data(figures), efficiency_text(figures).splitlines()
    draw_figures(figures, tmp_path / "a.svg")

    assert [t["name"] for t in data["trials"]] == [second, best, *names[2:]]
    first = data["trials"][0]
    assert (first["val_loss"], first["runs"]) == (pytest.approx(3.03), 2)
    assert data["trials"][1]["searched_loss"] == lowest
    assert [t["confirmed"] for t in data["trials"][:3]] == [True, True, False]
    assert first["lines"]["low"]["value"] < first["lines"]["point"]["value"]
    assert any(row.startswith(second) and "2 fresh" in row for row in rows)
    assert data["by_unique_tokens"][0]["name"] == second
    assert f"confirmed: {second}" in (tmp_path / "a.svg").read_text()
    (line,) = [row for row in report.result(view, tmp_path).splitlines() if "with 1x what" in row]
    assert f"Trial {second} " in line
    assert f"needs {figures.trials[0].lines} the data" in line
    assert str(figures.trials[0].lines) in report.winner_line(view)
    assert report.confirmed_worth_line(view).endswith(f"fresh seeds: {figures.trials[0].lines}.")


def test_fresh_seeds_measure_the_noise_where_nothing_else_was_repeated(view: View) -> None:
    best, second = (trial.name for trial in view.ranked()[:2])
    with_fresh_seeds(view, {best: [3.02, 3.04], second: [3.08, 3.10]})

    assert (noise_of(view).sd, noise_of(view).freedom) == (pytest.approx(0.02 / 2**0.5), 2)


def test_a_law_that_ends_at_zero_says_that_nobody_has_seen_the_end() -> None:
    runs = [[1000 * 2**i, 4.0 - 0.3 * i, 1.0] for i in range(4)]
    view = View(header={"name": "x", "train_tokens": 1000})
    view.apply({"event": "baseline", "points": [r[:2] for r in runs], "runs": runs})

    assert "floor of 0 means only that" in efficiency_text(figures_of(view))


@pytest.mark.parametrize(
    ("tokens", "text"), [(32_768, "32k"), (131_072, "128k"), (100e6, "100M"), (1500, "1.5k")]
)
def test_an_axis_says_tokens_as_the_space_does(tokens: float, text: str) -> None:
    from sweep.results.efficiency_plot import token_text

    assert token_text(tokens) == text


def test_a_law_that_the_baseline_does_not_follow_is_told() -> None:
    """Losses that fall by as much for each doubling as before follow no law with a floor."""
    losses = [3.2, 3.1, 2.9, 2.5, 2.1]
    runs = [[1000 * 2**i, loss, 1.0] for i, loss in enumerate(losses)]
    view = View(header={"name": "x", "train_tokens": 1000, "noise": 0.004})
    view.apply({"event": "baseline", "points": [r[:2] for r in runs], "runs": runs})
    figures = figures_of(view)

    assert "the points do not follow it, trust the lines" in efficiency_text(figures)
    assert "trust the lines" not in efficiency_text(replace(figures, noise=Noise(0.5)))
    assert figures.baseline.law
    off = misfit(figures.baseline.law, figures.baseline.curve)
    for deviations, trusted in ((2.9, True), (3.1, False)):  # three are what noise may do
        text = efficiency_text(replace(figures, noise=Noise(off / deviations)))
        assert ("trust the lines" not in text) == trusted


@pytest.mark.parametrize(
    ("gpus", "cpus", "expected"),
    [(2, 8, (2, "GPU-hours")), (0, 4, (4, "core-hours")), (-1, 1, (1, "device-hours"))],
)
def test_hours_are_of_what_a_trial_occupies(
    gpus: float, cpus: float, expected: tuple[float, str]
) -> None:
    assert devices_of(View(header={"gpus": gpus, "cpus": cpus})) == expected


def test_a_sweep_without_baseline_is_told_how_to_get_one() -> None:
    with pytest.raises(SweepError, match="has no baseline to measure against"):
        figures_of(View(header={"name": "x"}))


def test_what_lines_between_points_do_is_told(view: View) -> None:
    view.header["noise"] = 0.01
    figures = figures_of(view)

    assert "widened to hold what the law reads" in efficiency_text(figures)
    few = replace(figures, baseline=replace(figures.baseline, law=None))
    assert "needs a third token count" in efficiency_text(few)


def test_the_command_prints_and_draws(view: View, tmp_path: Path) -> None:
    folder, plot = tmp_path, tmp_path / "curves.svg"

    text = CliRunner().invoke(cli, ["efficiency", str(folder), "--plot", str(plot)])
    data = CliRunner().invoke(cli, ["efficiency", str(folder), "--json"])

    assert text.exit_code == 0, text.output
    assert "by lines" in text.output
    assert "Noise: between seeds not measured" in text.output
    assert json.loads(data.stdout)["name"] == "fake"
    drawn = plot.read_text()
    for words in (
        "unique training tokens",
        "val loss (nats/token)",
        "epoch (passes over the unique tokens)",
        "device-hours of training",
        "plain baseline",
        "(baseline tokens needed / unique tokens)",
    ):
        assert words in drawn


def test_a_sweep_over_budgets_draws_a_curve_by_data(tmp_path: Path, open_session: Open) -> None:
    from sweep.results.efficiency_plot import draw_figures

    view = finished(open_session(make_space(tmp_path, BUDGETS)), tmp_path / "trials")

    draw_figures(figures_of(view), tmp_path / "a.svg")
    draw_figures(figures_of(view), tmp_path / "b.svg")

    assert "best recipe at each budget" in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_plot_that_cannot_be_written_is_told(view: View, tmp_path: Path) -> None:
    arguments = ["efficiency", str(tmp_path), "--plot", str(tmp_path / "no" / "x.svg")]

    done = CliRunner().invoke(cli, arguments)

    assert isinstance(done.exception, SweepError)
    assert "cannot write" in str(done.exception)
