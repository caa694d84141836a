"""What a node of a cluster is like, as far as trials care, and what is wrong with it beside others.

Read on the node itself, by a worker as a trial's is; only the standard library is imported for it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sweep.format import bytes_text

PACKAGES = ("torch", "ray", "numpy", "pyarrow", "tiktoken", "safetensors")  # what workers import
NVIDIA = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
SECONDS_FOR_NVIDIA = 20.0
ROOM = 2e9  # bytes below which a night's checkpoints will not fit
CLOCK = 5.0  # seconds apart, beyond which what two nodes log cannot be put in order
FILES = 4096  # that a process may open: a raylet holds some for each worker


@dataclass(frozen=True)
class NodeState:
    """One node, as a worker on it finds it."""

    host: str
    python: str
    packages: Mapping[str, str]  # their versions; "" where one is missing
    trainer: str  # the digest of the code that trains
    cuda: str  # the version torch was built with; "" for a CPU build
    gpus: tuple[str, ...]  # name and memory of each, whether Ray knows it or not
    room: Mapping[str, int]  # bytes free where run folders, token tables and temporary files are
    sees_runs: bool  # what the driver wrote beside the run folders
    writes_runs: bool
    has_data: bool | None  # the token table, or the text it is made of; None: nobody asked
    files: int  # that a process may open
    clock: float  # seconds since 1970 when it was read

    def to_dict(self) -> dict[str, Any]:
        """The state as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Wanted:
    """What the driver asks every node to look for."""

    runs: str  # the folder of run folders, absolute
    probe: str  # a file in it that the driver wrote
    cache: str  # the folder of token tables, absolute
    table: str = ""  # the token table of a space, absolute; "": none was asked about
    text: str = ""  # what that table is made of; an address or "" for the embedded corpus


@dataclass(frozen=True)
class Node:
    """A node of the cluster: what Ray says of it, and what a worker on it found."""

    address: str
    resources: Mapping[str, float] = field(default_factory=dict)
    state: NodeState | None = None  # None: no worker answered
    error: str = ""  # why not
    ahead: float = 0.0  # seconds that its clock is ahead of the driver's, at least

    @property
    def name(self) -> str:
        return f"{self.state.host} ({self.address})" if self.state else self.address


def read_state(wanted: Wanted, trainer: str | None = None) -> NodeState:
    """The state of the node that this runs on.

    trainer   the digest of the code that trains, if it is known
    """
    if trainer is None:
        from sweep.run.manifest import digest_of_trainer

        trainer = digest_of_trainer()
    places = {"runs": wanted.runs, "cache": wanted.cache, "temporary": tempfile.gettempdir()}
    return NodeState(
        host=platform.node(),
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
        trainer=trainer,
        cuda=_cuda(),
        gpus=_gpus(),
        room={what: _room(Path(place)) for what, place in places.items()},
        sees_runs=Path(wanted.probe).exists(),
        writes_runs=_can_write(Path(wanted.probe)),
        has_data=_has_data(wanted),
        files=_files(),
        clock=time.time(),
    )


def problems(nodes: Sequence[Node], driver: NodeState) -> list[str]:
    """What would go wrong in a sweep on `nodes`, a line each; what to do about it is in the line.

    driver   the state of the node that the sweep is started on
    """
    lines = []
    for node in nodes:
        if node.state is None:
            lines.append(f"{node.address}: no worker answered: {node.error}")
        else:
            lines += [f"{node.name}: {line}" for line in _of_node(node, node.state, driver)]
    return lines


def _of_node(node: Node, state: NodeState, driver: NodeState) -> list[str]:
    lines = []
    if state.python != driver.python:
        lines.append(f"Python {state.python}, here {driver.python}; use the same image everywhere")
    for name, version in driver.packages.items():
        if state.packages.get(name) != version:
            there = state.packages.get(name) or "is missing"
            lines.append(f"{name} {there}, here {version}; install the same everywhere")
    if state.trainer != driver.trainer:
        lines.append("another version of the trainer; copy this checkout there")
    if state.gpus and not state.cuda:
        lines.append(f"{len(state.gpus)} GPUs that its torch, a CPU build, cannot use")
    if len(state.gpus) > node.resources.get("GPU", 0):
        known = node.resources.get("GPU", 0)
        lines.append(
            f"{len(state.gpus)} GPUs of which Ray knows {known:g}; start Ray with --num-gpus there"
        )
    if not state.sees_runs:
        lines.append("does not see the run folders; mount one file system at the same path")
    elif not state.writes_runs:
        lines.append("cannot write beside the run folders; give its user the right to")
    for what, free in state.room.items():
        if free < ROOM:
            lines.append(f"{bytes_text(free)} free for {WHAT[what]}; {bytes_text(ROOM)} is little")
    if state.has_data is False:
        lines.append("has neither the token table nor its text; put one where all nodes see it")
    if abs(node.ahead) > CLOCK:
        word = "ahead of" if node.ahead > 0 else "behind"
        lines.append(f"its clock is {abs(node.ahead):.0f} s {word} the one here; run NTP")
    if state.files < FILES:
        lines.append(f"a process may open {state.files} files; ulimit -n {16 * FILES} before Ray")
    return lines


WHAT = {"runs": "run folders", "cache": "token tables", "temporary": "temporary files"}


def _version(name: str) -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return ""


def _cuda() -> str:
    """The version of CUDA that torch was built with, read without importing all of torch."""
    with suppress(importlib.metadata.PackageNotFoundError, OSError):
        torch = importlib.metadata.distribution("torch")
        lines = Path(str(torch.locate_file("torch/version.py"))).read_text().splitlines()
        for name, _, value in (line.partition("=") for line in lines):
            if name.split(":")[0].strip() == "cuda":
                return value.strip().strip("'\"").replace("None", "")
    return ""


def _gpus() -> tuple[str, ...]:
    """Of the whole node: torch would show only those that were granted to this worker."""
    with suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(
            NVIDIA, capture_output=True, text=True, check=True, timeout=SECONDS_FOR_NVIDIA
        )
        lines = [line.rpartition(",") for line in listed.stdout.splitlines() if line.strip()]
        return tuple(f"{name.strip()} {bytes_text(float(mib) * 2**20)}" for name, _, mib in lines)
    return ()


def _room(place: Path) -> int:
    """Bytes free at `place`, or at what is there of the way to it."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def _can_write(probe: Path) -> bool:
    mine = probe.with_name(f"{probe.name}.{platform.node()}.{os.getpid()}")
    try:
        mine.write_text("")
        mine.unlink()
    except OSError:
        return False
    return True


def _has_data(wanted: Wanted) -> bool | None:
    if not wanted.table:
        return None
    elsewhere = not wanted.text or "://" in wanted.text
    return Path(wanted.table).exists() or elsewhere or Path(wanted.text).exists()


def _files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft
