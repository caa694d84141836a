"""Published weights from the hub: once, whole, as listed, whatever the network does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gpt2_files
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from server import Server, serving

from model.config import Config, ConfigError
from model.data import remote
from model.data.batches import open_table
from model.pretrained import download, fill_in, find_source, hub, pin
from model.pretrained.architecture import PUBLISHED, Shape
from model.training import checkpoint
from model.training.train import begin
from sweep.cli.main import cli
from sweep.errors import SweepError

AT = "/openai-community/gpt2/resolve/c0ffee"
WEIGHTS, STORED = f"{AT}/model.safetensors", "/repos/0a/1b?signature=x"
SHAPE = Shape(layers=2, width=16, heads=2, context=32, vocabulary=257)


@pytest.fixture
def cdn() -> Iterator[Server]:
    """Where the hub keeps large files: another host, which is not told who asks."""
    with serving(Server({})) as running:
        yield running


@pytest.fixture
def server(cdn: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The hub with a small gpt2: large files are answered with where they are and what they are."""
    folder = gpt2_files.write_gpt2(tmp_path / "published")
    cdn.files["/repos/0a/1b"] = (folder / "model.safetensors").read_bytes()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(remote, "PATIENCE", 0)
    monkeypatch.setattr(download, "BLOCK", 1000)
    monkeypatch.setitem(PUBLISHED, "gpt2", SHAPE)
    with serving(Server({f"{AT}/config.json": (folder / "config.json").read_bytes()})) as running:
        main: Any = {"sha": "c0ffee"}
        running.hub["/api/models/openai-community/gpt2/revision/main"] = main
        list_as(running, cdn, cdn.files["/repos/0a/1b"])
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def list_as(server: Server, cdn: Server, content: bytes) -> None:
    """Let the hub say that the weights are `content`."""
    digest = hashlib.sha256(content).hexdigest()
    said = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{digest}"'}
    server.moved[WEIGHTS] = (f"{cdn.url}{STORED}", said)


@pytest.fixture
def snapshot(server: Server, tmp_path: Path) -> Path:
    return tmp_path / "home/hub/models--openai-community--gpt2/snapshots/c0ffee"


def starts(cdn: Server) -> list[int]:
    """The bytes at which the weights were asked for."""
    return [int(sent[6:-1]) for _, sent, _ in cdn.requests if sent]


def test_a_run_begins_with_weights_that_are_downloaded_once(
    server: Server, cdn: Server, snapshot: Path, small: dict[str, object], tmp_path: Path
) -> None:
    """They lie where Hugging Face's own library looks for them."""
    asked = {n: v for n, v in small.items() if n not in ("gpt.layers", "gpt.width")}
    its = Config.from_settings(pin(fill_in({**asked, "gpt.init": "gpt2"})))
    server.requests.clear(), cdn.requests.clear()
    tokens_BT = np.arange(60).reshape(2, 30) * 7 % 257

    run = begin(its, open_table(its.data), tmp_path / "run", checkpoint.RunState({}, ()))
    with torch.no_grad():
        ours = run.gpt.eval()(torch.from_numpy(tokens_BT)).numpy()
    again = pin({"gpt.init": "gpt2"})

    np.testing.assert_allclose(ours, gpt2_files.logits(gpt2_files.tensors(), tokens_BT), atol=1e-4)
    assert again["gpt.init_digest"] == its.gpt.init_digest
    assert not server.requests + cdn.requests
    assert sorted(file.name for file in snapshot.iterdir()) == ["config.json", "model.safetensors"]
    assert (snapshot.parents[1] / "refs/main").read_text() == "c0ffee"


