"""nanoGPT's ckpt.pt without unpickling: its instructions are read, and none is carried out.

torch.save writes a zip file: data.pkl, a pickle that says what there is, and the numbers of each
storage in a file of its own. A pickle is a program, so loading one can run anything. This reads the
program with pickletools and follows only what builds dictionaries, lists, numbers, text and
references to tensors; anything else is refused.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.config import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

MOST_BYTES = 64 << 20  # of the pickle, which holds no numbers of tensors
DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
}
REBUILD = "torch._utils _rebuild_tensor_v2"
ORDERED = "collections OrderedDict"
COMPILED = "_orig_mod."  # before each name of a network that torch.compile wrapped
MASK = ".attn.bias"  # of the causal mask where torch has no fused attention: no weight


@dataclass(frozen=True)
class Stored:
    """Where a tensor's numbers are in the file, and how they lie there."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int  # numbers before its first
    numbers: int  # of its whole storage


@dataclass(frozen=True)
class Checkpoint:
    """What nanoGPT saved that is of use here."""

    path: Path
    arguments: Mapping[str, Any]  # of the network: n_layer, n_embd and so on
    weights: Mapping[str, Stored]  # by nanoGPT's names
    dataset: str  # the name of the folder whose tokens it was trained on; empty if not told
    val_loss: float | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """What `path` holds. Raises ConfigError if it is no checkpoint of nanoGPT's."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl")
            if archive.getinfo(name).file_size > MOST_BYTES:
                raise ValueError("its pickle is far too large")
            saved = follow(archive.read(name))
        network, arguments = saved["model"], saved["model_args"]
        weights = {
            key.removeprefix(COMPILED): value
            for key, value in network.items()
            if not key.endswith(MASK)
        }
        if not all(isinstance(value, Stored) for value in weights.values()):
            raise ValueError("its model does not map names to tensors")
        return Checkpoint(path, dict(arguments), weights, str(saved["config"].get("dataset", "")))
    except (KeyError, StopIteration, AttributeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else "it has another structure"
        raise _refused(path, what) from None
    except (zipfile.BadZipFile, OSError, ValueError, TypeError, IndexError) as error:
        raise _refused(path, str(error)) from None


def load(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Its weights by nanoGPT's names, float32. Raises ConfigError if the file is cut short."""
    import torch

    tensors = {}
    try:
        with zipfile.ZipFile(checkpoint.path) as archive:
            root = archive.namelist()[0].partition("/")[0]
            for name, stored in checkpoint.weights.items():
                numbers = bytearray(archive.read(f"{root}/data/{stored.key}"))
                flat = torch.frombuffer(numbers, dtype=getattr(torch, stored.dtype))
                tensor = flat.as_strided(stored.shape, stored.stride, stored.offset)
                tensors[name] = tensor.float().contiguous()
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, RuntimeError) as error:
        raise _refused(checkpoint.path, str(error)) from None
    return tensors


def _refused(path: Path, why: str) -> ConfigError:
    return ConfigError(
        [f"gpt.init: {path} is no ckpt.pt as nanoGPT's train.py writes it: {why}; nothing was run"]
    )


class _Mark:
    """Where a collection of items begins on the stack."""


class _Name(str):
    """A class or function that the pickle names. It stays a name."""


def follow(program: bytes) -> Any:
    """What the pickle `program` describes. Raises ValueError at the first step that is not plain.

    Tensors come as `Stored`, dictionaries of any kind as dict; attributes set on one are dropped.
    """
    stack: list[Any] = []
    memory: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        at = max(i for i, item in enumerate(stack) if isinstance(item, _Mark))
        items = stack[at + 1 :]
        del stack[at:]
        return items

    def set_items(items: list[Any]) -> None:
        stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def reduce() -> Any:
        arguments, function = stack.pop(), stack.pop()
        if isinstance(function, _Name) and function in CALLS:
            return CALLS[function](arguments)
        raise ValueError(f"it would call {function}")

    for step, argument, _ in pickletools.genops(program):
        match step.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                stack.append(_Mark())
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[step.name])
            case name if name in PLAIN:
                stack.append(argument)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(step.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "APPEND":
                stack[-2].append(stack.pop())
            case "APPENDS":
                items = since_mark()
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1][key] = value
            case "SETITEMS":
                set_items(since_mark())
            case "BINPUT" | "LONG_BINPUT":
                memory[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memory[argument])
            case "GLOBAL":
                if argument not in CALLS and not _is_storage(argument):
                    raise ValueError(f"it would import {str(argument).replace(' ', '.')}")
                stack.append(_Name(argument))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                stack.append(reduce())
            case "BUILD":
                stack.pop()  # attributes of a dictionary: torch's version numbers
            case other:
                raise ValueError(f"it has an instruction {other}")
    raise ValueError("it has no end")


PLAIN = (
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
)


def _is_storage(name: object) -> bool:
    module, _, kind = str(name).partition(" ")
    return module == "torch" and kind in DTYPES


def _storage(identity: Any) -> tuple[str, str, int]:
    """Key, dtype and size of a storage, from what names it."""
    kind, storage, key, _, numbers = identity
    if kind != "storage" or not _is_storage(storage):
        raise ValueError(f"it refers to a {kind} of {storage}")
    return str(key), DTYPES[storage.partition(" ")[2]], int(numbers)


def _tensor(arguments: tuple[Any, ...]) -> Stored:
    (key, dtype, numbers), offset, shape, stride = arguments[:4]
    last = offset + sum((n - 1) * by for n, by in zip(shape, stride, strict=True))
    if min((*shape, *stride, offset, 0)) < 0 or (0 not in shape and last >= numbers):
        raise ValueError(f"a tensor of shape {tuple(shape)} reaches beyond its {numbers} numbers")
    return Stored(key, dtype, tuple(shape), tuple(stride), int(offset), numbers)


CALLS: Mapping[str, Callable[[Any], Any]] = {
    REBUILD: _tensor,
    ORDERED: lambda arguments: dict(*arguments),
}
