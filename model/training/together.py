"""One network trained by several processes of this machine, as if by one: each is a rank.

The caller's process computes nothing. It hears of evaluations from the first rank, and of the end
of each, so that one that dies or hangs ends them all, whatever the others wait for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from model.config import Config, ConfigError, SharedTrunks, Value
from model.exit_codes import how_it_ended
from model.progress import Progress
from model.training.ranks_failed import RanksFailed

# What a rank says: of a step, of an evaluation, or how it ends.
STEP, PROGRESS = "step", "progress"
DONE, REFUSED, CRASHED, LOST = "done", "refused", "crashed", "lost"
GO_ON = "go on"  # what it is told, once for each evaluation
SECONDS_TO_EXPLAIN = 3.0  # for the others, once one rank is in trouble: one of them has the cause
SECONDS_TO_END = 20.0
LINES_OF_ERROR = 10
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
# Else gloo asks what the host's name stands for, and listens there.
ENVIRONMENT = {"GLOO_SOCKET_IFNAME": LOOPBACK}

Message = tuple[str, Any]


@dataclass(frozen=True)
class Task:
    """What one rank is to do."""

    settings: dict[str, Value]
    folder: Path
    shared: SharedTrunks | None
    rank: int
    width: int
    threads: int  # of an operation on a CPU
    meeting: Path  # a file by which the ranks find each other, in a folder of theirs alone


@dataclass(frozen=True, eq=False)
class Rank:
    """A rank as its parent sees it."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    errors: Path  # what it wrote to stderr


def train_together(
    config: Config,
    folder: Path,
    width: int,
    shared: SharedTrunks | None = None,
    watch: Callable[[int, float], None] = lambda step, loss: None,
) -> Iterator[Progress]:
    """`train` by `width` processes, each with a share of every batch; on GPUs, with one of its own.

    Leaving the loop ends them. Raises what `train` does, and RanksFailed if a rank is lost.
    """
    with _started(config, folder, width, shared) as ranks:
        listened = {rank.pipe: number for number, rank in enumerate(ranks)}
        while True:
            for rank in ranks:
                with suppress(OSError):  # it has ended: its last words are read below
                    rank.pipe.send(GO_ON)
            progress = _next(ranks, listened, watch)
            if progress is None:
                return
            yield progress


def _next(
    ranks: list[Rank], listened: dict[Connection, int], watch: Callable[[int, float], None]
) -> Progress | None:
    """The next evaluation, or None once every rank is done."""
    done: set[int] = set()
    while listened:
        for number, (kind, said) in _heard(listened, None):
            if kind == STEP:
                watch(*said)
            elif kind == PROGRESS:
                progress: Progress = said
                return progress
            elif kind == DONE:
                done.add(number)
            elif number not in done:
                raise _failure(ranks, listened, {number: (kind, said)})
    return None


def _heard(listened: dict[Connection, int], seconds: float | None) -> Iterator[tuple[int, Message]]:
    """What ranks say, by their numbers; of one that is gone that it is LOST, and no more of it."""
    for pipe in wait(list(listened), seconds):
        assert isinstance(pipe, Connection)
        try:
            yield listened[pipe], pipe.recv()
        except (EOFError, OSError):
            yield listened.pop(pipe), (LOST, "")


def _failure(
    ranks: list[Rank], listened: dict[Connection, int], said: dict[int, Message]
) -> Exception:
    """Why the run ended: of all that ranks say within some seconds, what is nearest to the cause.

    A rank that lost another says so too, and often first.
    """
    until = time.monotonic() + SECONDS_TO_EXPLAIN
    while listened and (left := until - time.monotonic()) > 0:
        for number, message in _heard(listened, left):
            if message[0] in (REFUSED, CRASHED) or number not in said:
                said[number] = message
    for kind, what in said.values():
        if kind == REFUSED:
            return ConfigError(what)
    for number, (kind, what) in sorted(said.items()):
        if kind == CRASHED:
            return RanksFailed(f"rank {number} of {len(ranks)} failed:\n{what}")
    gone = [number for number, (kind, what) in sorted(said.items()) if not what]
    if gone:
        return RanksFailed(_how_it_ended(gone[0], ranks))
    number, (_, what) = min(said.items())
    silent = [other for other in range(len(ranks)) if other not in said]
    if silent:
        pid = ranks[silent[0]].process.pid
        what = f"rank {silent[0]} (process {pid}) runs but says nothing: {what}"
    return RanksFailed(f"rank {number} of {len(ranks)}: {what}")


def _how_it_ended(number: int, ranks: list[Rank]) -> str:
    rank = ranks[number]
    code = rank.process.wait()  # its pipe is closed
    how = how_it_ended(code)
    if -code == signal.SIGKILL:
        how += ", as the system does to who takes too much memory"
    lines = rank.errors.read_text(errors="replace").splitlines()[-LINES_OF_ERROR:]
    last = "\n".join(["; its last lines were", *lines]) if lines else ""
    return f"rank {number} of {len(ranks)} (process {rank.process.pid}) ended by {how}{last}"


@contextmanager
def _started(
    config: Config, folder: Path, width: int, shared: SharedTrunks | None
) -> Iterator[list[Rank]]:
    """The processes, each with its task; they end with the block."""
    from model.training.device import threads

    ranks: list[Rank] = []
    each = max(1, threads() // width)
    with tempfile.TemporaryDirectory(prefix="sweep-ranks-") as name:
        place = Path(name)
        meeting = place / "meeting"
        try:
            for number in range(width):
                ranks.append(_start(place / f"rank-{number}.txt"))
                task = Task(config.settings(), folder, shared, number, width, each, meeting)
                ranks[-1].pipe.send(task)
            yield ranks
            for rank in ranks:
                with suppress(subprocess.TimeoutExpired):
                    rank.process.wait(SECONDS_TO_END)
        finally:
            for rank in ranks:
                rank.process.kill()
                rank.pipe.close()
            for rank in ranks:
                rank.process.wait()


def _start(errors: Path) -> Rank:
    ours, theirs = Pipe()
    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**ENVIRONMENT, **os.environ, "PYTHONPATH": os.pathsep.join(path)}
    with theirs, errors.open("wb") as written:
        process = subprocess.Popen(
            # -P: not what lies where the user happens to be, such as a model.py of theirs
            [sys.executable, "-P", "-m", "model.training.rank", str(theirs.fileno())],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=written,
            start_new_session=True,  # a terminal's Ctrl-C is for us alone
        )
    return Rank(process, ours, errors)
