"""`sweep sample` by what it prints and how it ends."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from model.config import Config
from model.data.tokenizer import get_tokenizer
from model.network import GPT
from model.training import export
from sweep.cli.main import cli
from sweep.errors import SweepError

Sample = Callable[..., Result]


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """Runs the verb on a network that was never trained."""
    config = Config.from_settings({"gpt.layers": 1, "gpt.width": 8, "gpt.context": 16})
    tokenizer = get_tokenizer("bytes")
    gpt = GPT(config.gpt, tokenizer.vocabulary).eval()
    export.write(export.Trained(config, gpt, tokenizer, val_loss=5.5), tmp_path / "net")

    def run(*arguments: str, text: str | bytes | None = None) -> Result:
        words = ["sample", str(tmp_path / "net"), "--tokens", "8", *arguments]
        return CliRunner().invoke(cli, words, input=text)

    return run


def test_text_is_on_stdout_and_what_wrote_it_on_stderr(sample: Sample, tmp_path: Path) -> None:
    done = sample("--prompt", "ab")

    assert done.exit_code == 0
    assert done.stdout.startswith("ab")
    assert done.stdout.endswith("\n")
    assert done.stderr.startswith(f"{tmp_path / 'net'}: ")
    assert done.stderr.endswith("parameters, val loss 5.5000\n")


def test_each_of_several_texts_has_the_next_seed(sample: Sample) -> None:
    together = sample("--num", "2", "--seed", "5", "--prompt", "ab").stdout
    alone = [sample("--seed", seed, "--prompt", "ab").stdout for seed in ("5", "6")]

    assert together == f"{alone[0]}---------------\n{alone[1]}"


def test_data_has_every_text_without_its_prompt(sample: Sample) -> None:
    printed = json.loads(sample("--json", "--num", "2", "--prompt", "ab").stdout)
    text = sample("--prompt", "ab").stdout

    assert f"ab{printed['samples'][0]['text']}\n" == text
    assert [its["seed"] for its in printed["samples"]] == [0, 1]


def test_a_prompt_comes_from_a_file_or_from_stdin(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("é€\n", encoding="utf-8")

    of_file = sample("--prompt-file", str(tmp_path / "prompt.txt"))

    assert of_file.stdout.startswith("é€\n")
    assert sample("--prompt-file", "-", text="é€\n").stdout == of_file.stdout
    assert sample("--prompt", "é€\n").stdout == of_file.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "a", "--prompt-file", "b"], "--prompt and --prompt-file exclude each other"),
        (["--prompt-file", "nowhere.txt"], "cannot read the prompt in nowhere.txt: No such file"),
        (["--prompt-file", "-"], r"the prompt in - is not UTF-8 \(byte 1 is no text\)"),
        (["--temperature", "-1"], "--temperature: must be from 0 to 100, got -1"),
        (["--top-k", "-1", "--tokens", "0"], "(?s)--tokens: must be .*--top-k: must be at least 0"),
        (["--prompt", "\udcff"], "prompt: is not UTF-8"),
    ],
)
def test_what_cannot_be_sampled_is_one_message(
    arguments: list[str], message: str, sample: Sample
) -> None:
    done = sample(*arguments, text=b"a\xff")

    assert done.stdout == ""
    with pytest.raises(SweepError, match=message):
        raise done.exception or AssertionError


def test_ctrl_c_stops_without_a_traceback(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> io.StringIO:
        raise KeyboardInterrupt

    monkeypatch.setattr("model.trained.generate.drawn", interrupted)

    done = sample("--prompt", "ab")

    assert (done.exit_code, done.stdout) == (130, "ab")
    assert done.stderr.endswith("\nstopped\n")
