"""Runs compared token by token: what is told, from what, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model.training import log_probs
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import read_view
from sweep.predictions.comparison import compare
from sweep.predictions.comparison_report import comparison_data, comparison_text
from sweep.predictions.difference import BY_LOSSES, BY_STRETCHES, BY_TOKENS


def names(folder: Path, *trials: str) -> list[str]:
    return [str(folder / trial) for trial in trials]


def test_the_difference_of_two_trials_is_that_of_their_losses_with_a_smaller_error(
    finished_sweep: Path,
) -> None:
    trials = read_view(finished_sweep / JOURNAL).trials

    its = compare(names(finished_sweep, "0000", "0001"), Path("runs"))

    difference = its.pairs[0].difference
    apart = trials["0001"].val_loss - trials["0000"].val_loss
    assert difference.mean == pytest.approx(apart, abs=1e-4)  # float16 on the disk
    assert difference.by == BY_TOKENS
    assert difference.interval.error < trials["0000"].last["val_loss_error"]
    assert difference.bootstrap is not None
    assert (
        difference.interval.error / 3 < difference.bootstrap.error < difference.interval.error * 3
    )


def test_every_band_of_tokens_and_every_token_is_counted_once(finished_sweep: Path) -> None:
    its = compare(names(finished_sweep, "0000", "0003"), Path("runs"))

    detail, mean = its.pairs[0].detail, its.pairs[0].difference.mean
    assert detail is not None
    for bands in (detail.by_frequency, detail.by_position):
        assert sum(band.tokens for band in bands) == its.tokens == 4096
        added = sum(band.mean * band.tokens for band in bands) / its.tokens
        assert added == pytest.approx(mean, abs=1e-6)
    assert [band.name for band in detail.by_position] == [
        "1 token",
        "2 to 3 tokens",
        "4 to 7 tokens",
        "8 to 15 tokens",
        "16 to 31 tokens",
        "32 tokens",
    ]
    assert detail.passages[0].mean < detail.passages[-1].mean
    assert all(passage.excerpt for passage in detail.passages)
    assert 0.9 < detail.spread.better + detail.spread.worse <= 1


def test_predictions_that_were_not_kept_are_made_again_from_the_checkpoint(
    run_folder: Path,
) -> None:
    before = compare(names(run_folder, "0000", "0001"), Path("runs"))
    log_probs.forget(run_folder / "trials" / "0001")

    after = compare(names(run_folder, "0000", "0001"), Path("runs"))

    assert after.pairs[0].difference.mean == pytest.approx(
        before.pairs[0].difference.mean, abs=1e-4
    )
    assert after.notes == ["0001: scored again from its checkpoint"]


def test_without_predictions_and_checkpoint_the_journal_tells_the_difference(
    run_folder: Path,
) -> None:
    whole = compare(names(run_folder, "0000", "0001"), Path("runs")).pairs[0].difference
    shutil.rmtree(run_folder / "trials" / "0001")

    its = compare(names(run_folder, "0000", "0001"), Path("runs"))

    difference = its.pairs[0].difference
    assert difference.by == BY_STRETCHES
    assert difference.mean == pytest.approx(whole.mean, abs=1e-4)
    assert difference.interval.error == pytest.approx(whole.interval.error, rel=1e-2)
    assert "0001: neither its predictions nor its checkpoint were kept" in comparison_text(its)


def test_without_losses_by_document_either_the_errors_of_both_losses_are_all_there_is(
    run_folder: Path,
) -> None:
    shutil.rmtree(run_folder / "trials" / "0001")
    journal = run_folder / JOURNAL
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    for event in events:
        event.pop("clusters", None)
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))

    its = compare(names(run_folder, "0000", "0001"), Path("runs"))

    assert its.pairs[0].difference.by == BY_LOSSES
    assert "as if they were of different text" in comparison_text(its)


def test_runs_whose_loop_told_a_loss_alone_are_refused(run_folder: Path) -> None:
    shutil.rmtree(run_folder / "trials" / "0001")
    journal = run_folder / JOURNAL
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    for event in events:
        event.pop("clusters", None)
        if "val_loss_error" in event:
            event["val_loss_error"] = None
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))

    with pytest.raises(SweepError, match="0000 and 0001 cannot be compared") as refused:
        compare(names(run_folder, "0000", "0001"), Path("runs"))

    assert "only the loss" in str(refused.value)


def test_runs_of_other_validation_tokens_are_refused_with_both_digests(
    run_folder: Path, finished_sweep: Path
) -> None:
    """The same sweep with another val split: its tokens are made of the same corpus."""
    journal = run_folder / JOURNAL
    text = journal.read_text().replace('"data.val_tokens": 4097', '"data.val_tokens": 3001')
    journal.write_text(re.sub('"data.digest": "[0-9a-f]*"', '"data.digest": ""', text))

    with pytest.raises(SweepError, match="predicted different validation tokens") as refused:
        compare([*names(run_folder, "0000"), *names(finished_sweep, "0000")], Path("runs"))

    assert refused.value.code == 2
    digests = [line.split(": ")[1] for line in str(refused.value).splitlines()[1:3]]
    assert [len(digest) for digest in digests] == [64, 64]
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"damaged"), "predictions of 0001 cannot be read"),
        (lambda path: log_probs.add(path.parent, "final", np.zeros(7)), "has 7 log-prob.* 4,096"),
        (
            lambda path: log_probs.add(path.parent, "final", np.r_[np.zeros(4094), np.nan, 1.0]),
            "0001 cannot be read\n.* has 2 values of 4,096 that are no log-probabilities",
        ),
        (lambda path: (path.unlink(), path.mkdir()), "predictions of 0001 cannot be read"),
    ],
    ids=["damaged", "too few", "no log-probabilities", "no file"],
)
def test_damaged_predictions_are_refused_in_one_message(
    run_folder: Path, spoil: object, message: str
) -> None:
    spoil(run_folder / "trials" / "0001" / log_probs.NAME)  # type: ignore[operator]

    with pytest.raises(SweepError, match=message) as refused:
        compare(names(run_folder, "0000", "0001"), Path("runs"))

    assert refused.value.code == 2


def test_what_cannot_be_compared_is_told_all_at_once(run_folder: Path) -> None:
    with pytest.raises(SweepError, match="not everything") as refused:
        compare(["0009", "nowhere/0001"], run_folder.parent)

    text = str(refused.value)
    assert f"0009: {run_folder} has no trial of that name" in text
    assert "nowhere/0001: neither a trial, nor a run folder" in text
    with pytest.raises(SweepError, match="two runs or more, each once"):
        compare(["0001", str(run_folder / "trials" / "0001")], run_folder.parent)


def test_trials_of_two_run_folders_are_named_with_their_folders(
    run_folder: Path, finished_sweep: Path
) -> None:
    its = compare([*names(run_folder, "0000"), *names(finished_sweep, "0001")], Path("runs"))

    shown = [its.first.name, its.pairs[0].source.name]
    assert shown == [f"{run_folder.name}/0000", f"{finished_sweep.name}/0001"]


def test_the_command_compares_trials_run_folders_and_models_alike(run_folder: Path) -> None:
    """A trial's folder elsewhere is as `sweep train` leaves one."""
    model = run_folder.parent / "model"
    shutil.copytree(run_folder / "trials" / "0002", model)
    winner = read_view(run_folder / JOURNAL).ranked()[0].name
    words = ["compare", "0001", str(model), "tiny", "--runs", str(run_folder.parent)]

    told = CliRunner().invoke(cli, words)
    data = json.loads(CliRunner().invoke(cli, [*words, "--json"]).output)

    assert told.exit_code == 0, told.output
    assert "name these two" in told.output
    shown = [other["run"] for other in data["others"]]
    assert [data["first"]["run"], *shown] == ["tiny/0001", "runs/model", f"tiny/{winner}"]
    assert all(other["difference"]["by"] == "tokens" for other in data["others"])
    assert data == comparison_data(compare(["0001", str(model), "tiny"], run_folder.parent))
