"""Ensembles of a finished sweep's own trials."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model.data.split import choose_slice
from model.training import log_probs
from model.training.export import open_mixture
from model.training.mixture import mixture_log_probs
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import read_view
from sweep.models import of_trial
from sweep.predictions import mixture
from sweep.predictions.ensemble import METHODS, Ensemble, ensemble_of, write_result
from sweep.predictions.ensemble_report import ensemble_text
from sweep.predictions.logits import by_logits
from sweep.predictions.predicted import shared_table
from sweep.view import View


def of(folder: Path, **arguments: str) -> Ensemble:
    return ensemble_of(folder, read_view(folder / JOURNAL), **arguments)  # type: ignore[arg-type]


def test_members_are_chosen_on_the_last_quarter_and_reported_on_the_rest(
    finished_sweep: Path,
) -> None:
    its = of(finished_sweep)

    kept = [log_probs.read(finished_sweep / "trials" / m.name)["final"] for m in its.members]
    log_probs_KN, (begin, end) = np.stack(kept), choose_slice(4097)
    weight_K = mixture.greedy(log_probs_KN[:, begin - 1 : end - 1])
    mixed_N = mixture.mixed(log_probs_KN[:, : begin - 1], weight_K)
    assert (its.choosing_tokens, its.tokens) == (1024, 3072)
    assert its.chosen.loss == pytest.approx(-mixed_N.mean())
    best_N = log_probs_KN[0, : begin - 1]
    assert its.chosen.against_best.mean == pytest.approx((best_N - mixed_N).mean())


@pytest.mark.parametrize("method", ["greedy", "learned"])
def test_no_choice_is_worse_than_the_best_trial_where_it_chose(
    finished_sweep: Path, method: str
) -> None:
    its = of(finished_sweep, method=method)

    assert its.chosen.how == method
    assert its.chosen.choosing_loss <= its.best_losses[0] + mixture.TOLERANCE
    assert {mix.how for mix in its.mixes} == set(METHODS)
    assert sum(its.chosen.weights.values()) == pytest.approx(1)


def test_the_best_single_is_the_trial_of_the_lowest_loss_and_both_are_told_in_data(
    finished_sweep: Path,
) -> None:
    its = of(finished_sweep)

    best = read_view(finished_sweep / JOURNAL).ranked()[0]
    assert its.best == best.name
    assert its.worth is not None
    assert its.worth[0].val_loss == best.val_loss
    assert its.worth[1].val_loss == pytest.approx(best.val_loss + its.chosen.against_best.mean)
    assert "data, by lines" in ensemble_text(its)


def test_what_was_kept_of_epochs_joins_the_candidates(run_folder: Path) -> None:
    folder = run_folder / "trials" / "0000"
    log_probs.add(folder, log_probs.epoch_key(2), log_probs.read(folder)["final"] - 0.1)

    its = of(run_folder)

    assert [m.name for m in its.members if m.epoch] == ["0000@2"]
    assert all(member.epoch is None for member, _ in its.trained())


def test_members_of_which_no_network_was_kept_are_named(run_folder: Path) -> None:
    assert "no network" not in ensemble_text(of(run_folder))
    folder = run_folder / "trials" / "0000"
    log_probs.add(folder, log_probs.epoch_key(2), log_probs.read(folder)["final"] + 0.1)

    told = ensemble_text(of(run_folder))

    assert "0000@2: of these only predictions were kept, no network." in told


def test_trials_without_predictions_are_scored_or_named_as_missing(run_folder: Path) -> None:
    log_probs.forget(run_folder / "trials" / "0000")
    shutil.rmtree(run_folder / "trials" / "0001")

    its = of(run_folder)

    text = ensemble_text(its)
    assert "Scored again from their checkpoints: 0000" in text
    assert "Not among them:\n0001: neither its predictions nor its checkpoint were kept" in text


def test_the_run_folder_gets_who_is_in_it(run_folder: Path) -> None:
    its = of(run_folder)

    result = json.loads(write_result(its).read_text())

    assert result["average"] == "probabilities"
    assert {m["trial"]: m["weight"] for m in result["members"]} == its.chosen.weights
    assert all(
        (run_folder / m["folder"] / "checkpoint.safetensors").exists() for m in result["members"]
    )


def test_trials_that_were_searched_with_a_teacher_are_members_too(finished_sweep: Path) -> None:
    view = read_view(finished_sweep / JOURNAL)
    untaught = ensemble_of(finished_sweep, view)
    for trial in view.trials.values():
        trial.settings["train.teacher"] = "elsewhere"

    taught = ensemble_of(finished_sweep, view)

    assert [m.name for m in taught.members] == [m.name for m in untaught.members]


def test_what_cannot_be_mixed_is_refused_in_one_message(run_folder: Path) -> None:
    with pytest.raises(SweepError, match="has no complete trial 0007"):
        of(run_folder, only=["0007"])  # type: ignore[arg-type]
    with pytest.raises(SweepError, match="needs the predictions of two trials, there are those"):
        of(run_folder, only=["0001"])  # type: ignore[arg-type]
    with pytest.raises(SweepError, match="no complete trial yet: nothing to mix") as refused:
        ensemble_of(run_folder, View(header={"name": "new"}))
    assert refused.value.code == 2


def test_a_damaged_file_of_predictions_stops_with_its_name(run_folder: Path) -> None:
    path = run_folder / "trials" / "0002" / log_probs.NAME
    path.write_bytes(b"damaged")

    done = CliRunner().invoke(cli, ["ensemble", str(run_folder)])

    assert isinstance(done.exception, SweepError)
    assert done.exception.code == 2
    assert str(path) in str(done.exception)


def test_the_command_tells_every_way_of_mixing(run_folder: Path) -> None:
    told = CliRunner().invoke(cli, ["ensemble", str(run_folder), "--method", "learned"])
    data = json.loads(CliRunner().invoke(cli, ["ensemble", str(run_folder), "--json"]).output)

    assert told.exit_code == 0, told.output
    assert "endlessly many would gain" in told.output or "learned: " in told.output
    assert [mix["how"] for mix in data["mixes"]] == ["uniform", "greedy", "learned"]
    assert data["chosen"] == "greedy"


def test_a_run_folder_that_cannot_be_written_is_mixed_all_the_same(run_folder: Path) -> None:
    (run_folder / "ensemble.json").mkdir()

    done = CliRunner().invoke(cli, ["ensemble", str(run_folder)])

    assert done.exit_code == 0
    assert "greedy" in done.stdout
    assert f"not kept in {run_folder}: Is a directory" in done.stderr


def test_logits_averaged_are_another_mixture_of_the_same_networks(run_folder: Path) -> None:
    its = of(run_folder, method="uniform")

    logits = by_logits(its)

    assert logits.networks == 4
    assert logits.tokens == 4096
    assert 0 < abs(logits.against_probabilities.mean) < 0.1
    difference = logits.against_best.mean - its.chosen.against_best.mean
    assert difference == pytest.approx(logits.against_probabilities.mean, abs=1e-6)
    assert "4 networks over 4,096 tokens" in ensemble_text(its, logits)


def test_probabilities_of_networks_together_are_those_that_they_kept(run_folder: Path) -> None:
    """What a teacher or a logged model predicts is what was reported, but for float16."""
    its = of(run_folder)
    runs = [(run_folder / "trials" / m.trial.name, weight) for m, weight in its.trained()]

    table = shared_table([of_trial(run_folder, m.trial) for m, _ in its.trained()])
    log_probs_N = mixture_log_probs(open_mixture(runs), table, 256)

    assert -log_probs_N[: its.tokens].mean() == pytest.approx(its.chosen.loss, abs=1e-4)


def test_logits_of_epochs_that_are_no_networks_any_more_are_refused(run_folder: Path) -> None:
    folder = run_folder / "trials" / "0000"
    log_probs.add(folder, log_probs.epoch_key(2), log_probs.read(folder)["final"] + 0.1)
    its = of(run_folder)
    assert "0000@2" in its.chosen.weights

    with pytest.raises(SweepError, match="these members are none any more\n  0000@2"):
        by_logits(its)


def test_an_ensemble_is_logged_only_where_mlflow_has_the_sweep(run_folder: Path) -> None:
    done = CliRunner().invoke(cli, ["ensemble", str(run_folder), "--log"])

    assert isinstance(done.exception, SweepError)
    assert f"Send it first: sweep publish {run_folder}" in str(done.exception)
