"""Files that are elsewhere, read by ranges: HTTP, the Hugging Face hub, and any pyarrow.fs URI.

A dropped connection is taken up again at the byte where it broke; what cannot be mended is one
message. The hub's branch names move, so the commit they stood for is looked up and recorded.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import requests

from model.config import ConfigError

HUB = "hf://datasets/"
# A branch that the hub makes itself has slashes in its name.
ON_THE_HUB = re.compile(
    HUB + r"([^/@]+/[^/@]+)(?:@(refs/(?:convert|pr)/[^/]+|[^/]+))?(?:/(.*))?", re.DOTALL
)
READ_AHEAD = 4 << 20  # bytes of one request; a shard is never whole in memory
ATTEMPTS = 6  # without a single byte of progress
PATIENCE = 0.5  # seconds before the second attempt; doubled each time
TIMEOUT = (10, 60)  # seconds to connect, and between bytes
EXPLAINED = {
    401: "asks who you are; set HF_TOKEN if it is private",
    403: "does not let you read it; set HF_TOKEN if it is private",
    404: "has no such file",
    416: "says the file is empty",
}


@dataclass(frozen=True)
class Shard:
    """One remote file: what to call it and how to open it for reading by ranges."""

    name: str
    open: Callable[[], Any]


def shards(uri: str) -> tuple[list[Shard], str]:
    """The Parquet files at `uri`, sorted by name, and the commit they are of, if there is one.

    uri   a file, or a folder of files where folders can be listed
    Raises ConfigError if nothing is there or it cannot be reached.
    """
    if uri.startswith(HUB):
        return _on_the_hub(uri)
    if uri.startswith(("http://", "https://")):
        return [Shard(uri, lambda: open_url(uri))], ""
    return _on_a_file_system(uri), ""


def _on_the_hub(uri: str) -> tuple[list[Shard], str]:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    parts = ON_THE_HUB.fullmatch(uri)
    if parts is None:
        raise ConfigError([f"data.path: expected {HUB}OWNER/NAME[@REVISION]/FOLDER, got {uri}"])
    owner_and_name, revision, folder = (part or "" for part in parts.groups())
    api = f"{endpoint}/api/datasets/{owner_and_name}"
    revision = quote(unquote(revision or "main"), safe="")
    commit = str(ask(f"{api}/revision/{revision}").json()["sha"])
    above = folder.rpartition("/")[0] if folder.endswith(".parquet") else folder
    listing: str | None = f"{api}/tree/{commit}/{quote(above)}?recursive=true"
    entries = []
    while listing:
        page = ask(listing)
        entries += page.json()
        listing = page.links.get("next", {}).get("url")
    sizes = {
        entry["path"]: entry["size"]
        for entry in entries
        if entry["type"] == "file" and entry["path"].endswith(".parquet")
    }
    if folder.endswith(".parquet"):
        sizes = {path: size for path, size in sizes.items() if path == folder}
    if not sizes:
        raise ConfigError([f"data.path: no Parquet files at {uri} (commit {commit})"])
    at = f"{endpoint}/datasets/{owner_and_name}/resolve/{commit}"
    return [_hub_shard(f"{at}/{quote(path)}", sizes[path]) for path in sorted(sizes)], commit


def _hub_shard(url: str, size: int) -> Shard:
    return Shard(url, lambda: open_url(url, size))


def _on_a_file_system(uri: str) -> list[Shard]:
    import fsspec
    import pyarrow as pa
    from pyarrow import fs

    try:
        try:
            files, path = fs.FileSystem.from_uri(uri)
        except pa.ArrowInvalid:  # not one of Arrow's own
            other, path = fsspec.core.url_to_fs(uri)
            files = fs.PyFileSystem(fs.FSSpecHandler(other))
        there = files.get_file_info(path)
        if there.type == fs.FileType.Directory:
            listed = files.get_file_info(fs.FileSelector(path, recursive=True))
            paths = sorted(f.path for f in listed if f.path.endswith(".parquet"))
        else:
            paths = [path] if there.type == fs.FileType.File else []
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        raise ConfigError([f"data.path: cannot look at {uri}: {error}"]) from None
    if not paths:
        raise ConfigError([f"data.path: no Parquet files at {uri}"])
    return [_file_system_shard(files, path) for path in paths]


def _file_system_shard(files: Any, path: str) -> Shard:
    return Shard(path, lambda: files.open_input_file(path))


def open_url(url: str, size: int | None = None) -> io.BufferedReader:
    """The file at `url` for random access.

    size   bytes that it must have, if they are known
    Raises ConfigError if it cannot be read by ranges, or has another size.
    """
    return io.BufferedReader(RangeFile(url, size), READ_AHEAD)


class RangeFile(io.RawIOBase):
    """A file behind HTTP, of which only the bytes that are read are fetched."""

    def __init__(self, url: str, size: int | None = None) -> None:
        self.url, self.position = url, 0
        self.session = requests.Session()
        with self._request(0, 1) as answer:
            self.tag = answer.headers.get("ETag")
            self.length = _total(answer, url)
        if size is not None and self.length != size:
            raise ConfigError(
                [
                    f"data.path: {url} is truncated: it has {self.length:,} bytes where "
                    f"{size:,} are listed"
                ]
            )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {0: 0, 1: self.position, 2: self.length}[whence]
        return self.position

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as one connection gets; the reader above asks for the rest."""
        wanted = min(len(buffer), self.length - self.position)
        if wanted <= 0:
            return 0
        for _ in attempts():
            got = 0
            try:
                with self._request(self.position, wanted) as answer:
                    self._check_same(answer)
                    answer.raw.enforce_content_length = False  # or a short answer would be lost
                    for part in answer.iter_content(1 << 16):
                        part = part[: wanted - got]  # some send more than they were asked for
                        buffer[got : got + len(part)] = part
                        got += len(part)
            except requests.RequestException:
                pass  # the connection broke: what came before is kept
            if got:
                self.position += got
                return got
        raise ConfigError(
            [
                f"data.path: {self.url} breaks off at byte {self.position:,} of {self.length:,}, "
                f"{ATTEMPTS} times; try again later"
            ]
        )

    def close(self) -> None:
        if not self.closed:
            self.session.close()
        super().close()

    def _request(self, start: int, length: int) -> requests.Response:
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        answer = ask(self.url, self.session, headers)
        if answer.status_code != requests.codes.partial_content:
            answer.close()
            raise ConfigError(
                [
                    f"data.path: the server of {self.url} does not serve ranges; "
                    "download the file and give its path"
                ]
            )
        return answer

    def _check_same(self, answer: requests.Response) -> None:
        if answer.headers.get("ETag") != self.tag or _total(answer, self.url) != self.length:
            raise ConfigError([f"data.path: {self.url} changed while it was read; start again"])
        sent = answer.headers["Content-Range"]
        if not sent.startswith(f"bytes {self.position}-"):
            raise ConfigError(
                [
                    f"data.path: the server of {self.url} sends other bytes than it is asked for "
                    f"({sent} instead of from {self.position}); download it"
                ]
            )


