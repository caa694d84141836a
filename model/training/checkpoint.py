"""All it takes to continue a run bit for bit, in one safetensors file that is moved into place."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.config import ConfigError
from model.files import Locked, lock, replaced
from model.progress import WHOLE, Progress
from model.training.checksums import SUMS, TEXT, checksum, damage, damage_of_text
from model.training.release import BEFORE, CHECKPOINT, OPTIMIZERS, forget_before

NAME = CHECKPOINT
LOCK = "lock"
FORMAT = 2  # of the file; one that another version wrote is not guessed at
SECONDS_TO_WAIT = 30.0  # for a process that is being ended to let go of its folder
TENSOR = "tensor "  # marks where in the skeleton of a tree a tensor was taken out

# Dicts with text keys and lists of these, with tensors, numbers, text and None for leaves.
Tree = Any


class Damaged(ConfigError):
    """A checkpoint is not what was written."""


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
    lost: str = ""  # why its latest checkpoint could not be used, until an evaluation has said so
    tokens: str = ""  # digest of what it is trained on; "" in checkpoints of earlier versions

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

    The old one stays beside it while the run goes on, where the file system has links: should the
    new one be damaged, the run loses an interval and not all. It goes before the next is written,
    so that there are never more than two, as while a file is replaced.
    What is not a tensor goes as JSON into the file's header, where floats keep every bit.
    """
    skeleton, tensors = take_apart({**tree, "rng": random_state()})
    header = {
        "settings": state.settings,
        "history": [progress.to_dict() for progress in state.history],
        "trunk": asdict(state.trunk),
        "tokens": state.tokens,
        "tree": skeleton,
    }
    forget_before(folder)
    run = json.dumps(header)
    sums = {name: checksum(_bytes(tensor)) for name, tensor in tensors.items()}
    sums[TEXT] = checksum(run.encode())
    metadata = {"version": str(FORMAT), "run": run, SUMS: json.dumps(sums)}
    with replaced(folder / NAME) as beside:
        save_file(tensors, beside, metadata)
        if not state.ended:
            with suppress(OSError):  # there is none yet, or no file may have two names there
                os.link(folder / NAME, folder / BEFORE)


def recover(folder: Path, or_before: bool = True) -> RunState | None:
    """The state to go on from in `folder`, or None to begin; says what was lost, if something was.

    Where the checkpoint is damaged, that is the one before it, and without a whole one the start.
    Of a run that has ended only its evaluations are looked at.

    or_before  whether the one before it is of any use
    """
    try:
        return _checked_state(folder, NAME)
    except Damaged as error:
        what = error.problems[0].partition(";")[0]
    if or_before and (folder / BEFORE).exists():
        with suppress(Damaged):
            state = _checked_state(folder, BEFORE)
            assert state is not None
            os.replace(folder / BEFORE, folder / NAME)
            at = state.history[-1].basis_points / WHOLE if state.history else 0.0
            return replace(state, lost=f"{what}; it went on from the one before, at {at:.0%}")
    forget(folder)
    return RunState({}, (), lost=f"{what}; it began again")


def forget(folder: Path) -> None:
    """Remove the checkpoint in `folder`, and the one before it: a run there begins again."""
    (folder / NAME).unlink(missing_ok=True)
    forget_before(folder)


def _checked_state(folder: Path, name: str) -> RunState | None:
    """What `read_state` gives; of a run that goes on, once its tensors are known to be whole."""
    state = read_state(folder, name)
    if state is not None and state.goes_on and not state.ended:
        _check(folder / name)
    return state


def read_state(folder: Path, name: str = NAME) -> RunState | None:
    """The state saved in `folder`, or None if there is no checkpoint.

    Raises Damaged if the checkpoint is, ConfigError if it is of another version.
    """
    if not (folder / name).exists():
        return None
    header, _ = _open(folder / name, with_tensors=False)
    try:
        history = tuple(Progress(**evaluation) for evaluation in header["history"])
        goes_on = header["tree"].get(OPTIMIZERS, ()) is not None
        trunk, tokens = Trunk(**header.get("trunk", {})), header.get("tokens", "")
        return RunState(header["settings"], history, trunk, goes_on, tokens=tokens)
    except (KeyError, TypeError, AttributeError) as error:
        raise Damaged([_damaged(folder / name, error)]) from None


def restore(folder: Path) -> Tree:
    """The tree that was saved in `folder`, on the CPU; sets torch's random state as it was."""
    header, tensors = _open(folder / NAME, with_tensors=True)
    tree = put_together(header["tree"], tensors)
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


def take_apart(tree: Tree) -> tuple[Tree, dict[str, Tensor]]:
    """`tree` with names for its tensors, which come by name, on the CPU and contiguous."""
    tensors: dict[str, Tensor] = {}
    skeleton = _take_out(tree, "", tensors)
    return skeleton, _apart(tensors)


def put_together(skeleton: Tree, tensors: dict[str, Tensor]) -> Tree:
    """The tree that `take_apart` took apart."""
    if isinstance(skeleton, str) and skeleton.startswith(TENSOR):
        return tensors[skeleton.removeprefix(TENSOR)]
    if isinstance(skeleton, dict):
        return {key: put_together(value, tensors) for key, value in skeleton.items()}
    if isinstance(skeleton, list):
        return [put_together(value, tensors) for value in skeleton]
    return skeleton


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


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor on the CPU in memory of its own, in order: the file format has no views.

    One that others share memory with is copied; when it is read back, each has its own.
    """
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if memory in seen else tensor
        separate[name] = separate[name].contiguous().cpu()  # where its sum is taken
        seen.add(memory)
    return separate


def _bytes(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor on the CPU."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _check(path: Path) -> None:
    """Raise Damaged where a tensor is not as it was written."""
    try:
        wrong = damage(path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = str(error)
    if wrong:
        raise Damaged([_damaged(path, wrong)])


def _damaged(path: Path, why: object) -> str:
    return f"{path} is damaged ({why}); delete it and the run starts over"


def _open(path: Path, with_tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if with_tensors:
        _check(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = json.loads(metadata["run"])
            wrong = damage_of_text(metadata)
            names = file.keys() if with_tensors else []
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Damaged([_damaged(path, error)]) from None
    if wrong or not isinstance(header, dict):
        raise Damaged([_damaged(path, wrong or "its header is no object")])
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
