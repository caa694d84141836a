"""All it takes to continue a run bit for bit, in one safetensors file that is moved into place."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from model.gpt import GPT
from model.progress import Progress
from model.setting import ConfigError

NAME = "checkpoint.safetensors"
LOCK = "lock"
SECONDS_TO_WAIT = 30.0  # for a process that is being ended to let go of its folder


@dataclass(frozen=True)
class RunState:
    """What a run knows beside its tensors."""

    settings: dict[str, Any]  # every setting, to refuse continuing with others
    history: tuple[Progress, ...]  # every evaluation so far; the last one is this checkpoint's

    @property
    def step(self) -> int:
        return self.history[-1].step if self.history else 0

    @property
    def seconds(self) -> float:
        return self.history[-1].seconds if self.history else 0.0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep `folder` to this process; a worker whose driver was killed may outlive it for seconds.

    Raises ConfigError if another process does not let go of it. The system unlocks when a process
    ends, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + SECONDS_TO_WAIT
    with (folder / LOCK).open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigError([f"another process is training in {folder}"]) from None
                time.sleep(0.1)
        yield


def save(folder: Path, state: RunState, gpt: GPT, optimizers: list[Optimizer]) -> None:
    """Replace the checkpoint in `folder`. A crash at any moment leaves the old one or the new."""
    tensors = {f"gpt.{name}": value for name, value in gpt.state_dict().items()}
    groups = []
    for index, optimizer in enumerate(optimizers):
        saved = optimizer.state_dict()
        groups.append(saved["param_groups"])
        for parameter, values in saved["state"].items():
            tensors |= {f"optim.{index}.{parameter}.{key}": v for key, v in values.items()}
    tensors["rng.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    about = {
        "settings": state.settings,
        "history": [progress.to_dict() for progress in state.history],
        "groups": groups,
    }
    beside = folder / f"{NAME}.part"
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        beside,
        metadata={"run": json.dumps(about)},
    )
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(beside, folder / NAME)


def read_state(folder: Path) -> RunState | None:
    """The state saved in `folder`, or None if there is no checkpoint."""
    path = folder / NAME
    if not path.exists():
        return None
    about = _open(path)[0]
    return RunState(about["settings"], tuple(Progress(**p) for p in about["history"]))


def restore(folder: Path, gpt: GPT, optimizers: list[Optimizer]) -> None:
    """Put tensors and random state of the checkpoint in `folder` back where they came from."""
    about, tensors = _open(folder / NAME)
    gpt.load_state_dict(
        {name.removeprefix("gpt."): v for name, v in tensors.items() if name.startswith("gpt.")}
    )
    for index, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(f"optim.{index}."):
                _, _, parameter, key = name.split(".")
                state.setdefault(int(parameter), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": about["groups"][index]})
    torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["run"])
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            [f"{path} is damaged ({error}); delete it and the run starts over"]
        ) from None