def attempts() -> Iterator[None]:
    """Once for each attempt, after a pause that doubles; none before the first."""
    yield
    for retry in range(ATTEMPTS - 1):
        time.sleep(PATIENCE * 2**retry)
        yield


def _total(answer: requests.Response, url: str) -> int:
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if not total.isdecimal():
        raise ConfigError([f"data.path: the server of {url} does not tell its size; download it"])
    return int(total)


def ask(
    url: str, session: requests.Session | None = None, headers: dict[str, str] | None = None
) -> requests.Response:
    """GET, tried again while the trouble may pass. requests keeps the token from other hosts."""
    headers = dict(headers or {})
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if os.environ.get("HF_TOKEN") and url.startswith(endpoint.rstrip("/") + "/"):
        headers["Authorization"] = f"Bearer {os.environ['HF_TOKEN']}"
    trouble = ""
    for _ in attempts():
        try:
            answer = (session or requests).get(url, headers=headers, stream=True, timeout=TIMEOUT)
        except requests.RequestException as error:
            trouble = f"cannot be reached: {error}"
        else:
            if answer.ok:
                return answer
            answer.close()
            trouble = EXPLAINED.get(answer.status_code, f"answers {answer.status_code}")
            if answer.status_code < 500 and answer.status_code != requests.codes.too_many:
                break
    raise ConfigError([f"data.path: the server of {url} {trouble}"])
