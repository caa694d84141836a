"""`sweep shrink`, from a trained network to a smaller one that every other verb takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sweeps import without_tracking, write_texts

from sweep.cli.main import cli


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, words)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `original`, of a tiny network that was really trained."""
    home = tmp_path_factory.mktemp("shrink")
    corpus = write_texts(home / "corpus")
    sets = {
        "data.path": corpus,
        "data.train_tokens": 2049,
        "data.val_tokens": 513,
        "data.test_tokens": 0,
        "gpt.layers": 3,
        "gpt.width": 16,
        "gpt.head_width": 8,
        "gpt.context": 32,
        "train.batch_tokens": 256,
        "train.evals": 1,
        "train.epochs": 4,
        "train.precision": "fp32",
        "train.device": "cpu",
        "optim.lr": 0.02,
    }
    words = [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
    with pytest.MonkeyPatch.context() as patch:
        without_tracking(patch)
        done = invoke("train", *words, "--out", home / "original")
    assert done.exit_code == 0, done.output
    return home


@pytest.fixture(autouse=True)
def _no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    without_tracking(monkeypatch)


def shrunk(home: Path, out: Path, *words: object) -> dict[str, Any]:
    done = invoke("shrink", home / "original", "--out", out, "--json", *words)
    assert done.exit_code == 0, done.output
    its: dict[str, Any] = json.loads(done.stdout)
    return its


def test_the_smaller_network_is_a_model_like_any_other(home: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"

    its = shrunk(home, small, "--size", 0.7, "--finalists", 2, "--rate", 1)

    stages = {row["stage"]: row for row in its["rows"]}
    assert list(stages) == ["original", "as cut", "fine-tuned"]
    assert stages["fine-tuned"]["share"] <= 0.7
    assert stages["original"]["quality"] == 1
    tuned = [one for one in its["attempts"] if one["tuned_loss"] is not None]
    assert len(tuned) == 2
    assert tuned[0]["tuned_loss"] == min(one["tuned_loss"] for one in tuned)
    assert (small / "report" / "shrink.svg").exists()

    compared = invoke("compare", home / "original", small, "--json")
    assert compared.exit_code == 0, compared.output
    assert f"{stages['fine-tuned']['val_loss']:.4f}"[:5] in compared.stdout
    said = invoke("sample", small, "--prompt", "a", "--tokens", 8, "--seed", 1)
    assert said.exit_code == 0, said.output
    status = json.loads(invoke("status", small, "--json").stdout)
    assert status["trials"][0]["val_loss"] == pytest.approx(stages["fine-tuned"]["val_loss"])
    again = invoke("shrink", small, "--units", "0.5", "--epochs", 0, "--out", tmp_path / "b")
    assert again.exit_code == 0, again.output


def test_the_same_command_again_says_the_same_and_another_is_refused(
    home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    first = shrunk(home, out, "--layers", "top:1", "--epochs", 0)
    before = (out / "checkpoint.safetensors").read_bytes()

    assert shrunk(home, out, "--layers", "top:1", "--epochs", 0) == first
    other = invoke("shrink", home / "original", "--layers", "top:2", "--out", out)

    assert getattr(other.exception, "code", None) == 2
    assert "shrunk in another way" in str(other.exception)
    assert (out / "checkpoint.safetensors").read_bytes() == before


def test_a_stopped_fine_tune_is_continued_by_the_same_command(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweep.run import SingleRun

    words = ["--layers", "top:1", "--epochs", 2]
    whole = shrunk(home, tmp_path / "whole", *words)
    train = SingleRun.train

    def stopped(single: SingleRun) -> Any:
        yield next(train(single))
        raise KeyboardInterrupt

    monkeypatch.setattr(SingleRun, "train", stopped)
    invoke("shrink", home / "original", "--out", tmp_path / "stopped", *words)
    monkeypatch.setattr(SingleRun, "train", train)
    monkeypatch.setattr("sweep.shrinking.work.plan", None)  # the plan is known
    continued = shrunk(home, tmp_path / "stopped", *words)

    assert continued["rows"][-1]["val_loss"] == whole["rows"][-1]["val_loss"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["original", "--size", "2"], "--size: a share of the parameters"),
        (["original", "--size", "0.01"], "no plan leaves as little as 0.01"),
        (["original", "--layers", "top:3"], "leaves no layer"),
        (["original", "--layers", "best:1"], "there is no strategy 'best'"),
        (["original", "--layers", "top:1", "--set", "gpt.width=8"], "is of the network"),
        (["nothing", "--layers", "top:1"], "no model"),
        (["original", "--layers", "top:1", "--data", "gone.txt"], "no such file"),
    ],
)
def test_bad_input_gets_one_message_and_leaves_nothing(
    words: list[str], message: str, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"

    done = invoke("shrink", home / words[0], *words[1:], "--out", out)

    assert message in str(done.exception)
    assert getattr(done.exception, "code", None) == 2
    assert not out.exists()


def test_a_folder_with_something_else_in_it_is_left_alone(home: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    done = invoke("shrink", home / "original", "--layers", "top:1", "--out", tmp_path)

    assert "is there already" in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_network_without_a_run_is_shrunk_on_a_text_that_is_named(
    home: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"line {number} of another text" for number in range(400)))
    words = ["--data", text, "--set", "data.train_tokens=4096", "--set", "data.val_tokens=513"]

    its = shrunk(home, tmp_path / "small", "--units", "0.5", "--epochs", 0, *words)

    assert its["rows"][1]["share"] < 1
