"""A large file over HTTP: whole and as listed, or not there; what broke off is gone on with.

The hub answers with a redirect to where the bytes are, and says beside it (X-Linked-Size,
X-Linked-ETag) how many there are and what their SHA-256 is, as `huggingface_hub` reads it.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import requests

from model.config import ConfigError
from model.data.remote import ask, attempts
from model.files import part_of

PLAIN = {"Accept-Encoding": "identity"}  # or bytes of a compressed answer would be counted
BLOCK = 1 << 16  # bytes; of a connection that is reset, at most these are lost
SECONDS_BETWEEN = 10.0  # lines about a download that goes on
SHA256 = re.compile("[0-9a-f]{64}")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Listed:
    """What the hub says of a file."""

    size: int  # bytes
    sha256: str  # empty where it tells none, as of small files


def download(url: str, path: Path, say: Say) -> None:
    """Make `path` the file at `url`; what an earlier call got of it is kept.

    Raises ConfigError if it is not to be had, or if its size or SHA-256 is not the listed one.
    """
    part = part_of(path)
    with requests.Session() as session, part.open("ab") as file:
        listed = _listed(url, session)
        spoke = time.monotonic()
        while file.tell() < listed.size:
            for _ in _more(url, session, file, listed.size):
                if time.monotonic() - spoke >= SECONDS_BETWEEN:
                    spoke = time.monotonic()
                    say(f"{path.name}: {_mb(file.tell())} of {_mb(listed.size)} MB")
        file.flush()
        os.fsync(file.fileno())
    if problem := _problem(part, listed):
        part.unlink()
        raise ConfigError([f"{url} is not the file that is listed: {problem}; nothing was kept"])
    os.replace(part, path)


def _listed(url: str, session: requests.Session) -> Listed:
    """What the answers on the way to the file, or else the file's own, say of it."""
    with ask(url, session, PLAIN) as answer:
        answers = [*answer.history, answer]
    sizes = [its.headers.get("X-Linked-Size", "") for its in answers]
    tags = [its.headers.get("X-Linked-ETag", "") for its in answers]
    size = next(filter(str.isdecimal, [*sizes, answer.headers.get("Content-Length", "")]), None)
    if size is None:
        raise ConfigError([f"the server of {url} does not tell its size"])
    sha256 = next(filter(SHA256.fullmatch, (tag.strip('W/"') for tag in tags)), "")
    return Listed(int(size), sha256)


def _more(url: str, session: requests.Session, file: IO[bytes], size: int) -> Iterator[None]:
    """Append to `file` what one connection brings, pausing after each block.

    It begins again with a server that serves no ranges. Raises ConfigError if several in turn bring
    nothing, or other bytes than those asked for.
    """
    for _ in attempts():
        before = file.tell()
        try:
            with ask(url, session, {**PLAIN, "Range": f"bytes={before}-"}) as answer:
                if answer.status_code == requests.codes.partial_content:
                    _check_range(url, answer, before, size)
                else:
                    file.truncate(0)
                    file.seek(0)
                answer.raw.enforce_content_length = False  # or a short answer would be lost
                for block in answer.iter_content(BLOCK):
                    file.write(block)
                    yield
        except requests.RequestException:
            pass  # the connection broke: what came before is kept
        if file.tell() > before:
            return
    raise ConfigError([f"{url} breaks off at byte {file.tell():,} of {size:,}; try again later"])


def _check_range(url: str, answer: requests.Response, start: int, size: int) -> None:
    sent = answer.headers.get("Content-Range", "")
    if not (sent.startswith(f"bytes {start}-") and sent.endswith(f"/{size}")):
        raise ConfigError(
            [f"the server of {url} sends {sent}, expected bytes {start}-{size - 1}/{size}"]
        )


def _problem(path: Path, listed: Listed) -> str:
    """How the file at `path` differs from what is listed; empty if it does not."""
    if (size := path.stat().st_size) != listed.size:
        return f"it has {size:,} bytes, expected {listed.size:,}"
    if listed.sha256:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != listed.sha256:
            return f"its SHA-256 is {sha256}, expected {listed.sha256}"
    return ""


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"
