"""One run folder and those who drive it: `sweep run` in this process, with the fake trainer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fakes import fake_train
from sweeps import without_tracking

from model.config.config import Config
from model.config.trunk import SharedTrunks, branch_steps, recipe_digest
from model.progress import Progress
from model.training import log_probs
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import read_view
from sweep.run.scratch import scratch

SPACE = """
name: tiny
search:
  optim.lr: {min: 1e-3, max: 1e-2, log: true}
  train.epochs: [1, 2]
fixed:
  data.train_tokens: 4097
  data.val_tokens: 1025
  data.test_tokens: 1025
  gpt.layers: 1
  gpt.width: 16
  train.batch_tokens: 256
  train.evals: 4
budget: {trials: 3}
baseline: {multiples: [1, 2]}
"""


@pytest.fixture(autouse=True)
def _untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    without_tracking(monkeypatch)


@pytest.fixture
def sweep_run(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))  # baseline runs of its own

    def run(text: str = SPACE) -> Result:
        (tmp_path / "tiny.yaml").write_text(text)
        words = ["run", str(tmp_path / "tiny.yaml"), "--here", "--plain"]
        return CliRunner().invoke(
            cli, [*words, "--runs", str(tmp_path / "runs"), "--set", f"data.path={corpus}"]
        )

    return run


def test_two_drivers_do_not_share_a_run_folder(
    sweep_run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first is in the middle of a trial."""
    second: list[Result] = []

    def train(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in fake_train(config, folder):
            yield progress
            if not second:
                second.append(sweep_run())

    monkeypatch.setattr("sweep.run.trunk_files.shared_trainer", train)

    first = sweep_run()

    assert first.exit_code == 0
    error = second[0].exception
    assert isinstance(error, SweepError)
    assert "is being run by another process" in str(error)
    assert error.code == 4


def test_a_trial_trains_on_all_gpus_that_it_is_given(
    sweep_run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, all but one of them were reserved and lay idle."""
    used: list[int] = []

    def train(config: Config, folder: Path, gpus: int = 1) -> Iterator[Progress]:
        used.append(gpus)
        yield from fake_train(config, folder)

    monkeypatch.setattr("sweep.run.trunk_files.shared_trainer", train)

    done = sweep_run(SPACE + "trial: {gpus: 2}\n")

    assert done.exit_code == 0, done.exception
    assert set(used) == {2}


def test_a_finished_sweep_is_kept_as_it_is(
    sweep_run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells where it came from, is not run again, and another space cannot take its folder."""
    monkeypatch.setattr("sweep.run.trunk_files.shared_trainer", fake_train)
    first, second = sweep_run().output, sweep_run().output
    other = sweep_run(SPACE.replace("gpt.width: 16", "gpt.width: 32")).exception
    folder = tmp_path / "runs" / "tiny"

    assert "3/3 trials" in first
    assert "starts" in first
    assert "starts" not in second
    assert first.split("3/3 trials")[1] == second.split("3/3 trials")[-1]
    environment = json.loads((folder / "environment.json").read_text())
    assert {"python", "packages", "commit", "cores"} <= environment.keys()
    assert {path.name for path in (folder / "trials").iterdir()} >= {"0000", "baseline-1x"}
    assert isinstance(other, SweepError)
    assert other.code == 4
    assert "fixed: gpt.width was 16, is 32" in str(other)
    assert (folder / "space.yaml").read_text() == SPACE


def test_a_sweep_keeps_the_log_probabilities_of_its_best_trials_alone(
    sweep_run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def train(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in fake_train(config, folder):
            if progress.done:
                log_probs.add(folder, log_probs.FINAL, np.array([-progress.val_loss]))
            yield progress

    monkeypatch.setattr("sweep.run.trunk_files.shared_trainer", train)

    done = sweep_run(SPACE + "trial: {keep_log_probs: 1}\nprune: {rule: none}\n")

    assert done.exit_code == 0
    best = read_view(tmp_path / "runs" / "tiny" / "journal.jsonl").ranked()[0]
    files = (tmp_path / "runs" / "tiny" / "trials").glob(f"*/{log_probs.NAME}")
    names = {path.parent.name for path in files}
    assert names == {best.name, "baseline-1x", "baseline-2x"}


def test_a_driver_hands_trunks_to_trials_that_share_them_and_deletes_what_nobody_needs(
    sweep_run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = []

    def train(
        config: Config, folder: Path, trunks: SharedTrunks | None = None
    ) -> Iterator[Progress]:
        assert trunks is not None
        for step in branch_steps(config, trunks.epochs):
            path = trunks.folder / recipe_digest(config) / f"{step:08}" / "checkpoint.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            kept.append(path)
        yield from fake_train(config, folder)

    monkeypatch.setattr("sweep.run.trunk_files.shared_trainer", train)
    falls = "  optim.schedule: constant_linear\n  optim.warmup: 0\n"
    text = SPACE.replace("{min: 1e-3, max: 1e-2, log: true}", "[0.004]")
    text = text.replace("  train.evals: 4\n", f"  train.evals: 4\n{falls}")

    done = sweep_run(text + "sampler: {name: grid}\ntrial: {share_trunks: true}\n")

    assert done.exit_code == 0
    trunks = tmp_path / "runs" / "tiny" / "trunks"
    assert {path.parents[2] for path in kept} == {trunks}
    assert len(set(kept)) == 2
    assert not list(trunks.glob("*/*/*"))


def test_an_earlier_sweep_informs_the_next_and_counts_nowhere(
    sweep_run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is gone by the time the next is continued."""
    monkeypatch.setattr("sweep.run.trunk_files.shared_trainer", fake_train)
    text = SPACE.replace("baseline: {multiples: [1, 2]}", "")
    assert sweep_run(text.replace("name: tiny", "name: old")).exit_code == 0
    old, new = tmp_path / "runs" / "old", tmp_path / "runs" / "tiny"
    warm = f"{text}sampler: {{warm_start: [{old}]}}\n"

    begun = sweep_run(warm)
    old.rename(tmp_path / "moved")
    continued = sweep_run(warm.replace("trials: 3", "trials: 4"))

    for result in (begun, continued):
        assert result.exit_code == 0, result.output
        assert f"informed by 3 trials of {old}" in result.stderr
    assert len(read_view(new / "journal.jsonl").ranked()) == 4


def test_a_warm_start_from_nothing_writes_nothing(
    sweep_run: Callable[..., Result], tmp_path: Path
) -> None:
    result = sweep_run(SPACE + "sampler: {warm_start: [runs/gone]}\n")

    assert isinstance(result.exception, SweepError)
    assert result.exception.code == 2
    assert "runs/gone: no such run folder, and no such file" in str(result.exception)
    assert not (tmp_path / "runs").exists()


def test_a_sweep_goes_on_where_its_corpus_has_moved(
    sweep_run: Callable[..., Result],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its tokens have a digest: where the text lies is no part of what is searched."""
    monkeypatch.setattr("sweep.run.trunk_files.shared_trainer", fake_train)
    assert sweep_run().exit_code == 0
    moved = corpus.rename(tmp_path / "elsewhere")

    words = ["run", str(tmp_path / "tiny.yaml"), "--here", "--plain", "--trials", "4"]
    words += ["--runs", str(tmp_path / "runs"), "--set", f"data.path={moved}"]
    done = CliRunner().invoke(cli, words)

    assert done.exit_code == 0, done.exception
    assert len(read_view(tmp_path / "runs" / "tiny" / JOURNAL).searches()) == 4
    (moved / "00.txt").write_text("another text")
    refused = CliRunner().invoke(cli, words).exception
    assert isinstance(refused, SweepError)
    assert "fixed: data.digest was" in str(refused)


def test_a_sweep_goes_on_where_its_corpus_is_gone_and_its_token_table_is_not(
    sweep_run: Callable[..., Result],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also its confirmation; another text of that kind does not."""
    monkeypatch.setattr("sweep.run.trunk_files.shared_trainer", fake_train)
    monkeypatch.setattr("sweep.run.confirmation.shared_trainer", fake_train)
    assert sweep_run().exit_code == 0
    corpus.rename(tmp_path / "elsewhere")

    done = sweep_run(SPACE.replace("trials: 3", "trials: 4"))

    assert done.exit_code == 0, done.exception
    assert f"{corpus} is gone; its tokens are those that were prepared" in done.stderr
    folder = tmp_path / "runs" / "tiny"
    assert len(read_view(folder / JOURNAL).searches()) == 4
    words = ["--here", "--plain", "--no-test", "--top", "2", "--seeds", "2"]
    confirmed = CliRunner().invoke(cli, ["confirm", str(folder), *words])
    assert confirmed.exit_code == 0, confirmed.exception
    other = sweep_run(SPACE.replace("val_tokens: 1025", "val_tokens: 512")).exception
    assert isinstance(other, SweepError)
    assert "no such file or folder" in str(other)


def test_a_disk_that_is_full_while_the_study_is_made_is_one_message(
    sweep_run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("sweep.session.open_storage", full)

    error = sweep_run().exception

    assert isinstance(error, SweepError)
    assert str(error).startswith("no space left for ")


def test_what_killed_drivers_left_of_ray_goes_when_the_next_begins(tmp_path: Path) -> None:
    (tmp_path / ".ray-left" / "tune").mkdir(parents=True)

    with scratch(tmp_path) as folder:
        assert [*tmp_path.iterdir()] == [folder]

    assert not [*tmp_path.iterdir()]


def test_no_file_and_no_word_of_a_sweep_has_a_secret(
    sweep_run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one of the environment nor one that an error names."""
    secrets = {
        "HF_TOKEN": "hf_planted01",
        "AWS_SECRET_ACCESS_KEY": "planted/02+",
        "DB_PASS": "pla nted03",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:planted04@127.0.0.1:9")
    in_addresses = ("planted04", "planted05", "planted06")
    addresses = "s3://k:{1}@bucket/a https://host/a?X-Amz-Signature={2} http://me:{0}@h"
    said = f"{[*secrets.values()]} {addresses.format(*in_addresses)}"

    def train(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in fake_train(config, folder):
            if folder.name == "0001":
                raise OSError(said)
            yield progress

    monkeypatch.setattr("sweep.run.trunk_files.shared_trainer", train)
    done = sweep_run()

    assert done.exit_code == 0, done.exception
    run = tmp_path / "runs" / "tiny"
    assert "OSError: [" in read_view(run / JOURNAL).trials["0001"].reason
    texts = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    texts |= {Path("output"): done.output.encode(), Path("messages"): done.stderr.encode()}
    for word in (*secrets.values(), *in_addresses):
        assert not [path for path, text in texts.items() if word.encode() in text]
