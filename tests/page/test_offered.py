"""Which networks a page offers, and what `sweep page` says where there are none."""

from __future__ import annotations

import importlib.util
import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_folders import Ended, write_run
from toy_network import network

from model.training.release import CHECKPOINT
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL, TRIALS
from sweep.models import Named
from sweep.page import offered as room
from sweep.page.offered import offered

SPACE = """
name: small
search: {optim.lr: {min: 0.001, max: 0.1, log: true}}
"""
TRIALS_OF_IT = [Ended({"optim.lr": 0.01 * (n + 1)}, loss) for n, loss in enumerate((3.1, 2.9, 3.0))]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with three trials; their networks are opened without being read."""
    folder = write_run(tmp_path / "runs" / "small", SPACE, TRIALS_OF_IT)
    for number in range(3):
        (folder / TRIALS / f"000{number}").mkdir(parents=True)
        (folder / TRIALS / f"000{number}" / CHECKPOINT).write_bytes(b"")
    monkeypatch.setattr(room, "named", lambda word, runs: Named(word, Path(word), network()))
    return folder


def test_a_run_folder_offers_its_best_trials_the_best_first(run: Path) -> None:
    title, models = offered([str(run)], 2, run.parent)

    assert [(its.name, its.val_loss) for its in models] == [("0001", 2.9), ("0002", 3.0)]
    assert models[0].searched == {"optim.lr": 0.02}
    assert title == "small"
    assert models[0].open() is models[0].open()


def test_trials_whose_weights_are_gone_are_left_out(run: Path) -> None:
    (run / TRIALS / "0001" / CHECKPOINT).unlink()

    assert [its.name for its in offered([], 4, run.parent)[1]] == ["0002", "0000"]


def test_a_trial_that_mixes_its_states_is_told_with_the_loss_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "mixed", SPACE, TRIALS_OF_IT[:1])
    (folder / TRIALS / "0000").mkdir(parents=True)
    (folder / TRIALS / "0000" / CHECKPOINT).write_bytes(b"")
    monkeypatch.setattr(room, "named", lambda word, runs: Named(word, Path(word), network()))
    events = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    for event in events:
        if event["event"] == "observation":
            event["raw_loss"] = 2.5
        if event["event"] == "trial":
            event["settings"]["train.evaluate"] = "probabilities"
    (folder / JOURNAL).write_text("".join(json.dumps(event) + "\n" for event in events))

    assert offered([str(folder)], 1, tmp_path)[1][0].val_loss == 2.5


def test_an_ensemble_is_called_after_its_sweep(run: Path) -> None:
    title, models = offered([str(run / "ensemble.json")], 1, run.parent)

    assert (title, models[0].name) == ("ensemble of small", "ensemble of small")


def test_models_beside_a_sweep_are_told_by_their_own_names(run: Path) -> None:
    title, models = offered([str(run), "elsewhere/gpt2"], 1, run.parent)

    assert [its.name for its in models] == ["small/0001", "gpt2"]
    assert title == "small, gpt2"


def test_models_of_one_name_are_told_by_no_more_of_their_folders_than_it_takes(run: Path) -> None:
    _, models = offered(["/home/ada/small/mine", "/home/ada/large/mine"], 1, run.parent)

    assert [its.name for its in models] == ["mine", "large/mine"]


@pytest.mark.parametrize(
    ("trials", "message"),
    [([], "no trial in .* is complete yet"), (TRIALS_OF_IT, "has kept its weights")],
)
def test_a_sweep_without_a_network_is_refused(
    trials: list[Ended], message: str, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "small", SPACE, trials)

    with pytest.raises(SweepError, match=message):
        offered([str(run)], 4, tmp_path)


def page(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["page", *map(str, words)])
    return getattr(done.exception, "code", done.exit_code), str(done.exception)


def test_a_page_without_gradio_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    code, said = page()

    assert code == 2
    assert "pip install 'sweep[page]'" in said


def test_a_page_on_a_taken_port_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "there")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = page("--port", str(port))

    assert code == 2
    assert f"127.0.0.1:{port} is taken" in said


def test_a_space_of_nothing_is_not_written(tmp_path: Path) -> None:
    code, said = page("nonsuch", "--runs", tmp_path, "--export", tmp_path / "space")

    assert code == 2
    assert "nonsuch" in said
    assert not (tmp_path / "space").exists()
