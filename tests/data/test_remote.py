"""Streaming: what is read over HTTP equals what is read from disk, whatever the network does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from server import Server, serving

from model.config.config import DataConfig
from model.config.setting import ConfigError
from model.data import encode, remote
from model.data.batches import open_table
from model.data.remote import open_url, shards

TEXTS = [f"document {i}: " + " ".join(str(i * k % 9973) for k in range(150)) for i in range(400)]
SIZES = {"val_tokens": 2000, "test_tokens": 2000, "train_tokens": 2000}


def parquet_of(texts: list[str]) -> bytes:
    """Several row groups, uncompressed, so that there is something to read in ranges."""
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), file, row_group_size=50, compression="none")
    return file.getvalue()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0)
    monkeypatch.setattr(remote, "READ_AHEAD", 1 << 14)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server({"/a.parquet": parquet_of(TEXTS)})) as running:
        yield running


def stream(path: str, **settings: object) -> DataConfig:
    return DataConfig(path=path, splits="stream", **{**SIZES, **settings})


def test_what_is_streamed_is_what_the_file_holds(server: Server, tmp_path: Path) -> None:
    local = tmp_path / "a.parquet"
    local.write_bytes(server.files["/a.parquet"])

    a, b = (open_table(stream(path)) for path in (f"{server.url}/a.parquet", str(local)))

    assert a.digest == b.digest
    assert all(sent for _, sent, _ in server.requests)  # never the whole file at once


def test_a_prepared_table_needs_no_server(server: Server) -> None:
    data = stream(f"{server.url}/a.parquet", test_tokens=2001)
    digest = open_table(data).digest
    server.requests.clear()

    assert open_table(data).digest == digest
    assert not server.requests


def test_a_budget_reads_only_what_it_needs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "AT_ONCE", 1 << 11)  # each thread reads a few such lots ahead

    open_table(stream(f"{server.url}/a.parquet", pool_tokens=4000))

    read = sum(int(b) - int(a) + 1 for a, b in ranges(server))
    assert read < len(server.files["/a.parquet"]) / 2


def ranges(server: Server) -> list[tuple[str, str]]:
    found = [sent.removeprefix("bytes=").split("-") for _, sent, _ in server.requests if sent]
    return [(first, last) for first, last in found]


def test_a_dropped_connection_goes_on_where_it_broke(server: Server) -> None:
    whole = open_table(stream(f"{server.url}/a.parquet", test_tokens=2002)).digest
    server.drop_after = 5000
    server.requests.clear()

    assert open_table(stream(f"{server.url}/a.parquet?again", test_tokens=2002)).digest == whole
    starts = [int(first) for first, _ in ranges(server)]
    assert len(starts) > len(server.files["/a.parquet"]) / 5000


def test_bytes_are_right_when_every_answer_breaks_off(server: Server) -> None:
    server.drop_after = 777

    with open_url(f"{server.url}/a.parquet") as file:
        file.seek(1000)
        assert file.read(9000) == server.files["/a.parquet"][1000:10_000]
        file.seek(-4, io.SEEK_END)
        assert file.read() == b"PAR1"


def test_a_server_that_sends_nothing_is_given_up_on(server: Server) -> None:
    with open_url(f"{server.url}/a.parquet") as file:
        server.drop_after = 0
        with pytest.raises(ConfigError, match=r"breaks off at byte 0 of .*, 6 times; try again"):
            file.read(10)


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.failures = [503, 429, 500]

    with open_url(f"{server.url}/a.parquet") as file:
        assert file.read(4) == b"PAR1"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been slept, none of which are."""
    seconds: list[float] = []
    monkeypatch.setattr(remote, "PATIENCE", 0.5)
    monkeypatch.setattr(remote.time, "sleep", seconds.append)
    return seconds


def test_nobody_waits_after_the_last_attempt(server: Server, pauses: list[float]) -> None:
    server.failures = [500] * 6

    with pytest.raises(ConfigError, match="answers 500"):
        open_url(f"{server.url}/a.parquet")
    assert pauses == [0.5, 1, 2, 4, 8]


def test_nobody_waits_after_the_last_connection_that_gave_nothing(
    server: Server, pauses: list[float]
) -> None:
    with open_url(f"{server.url}/a.parquet") as file:
        server.drop_after = 0
        with pytest.raises(ConfigError, match="6 times; try again later"):
            file.read(10)
    assert pauses == [0.5, 1, 2, 4, 8]


def test_a_refusal_waits_for_nothing(server: Server, pauses: list[float]) -> None:
    server.failures = [404]

    with pytest.raises(ConfigError, match="has no such file"):
        open_url(f"{server.url}/a.parquet")
    assert pauses == []


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "has no such file"), (401, "set HF_TOKEN"), (403, "does not let you"), (418, "418")],
)
def test_a_refusal_is_told_at_once(server: Server, status: int, message: str) -> None:
    server.failures = [status]

    with pytest.raises(ConfigError, match=message):
        open_url(f"{server.url}/a.parquet")
    assert len(server.requests) == 1


def test_no_server_is_explained(server: Server) -> None:
    with pytest.raises(ConfigError, match="cannot be reached"):
        open_url("http://127.0.0.1:9/a.parquet")


