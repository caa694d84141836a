"""All it takes to continue a run bit for bit, in one safetensors file that is moved into place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.config import ConfigError
from model.files import Locked, lock, replaced
from model.progress import Progress
from model.training.release import CHECKPOINT, OPTIMIZERS

NAME = CHECKPOINT
LOCK = "lock"
FORMAT = 2  # of the file; one that another version wrote is not guessed at
SECONDS_TO_WAIT = 30.0  # for a process that is being ended to let go of its folder
TENSOR = "tensor "  # marks where in the skeleton of a tree a tensor was taken out

# Dicts with text keys and lists of these, with tensors, numbers, text and None for leaves.
Tree = Any


@dataclass(frozen=True)
class Trunk:
    """The first steps of a run as another run trained them, which has them in common with it."""

    of: str = ""  # the other run; "" if there is none
    step: int = 0
    seconds: float = 0.0  # that they took there
    lost: str = ""  # why a trunk that was there could not be used


@dataclass(frozen=True)
class RunState:
    """What a run knows beside its tensors."""

    settings: dict[str, Any]  # every setting, to refuse continuing with others
    history: tuple[Progress, ...]  # every evaluation so far; the last one is this checkpoint's
    trunk: Trunk = Trunk()  # where it began
    goes_on: bool = True  # whether its checkpoint has all it takes

    @property
    def step(self) -> int:
        return max(self.trunk.step, self.history[-1].step if self.history else 0)

    @property
    def seconds(self) -> float:
        return self.history[-1].seconds if self.history else 0.0

    @property
    def ended(self) -> bool:
        return bool(self.history) and (self.history[-1].done or self.history[-1].diverged)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep `folder` to this process; a worker whose driver was killed may outlive it for seconds.

    Raises ConfigError if another process does not let go of it. The system unlocks when a process
    ends, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder / LOCK, SECONDS_TO_WAIT):
            yield
    except Locked:
        raise ConfigError([f"another process is training in {folder}"]) from None


def save(folder: Path, state: RunState, tree: Tree) -> None:
    """Replace the checkpoint in `folder`. A crash at any moment leaves the old one or the new.

    What is not a tensor goes as JSON into the file's header, where floats keep every bit.
    """
    tensors: dict[str, Tensor] = {}
    header = {
        "settings": state.settings,
        "history": [progress.to_dict() for progress in state.history],
        "trunk": asdict(state.trunk),
        "tree": _take_out({**tree, "rng": random_state()}, "", tensors),
    }
    with replaced(folder / NAME) as beside:
        save_file(_apart(tensors), beside, {"version": str(FORMAT), "run": json.dumps(header)})


def read_state(folder: Path) -> RunState | None:
    """The state saved in `folder`, or None if there is no checkpoint.

    Raises ConfigError if the checkpoint is damaged or of another version.
    """
    if not (folder / NAME).exists():
        return None
    header, _ = _open(folder / NAME, with_tensors=False)
    history = tuple(Progress(**evaluation) for evaluation in header["history"])
    goes_on = header["tree"].get(OPTIMIZERS, ()) is not None
    return RunState(header["settings"], history, Trunk(**header.get("trunk", {})), goes_on)


def restore(folder: Path) -> Tree:
    """The tree that was saved in `folder`, on the CPU; sets torch's random state as it was."""
    header, tensors = _open(folder / NAME, with_tensors=True)
    tree = _put_back(header["tree"], tensors)
    set_random_state(tree["rng"])
    return tree


def set_random_state(state: Tree) -> None:
    """Set torch's random state to one that `random_state` gave."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def random_state() -> Tree:
    """Torch's random state."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _take_out(tree: Tree, name: str, tensors: dict[str, Tensor]) -> Tree:
    """`tree` with names for tensors, which go into `tensors`."""
    if isinstance(tree, Tensor):
        assert name not in tensors, f"two tensors are called {name}"
        tensors[name] = tree.detach()
        return TENSOR + name
    if isinstance(tree, dict):
        assert all(isinstance(key, str) for key in tree), f"{name} has keys JSON would change"
        inside = f"{name}." if name else ""
        return {key: _take_out(value, inside + key, tensors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_take_out(value, f"{name}.{at}", tensors) for at, value in enumerate(tree)]
    assert tree is None or isinstance(tree, bool | int | float | str), f"{name} is a {type(tree)}"
    assert not (isinstance(tree, str) and tree.startswith(TENSOR)), f"{name} reads as a tensor"
    return tree


def _put_back(skeleton: Tree, tensors: dict[str, Tensor]) -> Tree:
    if isinstance(skeleton, str) and skeleton.startswith(TENSOR):
        return tensors[skeleton.removeprefix(TENSOR)]
    if isinstance(skeleton, dict):
        return {key: _put_back(value, tensors) for key, value in skeleton.items()}
    if isinstance(skeleton, list):
        return [_put_back(value, tensors) for value in skeleton]
    return skeleton


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor in memory of its own, in order: the file format has no views.

    One that others share memory with is copied; when it is read back, each has its own.
    """
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if memory in seen else tensor
        separate[name] = separate[name].contiguous()
        seen.add(memory)
    return separate


def _open(path: Path, with_tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = json.loads(metadata["run"])
            names = file.keys() if with_tensors else []
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            [f"{path} is damaged ({error}); delete it and the run starts over"]
        ) from None
    version = metadata.get("version", "1")
    if version != str(FORMAT):
        raise ConfigError(
            [
                f"{path} has format {version}, but this version of sweep reads format {FORMAT}; "
                f"delete {path.parent} and the run starts over, or go on with the version of "
                "sweep that began it"
            ]
        )
    return header, tensors
