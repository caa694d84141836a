from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiktoken
import torch
import yaml
from click.testing import CliRunner, Result
from server import Server, serving

from model.config.config import Config, DataConfig
from model.config.setting import ConfigError
from model.data import slowrun_files as fineweb
from model.data.batches import open_table
from model.network.gpt import GPT
from model.training import checkpoint
from model.training.device import runtime
from model.training.evaluate import HeldOut, evaluate
from model.training.train import train
from sweep.cli.data import _settings
from sweep.cli.main import cli
from sweep.errors import SweepError

SIZES = ("--val-tokens", "600", "--test-tokens", "400", "--train-tokens", "1K")


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["data", *map(str, arguments)])


def test_a_table_is_prepared_and_shown(corpus: Path) -> None:
    prepared = sweep("prepare", corpus, *SIZES)
    shown = sweep("info", corpus, *SIZES)

    assert prepared.exit_code == shown.exit_code == 0
    assert prepared.stdout == shown.stdout
    about = json.loads(sweep("info", corpus, *SIZES, "--json").stdout)
    assert about["tokens"]["val"] == 600
    assert about["digest"] in shown.stdout
    assert about["settings"]["data.path"] == str(corpus)


@pytest.mark.parametrize("name", ["plain", 'with #1 and: "spaces"', "é: -", "10"])
def test_what_is_printed_can_be_put_into_a_space(
    name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    printed = sweep("prepare", name, *SIZES).stdout
    fixed = printed[printed.index("fixed:") :]
    space = tmp_path / "space.yaml"
    space.write_text(
        f"search:\n  optim.lr: [0.01, 0.02]\n{fixed}  train.evals: 2\n  train.batch_tokens: 128\n"
    )

    checked = CliRunner().invoke(cli, ["check", str(space)])

    assert checked.exit_code == 0, checked.exception
    assert yaml.safe_load(fixed)["fixed"]["data.path"] == name


def test_the_path_of_the_embedded_corpus_is_printed_as_text() -> None:
    printed = sweep("prepare", *SIZES).stdout

    assert yaml.safe_load(printed[printed.index("fixed:") :])["fixed"]["data.path"] == ""


def test_a_table_file_is_shown_by_itself(corpus: Path) -> None:
    about = json.loads(sweep("prepare", corpus, *SIZES, "--tokenizer", "chars", "--json").stdout)

    shown = json.loads(sweep("info", about["table"], "--json").stdout)

    assert shown["digest"] == about["digest"]
    assert shown["settings"]["data.tokenizer"] == "chars"


def test_nobodys_word_is_taken_for_what_bare_tokens_mean(tmp_path: Path) -> None:
    """Characters without their meta.pkl pass for bytes."""
    for name in ("train", "val"):
        seed = len(name)
        tokens = np.random.default_rng(seed).integers(0, 65, 3000)
        tokens.astype(np.uint16).tofile(tmp_path / f"{name}.bin")

    shown = sweep("prepare", tmp_path, *SIZES).stdout

    assert "bytes, 257 tokens" in shown
    assert "data.tokenizer says so, the files do not tell" in shown


def write_shakespeare_char(folder: Path) -> None:
    """data/shakespeare_char/prepare.py: nine tenths of the characters, then the rest."""
    text = "".join(f"LINE {number}: {number * 7919 % 1000} and so on.\n" for number in range(420))
    characters = sorted(set(text))
    stoi = {c: i for i, c in enumerate(characters)}
    cut = int(len(text) * 0.9)
    for name, part in (("train", text[:cut]), ("val", text[cut:])):
        np.array([stoi[c] for c in part], dtype=np.uint16).tofile(folder / f"{name}.bin")
    meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": stoi}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def write_slowrun(folder: Path) -> None:
    """prepare_data.py since #76: the stream and where its documents begin."""
    random = np.random.default_rng(0)
    for name, tokens in (("train", 9000), ("val", 1000)):
        ids = random.integers(0, 50256, tokens)
        ids[::90] = 50256
        about = {"tokens": torch.from_numpy(ids.astype(np.uint16)), "bos_id": 50256}
        about["doc_starts"] = torch.from_numpy(np.flatnonzero(ids == 50256))
        torch.save({**about, "seq_size": 2049}, folder / f"fineweb_{name}.pt")


TINY = {
    "gpt.layers": 2,
    "gpt.width": 32,
    "gpt.head_width": 16,
    "gpt.context": 32,
    "gpt.mlp_multiple": 8,
    "train.batch_tokens": 1024,
    "train.micro_batch_tokens": 0,
    "train.epochs": 1,
    "train.average_last": 1,
    "train.evals": 1,
    "train.precision": "fp32",
    "train.device": "cpu",
    "optim.cycle_epochs": 1,
}


@pytest.mark.usefixtures("toy_gpt2")
@pytest.mark.parametrize(
    ("preset", "write", "sizes"),
    [
        ("nanogpt-char-cpu", write_shakespeare_char, (9000, 900)),
        ("slowrun-tiny", write_slowrun, (2100, 1000)),
        ("gpt2-124m", write_slowrun, (2100, 1000)),
    ],
)
def test_a_preset_trains_on_its_authors_own_folder_and_says_that_nothing_is_sealed(
    preset: str, write: Callable[[Path], None], sizes: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    write(tmp_path / "theirs")
    settings = {**TINY, "data.path": tmp_path / "theirs"}
    settings |= {"data.train_tokens": sizes[0], "data.val_tokens": sizes[1]}
    options = [word for item in settings.items() for word in ("--set", "=".join(map(str, item)))]

    done = CliRunner().invoke(
        cli, ["train", "--preset", preset, *options, "--out", str(tmp_path / "run")]
    )

    assert done.exit_code == 0, done.exception
    assert "100.0 %" in done.stdout
    assert f"val {sizes[1]:,}, test 0; there is no test split, so nothing is sealed" in done.stderr


def test_a_table_without_a_test_split_says_that_nothing_is_sealed(
    corpus: Path, tmp_path: Path
) -> None:
    write_shakespeare_char(tmp_path)

    shown = sweep("prepare", tmp_path, "--val-tokens", 900).stdout

    assert "sealed      there is no test split, so nothing is sealed" in shown
    assert "sealed" not in sweep("prepare", corpus, *SIZES).stdout


def test_an_altered_table_is_refused_with_both_digests(corpus: Path, tmp_path: Path) -> None:
    about = json.loads(sweep("prepare", corpus, *SIZES, "--json").stdout)
    altered = tmp_path / "altered.arrow"
    altered.write_bytes(Path(about["table"]).read_bytes().replace(b"7\0", b"8\0"))

    refused = sweep("info", altered).exception

    assert isinstance(refused, SweepError)
    assert f"recorded digest {about['digest']}, its tokens have" in str(refused)


def test_duplicates_are_looked_for(corpus: Path) -> None:
    sweep("prepare", corpus, *SIZES)

    found = json.loads(sweep("duplicates", corpus, *SIZES, "--near", "0.9", "--json").stdout)

    assert found["near"] == []
    assert found["recorded"] == {"dropped": 0}
    assert 0 <= found["val_passages_in_train"] <= 1
    assert "of its passages of 64 tokens" in sweep("duplicates", corpus, *SIZES).stdout


def test_a_trained_run_says_how_hard_each_document_is(
    corpus: Path, small: dict[str, object], tmp_path: Path
) -> None:
    """Weighted by length, the documents' losses are the loss on all of train."""
    config = Config.from_settings({**small, "train.epochs": 4})
    list(train(config, tmp_path / "run"))
    sizes = ("--val-tokens", 1025, "--test-tokens", 1025)

    scored = sweep("score", tmp_path / "run", corpus, *sizes, "--out", tmp_path / "losses.npy")

    assert scored.exit_code == 0, scored.exception
    losses_N = np.load(tmp_path / "losses.npy")
    table = open_table(config.data)
    length_N = np.diff(table.documents["train"])
    length_N[0] -= 1  # the first token of all is not predicted
    gpt = GPT(config.gpt, table.vocabulary)
    gpt.load_state_dict(checkpoint.restore(tmp_path / "run")["gpt"])
    held_out = HeldOut(table.train, table.token_lengths, config.gpt.context)
    whole = evaluate(gpt, held_out, runtime(config)).loss
    assert np.average(losses_N, weights=length_N) == pytest.approx(whole, rel=1e-5)

    settings = {"data.curriculum": "reference", "data.reference": str(tmp_path / "losses.npy")}
    assert list(train(Config.from_settings({**small, **settings}), tmp_path / "again"))[-1].done


def test_what_is_no_run_scores_nothing(corpus: Path, tmp_path: Path) -> None:
    sweep("prepare", corpus, *SIZES)

    with pytest.raises(SweepError, match="holds no trained run"):
        raise sweep("score", tmp_path, corpus, *SIZES).exception or AssertionError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "{corpus}", "--val-tokens", "17"), "is not prepared with these settings"),
        (("prepare", "nowhere"), "no such file or folder: nowhere"),
        (("prepare", "{corpus}", "--splits", "hsh"), "did you mean hash?"),
        (("prepare", "{corpus}", "--val-tokens", "-3", "--test-tokens", "x"), "got 'x'"),
        (("prepare", "{corpus}", "--val-tokens", "1B"), "the corpus has .* tokens, but"),
    ],
)
def test_mistakes_are_one_message(arguments: tuple[str, ...], message: str, corpus: Path) -> None:
    result = sweep(*(word.replace("{corpus}", str(corpus)) for word in arguments))

    assert isinstance(result.exception, SweepError)
    with pytest.raises(SweepError, match=message):
        raise result.exception