def test_the_token_goes_to_the_hub_and_not_to_where_it_sends_us(
    server: Server, cdn: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")

    find_source("gpt2", fetch=True)

    assert {token for _, _, token in server.requests} == {"Bearer secret"}
    assert {token for _, _, token in cdn.requests} == {None}


def test_a_dropped_connection_goes_on_at_the_byte_where_it_broke(
    server: Server, cdn: Server, snapshot: Path
) -> None:
    cdn.drop_after = 5000

    find_source("gpt2", fetch=True)

    content = cdn.files["/repos/0a/1b"]
    assert starts(cdn) == list(range(0, len(content), 5000))
    assert (snapshot / "model.safetensors").read_bytes() == content


def test_a_download_that_was_given_up_is_gone_on_with_by_the_next(
    server: Server, cdn: Server, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silence(text: str) -> None:
        if text.startswith("model.safetensors: "):
            cdn.drop_after = 0

    cdn.drop_after = 5000
    monkeypatch.setattr(hub, "_say", silence)
    monkeypatch.setattr(download, "SECONDS_BETWEEN", 0)

    with pytest.raises(ConfigError, match=r"breaks off at byte 5,000 of .*; try again later"):
        find_source("gpt2", fetch=True)
    assert not (snapshot / "model.safetensors").exists()
    assert hub.on_disk("gpt2") is None
    cdn.drop_after = None
    cdn.requests.clear()
    find_source("gpt2", fetch=True)

    assert starts(cdn) == [5000]
    assert (snapshot / "model.safetensors").read_bytes() == cdn.files["/repos/0a/1b"]


def test_a_server_without_ranges_begins_again(server: Server, cdn: Server, snapshot: Path) -> None:
    cdn.ranges = False
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors.part").write_bytes(b"of an earlier call")

    find_source("gpt2", fetch=True)

    assert (snapshot / "model.safetensors").read_bytes() == cdn.files["/repos/0a/1b"]


def test_another_file_than_the_listed_one_is_refused_and_not_kept(
    server: Server, cdn: Server, snapshot: Path
) -> None:
    content = cdn.files["/repos/0a/1b"]
    cdn.files["/repos/0a/1b"] = content[:-1] + bytes([content[-1] ^ 1])

    with pytest.raises(ConfigError, match=r"its SHA-256 is .*, expected .*; nothing was kept"):
        find_source("gpt2", fetch=True)
    assert [file.name for file in snapshot.iterdir()] == ["config.json"]
    cdn.files["/repos/0a/1b"] = content
    find_source("gpt2", fetch=True)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_of_another_size_is_refused(server: Server, cdn: Server, ranges: bool) -> None:
    content = cdn.files["/repos/0a/1b"]
    cdn.files["/repos/0a/1b"] = content + b"more"
    cdn.ranges = ranges

    size = f"{len(content) + 4}" if ranges else f"{len(content) + 4:,} bytes"
    with pytest.raises(ConfigError, match=f"{size}, expected"):
        find_source("gpt2", fetch=True)


@pytest.mark.parametrize("stored", [b"", b"x" * 100_000])
def test_what_is_left_of_another_file_does_no_harm(
    server: Server, cdn: Server, snapshot: Path, stored: bytes
) -> None:
    """At worst it is refused once."""
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors.part").write_bytes(stored)
    if stored:
        with pytest.raises(ConfigError, match="nothing was kept"):
            find_source("gpt2", fetch=True)

    find_source("gpt2", fetch=True)

    assert (snapshot / "model.safetensors").read_bytes() == cdn.files["/repos/0a/1b"]


@pytest.mark.parametrize(
    ("failures", "why"),
    [
        ([404], "has no such file"),
        ([401], "asks who you are; set HF_TOKEN"),
        ([403], "does not let you read it; set HF_TOKEN"),
        ([503] * 6, "answers 503"),
        (None, "cannot be reached"),
        ("page", "does not answer as the hub does"),
    ],
)
def test_weights_that_are_not_to_be_had_are_one_message(
    server: Server, monkeypatch: pytest.MonkeyPatch, failures: Any, why: str
) -> None:
    if failures is None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    elif failures == "page":
        server.hub.clear()
        server.files["/api/models/openai-community/gpt2/revision/main"] = b"<html>Log in</html>"
    else:
        server.failures = failures

    for words in (["sample", "gpt2", "--prompt", "a"], ["train", "--set", "gpt.init=gpt2"]):
        server.failures = list(failures) if isinstance(failures, list) else []
        error = CliRunner().invoke(cli, words).exception
        assert isinstance(error, SweepError), error
        assert error.code == 2
        assert f"{why}" in str(error)
        assert str(error).count("download config.json and model.safetensors of https") == 1
        assert "HTTPConnectionPool" not in str(error)


def test_variables_are_read_as_hugging_faces_own_library_reads_them(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", "~/other")
    monkeypatch.setenv("HF_HUB_OFFLINE", "false")

    source = find_source("gpt2", fetch=True)

    assert source.path.is_relative_to(tmp_path / "other/hub")


def test_a_cache_that_cannot_be_written_is_one_message(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))

    with pytest.raises(ConfigError, match=r"gpt2 cannot be had: it cannot be written: .*file"):
        find_source("gpt2", fetch=True)


def test_of_two_that_want_the_weights_one_downloads_them(server: Server, cdn: Server) -> None:
    with ThreadPoolExecutor(2) as both:
        one, two = both.map(lambda _: find_source("gpt2", fetch=True), range(2))

    assert one.digest() == two.digest()
    assert starts(cdn) == [0]


def test_a_long_download_says_how_far_it_is(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "SECONDS_BETWEEN", 0)

    find_source("gpt2", fetch=True)

    out, err = capsys.readouterr()
    assert not out
    assert "downloading model.safetensors of openai-community/gpt2 (once)" in err
    assert "model.safetensors: 0 of 0 MB" in err


def test_checking_a_space_downloads_nothing(server: Server, tmp_path: Path, corpus: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "search:\n  optim.lr: {min: 1e-5, max: 1e-3, log: true}\n"
        f"fixed:\n  gpt.init: gpt2\n  data.path: {corpus}\n  data.val_tokens: 2000\n"
        "  data.test_tokens: 0\n  data.train_tokens: 8000\n  train.batch_tokens: 256\n"
    )

    checked = CliRunner().invoke(cli, ["check", str(space)])

    assert checked.exit_code == 0, (checked.output, checked.exception)
    assert not server.requests
