"""The processes of one sweep: who they are, which of them to hit, who of them is left (Linux)."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
SECONDS_BETWEEN_LOOKS = 0.1
# How the victims of each kind are told, by the beginning of a word of their command lines.
RAYLET, GCS = "/raylet/raylet", "/gcs/gcs_server"
WORKER, AGENT = "ray::Worker", "ray::RuntimeEnvAgent"  # as the latter ends, so does the raylet


@dataclass(frozen=True)
class Process:
    """One process; a later one of the same number has another start."""

    pid: int
    parent: int
    start: str  # clock ticks since boot
    state: str  # a letter of ps; Z is over
    command: str


@dataclass
class Family:
    """A driver and all that descends from it, also what others have adopted since."""

    marker: str  # that is in the environment or the command line of each
    members: dict[tuple[int, str], str] = field(default_factory=dict)  # their commands

    def look(self) -> list[Process]:
        """Those that live now; children of known members become members."""
        there = processes()
        known = {p.pid for p in there if (p.pid, p.start) in self.members}
        grown = True
        while grown:
            new = [
                p for p in there if p.pid not in known and (p.parent in known or self._is_marked(p))
            ]
            known |= {p.pid for p in new}
            grown = bool(new)
        alive = [p for p in there if p.pid in known]
        self.members |= {(p.pid, p.start): p.command for p in alive}
        return [p for p in alive if p.state != "Z"]

    def wait_until_gone(self, seconds: float) -> list[Process]:
        """Who is left after at most so many seconds."""
        until = time.monotonic() + seconds
        while (left := self.look()) and time.monotonic() < until:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return left

    def kill(self) -> None:
        """End them all, one by one."""
        for process in self.look():
            send(process, signal.SIGKILL)

    def _is_marked(self, process: Process) -> bool:
        if process.pid == os.getpid() or process.state == "Z":
            return False
        if self.marker in process.command:
            return True
        try:
            return self.marker.encode() in (PROC / str(process.pid) / "environ").read_bytes()
        except OSError:  # of somebody else, or gone
            return False


def processes() -> list[Process]:
    """All there are."""
    its = []
    for path in PROC.iterdir():
        if path.name.isdecimal():
            with suppress(OSError, IndexError):
                # The name is in brackets and may have spaces.
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                words = (path / "cmdline").read_bytes().replace(b"\0", b" ")
                command = words.decode(errors="replace").strip()
                its.append(Process(int(path.name), int(fields[1]), fields[19], fields[0], command))
    return its


def victims(family: Family, word: str) -> list[Process]:
    """Members with that in their command line, that are running."""
    return [p for p in family.look() if word in p.command and p.state != "T"]


def send(process: Process, number: signal.Signals) -> None:
    """A signal, if it is still there."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, number)