def test_fineweb_is_slowruns_stream() -> None:
    options = {"train_tokens": "1M", "val_tokens": None, "tokenizer": None}

    assert _settings("fineweb", options) == {
        "data.path": fineweb.FINEWEB,
        "data.tokenizer": "gpt2",
        "data.splits": "stream",
        "data.train_tokens": "1M",
        "data.pool_tokens": "1M",
        "data.val_tokens": "10M",
        "data.test_tokens": "10M",
    }


TEXTS = [f"Document {i} of the stream, {i * 7919 % 1000}." * (1 + i % 9) for i in range(300)]


def slowruns_files(folder: Path, val_tokens: int, train_tokens: int) -> dict[str, str]:
    """What Slowrun's prepare_data.py leaves, written from its description."""
    encoding, texts = tiktoken.get_encoding("gpt2"), iter(TEXTS)
    digests = {}
    for split, budget, seed in (("val", val_tokens, 42), ("train", train_tokens, 43)):
        tokens: list[int] = []
        starts = []
        while len(tokens) < budget:
            starts.append(len(tokens))
            tokens += [50256, *encoding.encode_ordinary(next(texts))]
        path = folder / f"fineweb_{split}.pt"
        about = {
            "tokens": torch.from_numpy(np.array(tokens[:budget], dtype=np.uint16)),
            "doc_starts": torch.from_numpy(np.array(starts, dtype=np.int64)),
            "bos_id": 50256,
            "seq_shuffle_seed": seed,
            "seq_size": 2049,
        }
        torch.save(about, path)
        digests[split] = fineweb.file_digest(path)
    return digests


