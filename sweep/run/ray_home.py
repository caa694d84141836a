"""Where a Ray cluster of our own keeps its files, and the token that it asks for.

Ray's own choice is a folder for all users, which nobody tidies: whoever is killed leaves a session
of logs and sockets there. It writes its token into the user's home, to be read by others too.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from model.files import Locked, lock
from sweep.errors import SweepError

PREFIX = "sweep-ray-"
LOCK = "lock"  # held by whose cluster it is
INSIDE = "r"  # Ray's: it lets everybody into the folder that it is given
# Bytes of the path of a socket, without the 0 that ends it (sun_path in unix(7)), and of what Ray
# puts behind our folder, for the largest number that a process can have (node.py of ray/_private).
SOCKET, BEHIND = 107, len("/r/session_2026-01-31_00-00-00_000000_4194304/sockets/plasma_store.9")
LONGEST = SOCKET - BEHIND - len(f"/{PREFIX}12345678")
SHARED_MEMORY = Path("/dev/shm")
TOKEN = "RAY_AUTH_TOKEN"
TOKENS = (TOKEN, "RAY_AUTH_TOKEN_PATH")  # with either the user says which


@contextmanager
def ray_home() -> Iterator[Path]:
    """A folder that only this user can read, with a path short enough for sockets.

    It is gone once it is left. So are those of drivers that were killed, which nobody locks; after
    it, too: their Ray may still have written there when it was made.
    Raises SweepError if there is no place for one.
    """
    place = _place()
    _tidy_all(place)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        with suppress(Locked), lock(folder / LOCK):  # held by who tidies at this very moment
            try:
                (folder / INSIDE).mkdir()
                yield folder / INSIDE
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                _tidy_all(place)
            return


def _place() -> Path:
    """Where temporary files go that has room for the names of sockets."""
    named = [os.environ.get(name, "") for name in ("RAY_TMPDIR", "TMPDIR")]
    refused = []
    for path in filter(None, [*named, "/tmp", "/var/tmp", str(SHARED_MEMORY)]):
        if (length := len(os.fsencode(os.path.abspath(path)))) > LONGEST:
            refused.append(f"{path}: its path has {length} bytes")
        elif not os.path.isdir(path) or not os.access(path, os.W_OK | os.X_OK):
            refused.append(f"{path}: no folder that can be written to")
        else:
            return Path(path).absolute()
    raise SweepError(
        "there is no place for the sockets of Ray",
        refused,
        hint=f"Set RAY_TMPDIR to a folder of at most {LONGEST} bytes that can be written to; "
        "--here trains without Ray.",
    )


def _tidy_all(place: Path) -> None:
    for left in place.glob(f"{PREFIX}*"):
        _tidy(left)


def _tidy(left: Path) -> None:
    """Remove the folder of a driver that was killed; not one that is used, or another user's."""
    with suppress(Locked, OSError):
        if left.is_symlink() or left.stat().st_uid != os.getuid():
            return
        with lock(left / LOCK):
            shutil.rmtree(left, ignore_errors=True)


def object_store(home: Path, needed: int) -> Path:
    """Where Ray's object store of so many bytes fits: in shared memory, else on the disk."""
    with suppress(OSError):
        free = os.statvfs(SHARED_MEMORY)
        if free.f_bsize * free.f_bavail > needed and os.access(SHARED_MEMORY, os.W_OK):
            return SHARED_MEMORY
    return home


@contextmanager
def token_of_our_own() -> Iterator[None]:
    """Inside, Ray asks for a token that only we and its workers have, unless the user names one."""
    if any(os.environ.get(name) for name in TOKENS):
        yield
        return
    os.environ[TOKEN] = secrets.token_hex(32)
    try:
        yield
    finally:
        os.environ.pop(TOKEN, None)
