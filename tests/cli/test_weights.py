"""Weights of others on the command line: evaluated, converted, and in a space."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import gpt2_files
import pytest
from click.testing import CliRunner

from model.data.tokenizer import get_tokenizer
from model.pretrained import pin, write
from model.training.weights import open_weights
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.run.driver import _with_data, _with_weights
from sweep.space.language import read_space

SPACE = """
name: finetune
search:
  optim.lr: {min: 1e-5, max: 1e-3, log: true}
fixed:
  gpt.init: INIT
  train.batch_tokens: 256
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """GPT-2 of two layers on bytes, in Hugging Face's layout, with its tokens beside it."""
    source = gpt2_files.write_gpt2(tmp_path / "source")
    (source / "sweep_tokenizer.json").write_text(
        json.dumps({"about": {"name": "bytes"}, "pieces": []})
    )
    trained = open_weights(str(source))
    assert trained.tokenizer.digest == get_tokenizer("bytes").digest
    write(trained.gpt, trained.tokenizer, tmp_path / "gpt2")  # type: ignore[arg-type]
    return tmp_path / "gpt2"


def invoke(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    return (done.exit_code if not done.exception else 2), done.output + str(done.exception or "")


def test_a_text_costs_a_network_what_its_own_loss_says(weights: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("A text of some length, read in windows. " * 5)

    code, output = invoke("evaluate", weights, text, "--json")

    numbers = json.loads(output)
    assert code == 0
    assert (numbers["tokens"], numbers["documents"]) == (201, 1)
    assert numbers["perplexity"] == pytest.approx(math.exp(numbers["loss"]))
    assert numbers["bits_per_byte"] == pytest.approx(numbers["loss"] / math.log(2))
    assert numbers["loss_error"] > 0


def test_weights_without_a_text_and_a_text_without_tokens_are_one_message(
    weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").touch()

    assert "a text to evaluate on has to be named" in invoke("evaluate", weights)[1]
    assert "has no token to predict" in str(
        CliRunner().invoke(cli, ["evaluate", str(weights), str(tmp_path / "empty.txt")]).exception
    )


def test_of_too_little_text_no_error_is_told(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Short.")

    output = invoke("evaluate", weights, tmp_path / "short.txt")[1]

    assert "in 1 document\n" in output
    assert "inf" not in output
    assert "too little text to say how sure that is" in output


def test_a_network_is_not_converted_into_what_is_no_folder(weights: Path) -> None:
    assert "/dev/null is there already" in invoke("convert", weights, "/dev/null")[1]


def test_a_network_is_converted_once_and_into_an_empty_folder(
    weights: Path, tmp_path: Path
) -> None:
    code, output = invoke("convert", weights, tmp_path / "out")

    assert code == 0, output
    assert (tmp_path / "out/model.safetensors").exists()
    assert "is there already" in invoke("convert", weights, tmp_path / "out")[1]


def test_weights_cannot_be_compared_and_what_can_is_said(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = invoke("compare", weights, "gpt2")

    assert code == 2
    assert output.count("weights of others come without a validation text; `sweep evaluate") == 2


def test_a_folder_called_like_published_weights_is_named_by_its_path(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "text.txt").write_text("A text of some length.")

    its = invoke("evaluate", "./gpt2", "text.txt", "--json")
    published = invoke("evaluate", "gpt2", "text.txt")

    assert its[0] == 0
    assert json.loads(its[1])["tokens"] == 23
    assert "gpt2 cannot be had: HF_HUB_OFFLINE forbids" in published[1]
    a_space = read_space(space(tmp_path, weights))
    with pytest.raises(SweepError, match="gpt2 cannot be had") as refusal:
        _with_weights(replace(a_space, fixed={"gpt.init": "gpt2"}))
    assert "HF_HUB_OFFLINE" in str(refusal.value)
    assert _with_weights(replace(a_space, fixed={"gpt.init": "./gpt2"})).fixed["gpt.init"] == str(
        weights
    )


def test_weights_of_other_tokens_are_refused_before_anything_is_written(
    weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("A text of some length, read in windows. " * 99)
    sizes = {"data.train_tokens": 600, "data.val_tokens": 300, "data.test_tokens": 300}
    sizes |= {"train.batch_tokens": 64, "train.evals": 1}
    settings = {"data.path": tmp_path / "text.txt", "data.tokenizer": "chars", **sizes}
    pairs = [f"{name}={value}" for name, value in {"gpt.init": weights, **settings}.items()]

    words = [word for pair in pairs for word in ("--set", pair)]
    told = invoke("train", "--out", tmp_path / "run", *words)[1]

    assert "the weights of" in told
    assert "know 257 tokens, this text has" in told
    assert not (tmp_path / "run").exists()

    more = "".join(
        f"  {name}: {value}\n" for name, value in settings.items() if "batch" not in name
    )
    with pytest.raises(SweepError, match="know 257 tokens, this text has"):
        _with_data(_with_weights(read_space(space(tmp_path, weights, more))), tmp_path / "run")


def space(tmp_path: Path, init: Path, more: str = "") -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.replace("INIT", str(init)) + more)
    return path


def test_a_space_takes_its_network_from_the_weights(weights: Path, tmp_path: Path) -> None:
    checked = read_space(space(tmp_path, weights))

    assert checked.fixed["gpt.layers"] == 2
    assert checked.fixed["gpt.mlp"] == "gelu_tanh"
    assert len(str(pin(checked.fixed)["gpt.init_digest"])) == 64


def test_a_space_that_searches_what_the_weights_decide_is_refused(
    weights: Path, tmp_path: Path
) -> None:
    path = space(tmp_path, weights)
    path.write_text(path.read_text().replace("fixed:", "  gpt.layers: [1, 2]\nfixed:"))

    with pytest.raises(SweepError, match="gpt.layers.*is decided by the weights of gpt.init"):
        read_space(path)


def test_the_plain_baseline_begins_with_random_weights(weights: Path, tmp_path: Path) -> None:
    from sweep.space.baseline import baseline_points, baseline_settings

    checked = read_space(space(tmp_path, weights, "baseline: {multiples: [1, 2]}\n"))

    settings = baseline_settings(checked, baseline_points(checked)[0])
    assert (settings["gpt.init"], settings["gpt.layers"]) == ("", 2)