@pytest.fixture
def hub(gpt2: tiktoken.Encoding, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A hub with a small FineWeb, and a Slowrun whose budgets fit it."""
    monkeypatch.setattr(fineweb, "TOKENS", {"train": 5000, "val": 1000})
    repository = "HuggingFaceFW/fineweb"
    server = Server({})
    entries = []
    for number in range(3):
        file = io.BytesIO()
        pq.write_table(pa.table({"text": TEXTS[number * 100 : number * 100 + 100]}), file)
        path = f"sample/10BT/{number:03}_00000.parquet"
        server.files[f"/datasets/{repository}/resolve/abc/{path}"] = file.getvalue()
        entries.append({"type": "file", "path": path, "size": len(file.getvalue())})
    server.hub[f"/api/datasets/{repository}/revision/main"] = {"sha": "abc"}  # type: ignore[assignment]
    server.hub[f"/api/datasets/{repository}/tree/abc/sample/10BT?recursive=true"] = entries
    return server


SLOWRUN = ("fineweb", "--train-tokens", "5000", "--val-tokens", "1000", "--test-tokens", "500")


def test_fineweb_by_slowruns_rule_is_slowruns_file(
    hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamed here, and written by their script: the same file, and the same table."""
    digests = slowruns_files(tmp_path, 1000, 5000)
    monkeypatch.setattr(fineweb, "DIGESTS", digests)
    with serving(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        streamed = json.loads(sweep("prepare", *SLOWRUN, "--json").stdout)
    theirs = ("--tokenizer", "gpt2", "--val-tokens", "1000", "--test-tokens", "0")

    imported = json.loads(sweep("prepare", tmp_path, *theirs, "--json").stdout)

    assert streamed["slowrun"] == digests
    assert streamed["commit"] == "abc"
    assert all(streamed["digests"][n] == imported["digests"][n] for n in ("train", "val"))
    assert streamed["documents"]["train"] == imported["documents"]["train"]


def test_other_tokens_than_slowruns_are_refused_with_both_digests(
    hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        refused = sweep("prepare", *SLOWRUN).exception

    assert isinstance(refused, SweepError)
    assert f"fineweb_train.pt has SHA-256 {fineweb.DIGESTS['train']}" in str(refused)
    assert "data.digest: set it to" in str(refused)


def test_tokens_that_one_run_took_are_still_refused_to_the_next(
    hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is the same, made once; a digest given says that the user looked."""
    with serving(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        refused = str(sweep("prepare", *SLOWRUN).exception)
    digest = refused.partition("set it to ")[2].split()[0]
    data = DataConfig(
        path=fineweb.FINEWEB,
        tokenizer="gpt2",
        splits="stream",
        pool_tokens=5000,
        train_tokens=5000,
        val_tokens=1000,
        test_tokens=500,
    )

    assert open_table(replace(data, digest=digest)).digest == digest
    with pytest.raises(ConfigError, match=r"fineweb_train.pt has SHA-256"):
        open_table(data)


def test_another_budget_is_not_compared_with_slowruns(
    hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        prepared = sweep("prepare", "fineweb", *SLOWRUN[3:], "--train-tokens", "4000")

    assert prepared.exit_code == 0, prepared.exception