def test_a_server_without_ranges_is_explained(server: Server) -> None:
    server.ranges = False

    with pytest.raises(ConfigError, match="does not serve ranges; download the file"):
        open_table(stream(f"{server.url}/a.parquet", test_tokens=2003))


def test_bytes_that_nobody_asked_for_are_ignored(server: Server) -> None:
    with open_url(f"{server.url}/a.parquet") as file:
        server.too_many = 100_000
        assert file.read(40_000) == server.files["/a.parquet"][:40_000]


def test_other_bytes_than_asked_for_are_refused(server: Server) -> None:
    with open_url(f"{server.url}/a.parquet") as file:
        server.too_late = 10
        with pytest.raises(ConfigError, match=r"sends other bytes than .* \(bytes 10-.* from 0\)"):
            file.read(4)


def test_a_file_that_changes_underway_is_refused(server: Server) -> None:
    server.tags = (str(n) for n in count())

    with pytest.raises(ConfigError, match="changed while it was read"):
        open_table(stream(f"{server.url}/a.parquet", test_tokens=2004))


@pytest.mark.parametrize("kept", [0, 3, 1000, 20_000])
def test_a_truncated_shard_is_explained(server: Server, kept: int) -> None:
    server.files["/a.parquet"] = server.files["/a.parquet"][:kept]

    with pytest.raises(ConfigError, match="damaged Parquet file, perhaps cut short|file is empty"):
        open_table(stream(f"{server.url}/a.parquet", test_tokens=2005 + kept))


HUB = "/api/datasets/someone/some-text"


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Two shards of a data set, listed on two pages, at a commit that `main` stands for."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    halves = {"one": parquet_of(TEXTS[:200]), "two": parquet_of(TEXTS[200:])}
    at = "/datasets/someone/some-text/resolve/c0ffee/sample"
    server.files |= {f"{at}/{name}.parquet": content for name, content in halves.items()}
    entries = [
        {"type": "file", "path": f"sample/{name}.parquet", "size": len(content)}
        for name, content in halves.items()
    ]
    sample = f"{HUB}/tree/c0ffee/sample"
    server.hub = {
        f"{HUB}/revision/main": {"sha": "c0ffee"},  # type: ignore[dict-item]
        f"{sample}?recursive=true": [{"type": "directory", "path": "sample/x"}, entries[1]],
        f"{sample}?recursive=true&page=2": [entries[0]],
    }
    return server


def test_the_hubs_shards_are_read_in_order_at_the_commit_of_the_day(hub: Server) -> None:
    table = open_table(stream("hf://datasets/someone/some-text/sample"))

    assert table.recorded["commit"] == "c0ffee"
    first = table.tokenizer.decode(table.val[: len(TEXTS[0]) + 1])
    assert first == TEXTS[0]
    assert table.digest == open_table(stream(f"{hub.url}/a.parquet", test_tokens=2000)).digest


def test_a_shard_shorter_than_listed_is_refused(hub: Server) -> None:
    path = "/datasets/someone/some-text/resolve/c0ffee/sample/one.parquet"
    hub.files[path] = hub.files[path][:-100]

    with pytest.raises(ConfigError, match="is truncated: it has .* where .* are listed"):
        open_table(stream("hf://datasets/someone/some-text/sample", test_tokens=2006))


def test_one_shard_and_one_revision_can_be_named(hub: Server) -> None:
    hub.hub[f"{HUB}/revision/v1"] = {"sha": "c0ffee"}  # type: ignore[assignment]

    found, _ = shards("hf://datasets/someone/some-text@v1/sample/two.parquet")

    assert [shard.name.rpartition("/")[2] for shard in found] == ["two.parquet"]


@pytest.mark.parametrize("given", ["refs/convert/parquet", "refs%2Fconvert%2Fparquet"])
def test_a_branch_of_the_hubs_own_has_slashes_in_its_name(hub: Server, given: str) -> None:
    hub.hub[f"{HUB}/revision/refs%2Fconvert%2Fparquet"] = {"sha": "c0ffee"}  # type: ignore[assignment]

    found, _ = shards(f"hf://datasets/someone/some-text@{given}/sample")

    assert len(found) == 2


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("hf://datasets/someone", "expected hf://datasets/OWNER/NAME"),
        ("hf://datasets/someone/other/sample", "has no such file"),
        ("memory://nothing", "no Parquet files at memory://nothing"),
        ("nosuch://x", "cannot look at nosuch://x"),
    ],
)
def test_an_address_without_data_is_explained(hub: Server, path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_table(stream(path))


def test_the_token_goes_to_the_hub_alone(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    shards("hf://datasets/someone/some-text/sample")
    assert {token for _, _, token in hub.requests} == {"Bearer secret"}

    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    hub.requests.clear()
    open_url(f"{hub.url}/a.parquet").close()
    assert {token for _, _, token in hub.requests} == {None}


def test_any_file_system_that_arrow_or_fsspec_knows_can_be_read(tmp_path: Path) -> None:
    import fsspec

    content = parquet_of(TEXTS)
    (tmp_path / "a.parquet").write_bytes(content)
    fsspec.filesystem("memory").pipe("/texts/a.parquet", content)

    tables = [open_table(stream(uri)) for uri in (tmp_path.as_uri(), "memory://texts")]

    assert tables[0].digest == tables[1].digest
    assert np.array_equal(tables[0].train, tables[1].train)
