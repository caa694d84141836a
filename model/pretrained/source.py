"""Weights that a word names: published ones by their name, a folder or file of Hugging Face's, or
nanoGPT's ckpt.pt. What there is and how it is shaped is read from headers; no weight is loaded.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.config import VOCABULARIES, ConfigError
from model.pretrained import hub
from model.pretrained.architecture import PUBLISHED, Shape, read_config, read_numbers
from model.pretrained.checkpoint_of_nanogpt import Checkpoint, read_checkpoint
from model.pretrained.names import HEAD, TRUNK, expected

GPT2_VOCABULARY = VOCABULARIES["gpt2"]
PADDED = 50_304  # nanoGPT's rows for it
CONFIG = "config.json"
SAFE = "model.safetensors"
INDEX = "model.safetensors.index.json"
NANOGPT = "ckpt.pt"  # in the out_dir of its train.py
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "model.ckpt.index")
MOST_HEADER = 100 << 20  # bytes; safetensors allows no more
TOLD = 8  # tensors of one kind that a message names


@dataclass(frozen=True)
class Source:
    """Weights on the disk: what they make, and where each tensor is."""

    path: Path  # what was named: a folder, or a file
    shape: Shape
    shapes: Mapping[str, tuple[int, ...]]  # of tensors by their names there
    files: tuple[Path, ...]  # all that the weights and their shape are read from
    at: Mapping[str, Path]  # the file of each tensor; of none in nanoGPT's
    checkpoint: Checkpoint | None = None  # if it is nanoGPT's

    @property
    def linear(self) -> bool:
        """Whether matrices lie as (out, in), as torch's Linear has them; else as (in, out)."""
        return self.checkpoint is not None

    @property
    def has_gpt2_tokens(self) -> bool:
        """Whether it knows as many tokens as GPT-2, or as nanoGPT makes of these."""
        return self.shape.vocabulary in (GPT2_VOCABULARY, PADDED)

    def digest(self) -> str:
        """SHA-256 of the files; it reads them all."""
        whole = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()


def published(word: str) -> str:
    """Which published network `word` names; empty if it is a path."""
    name = word.removeprefix("openai-community/").removeprefix("openai/")
    return name if name in PUBLISHED else ""


def find_source(word: str, fetch: bool = False) -> Source:
    """The weights that `word` names, checked by name and shape.

    fetch   whether published weights that are not on the disk may be downloaded
    Raises ConfigError with every problem: nothing there, a pickle, another architecture, tensors
    that are missing, too many or of another shape.
    """
    name = published(word)
    path = hub.folder(name, fetch) if name else Path(word).expanduser()
    if not path.exists():
        names = ", ".join(PUBLISHED)
        raise ConfigError(
            [f"gpt.init: {word} is not there; expected {names}, a folder or file of weights"]
        )
    if (path / NANOGPT).is_file() and not (path / SAFE).exists():
        path = path / NANOGPT
    if path.is_file() and path.suffix != ".safetensors":
        return _checked(_of_nanogpt(path))
    return _checked(_of_hugging_face(path))


def is_weights(path: Path) -> bool:
    """Whether `path` looks like weights of others, whatever is wrong with them."""
    if path.is_file():
        return path.suffix in (".safetensors", ".pt", ".bin")
    return any((path / name).exists() for name in (SAFE, INDEX, NANOGPT, *PICKLES))


def _of_nanogpt(path: Path) -> Source:
    if path.name in PICKLES:
        raise _pickle(path)
    checkpoint = read_checkpoint(path)
    arguments = checkpoint.arguments
    numbers, problems = read_numbers(arguments, ARGUMENTS)
    if problems:
        raise ConfigError(f"gpt.init: {path}: model_args: {problem}" for problem in problems)
    shape = Shape(**numbers, mlp="gelu", bias=bool(arguments.get("bias", True)))
    plain = {name.removeprefix(TRUNK): stored for name, stored in checkpoint.weights.items()}
    shapes = {name: stored.shape for name, stored in plain.items()}
    return Source(path, shape, shapes, (path,), {}, replace(checkpoint, weights=plain))


ARGUMENTS = {
    "layers": "n_layer",
    "width": "n_embd",
    "heads": "n_head",
    "context": "block_size",
    "vocabulary": "vocab_size",
}


def _of_hugging_face(path: Path) -> Source:
    folder = path if path.is_dir() else path.parent
    files = _weight_files(path)
    shapes: dict[str, tuple[int, ...]] = {}
    at: dict[str, Path] = {}
    for file in files:
        for name, shape in _header(file).items():
            plain = name.removeprefix(TRUNK)
            if plain.endswith((".attn.bias", ".attn.masked_bias")):
                continue  # buffers of the causal mask, which older files hold
            shapes[plain], at[plain] = shape, file
    described = folder / CONFIG
    if described.exists():
        config = _json(described)
        shape_, problems = read_config(config)
        if shape_ is None:
            raise ConfigError(
                [f"gpt.init: {described}: {problem}" for problem in problems]
                + ["gpt.init: only GPT-2's architecture can be read"]
            )
        return Source(path, shape_, shapes, (described, *files), at)
    known = [s for s in PUBLISHED.values() if shapes.get("wpe.weight") == (s.context, s.width)]
    if not known:
        raise ConfigError(
            [
                f"gpt.init: {folder} has no {CONFIG}, which says how many heads there are; put it "
                "beside the weights"
            ]
        )
    return Source(path, known[0], shapes, files, at)


def _weight_files(path: Path) -> tuple[Path, ...]:
    if path.is_file():
        return (path,)
    if (path / SAFE).exists():
        return (path / SAFE,)
    if (path / INDEX).exists():
        places = _json(path / INDEX).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise ConfigError([f"gpt.init: {path / INDEX} has no weight_map"])
        files = sorted({path / Path(str(name)).name for name in places.values()})
        if missing := [str(file) for file in files if not file.exists()]:
            raise ConfigError(
                [
                    f"gpt.init: {path / INDEX} names files that are not there: {file}"
                    for file in missing
                ]
            )
        return tuple(files)
    for name in PICKLES:
        if (path / name).exists():
            raise _pickle(path / name)
    raise ConfigError([f"gpt.init: {path} has no {SAFE}"])


def _pickle(path: Path) -> ConfigError:
    return ConfigError(
        [
            f"gpt.init: {path} is a pickle, which could run anything when it is opened; download "
            f"{SAFE}, which the same repositories have, or save the network again with "
            "save_pretrained"
        ]
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(read, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        raise ConfigError([f"gpt.init: {path} cannot be read: {error}"]) from None
    return read


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a safetensors file and their shapes."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > MOST_HEADER:
                raise ValueError("its header is far too large")
            header = json.loads(file.read(size))
        size += 8
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if path.stat().st_size != size + end:
            raise ValueError(
                f"it has {path.stat().st_size:,} bytes, its header says {size + end:,}"
            )
        return {name: tuple(entry["shape"]) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, struct.error, AttributeError) as error:
        raise ConfigError(
            [f"gpt.init: {path} is no safetensors file, or cut short: {error}"]
        ) from None


def _checked(source: Source) -> Source:
    """`source`, whose tensors are exactly those of its shape."""
    wanted = expected(source.shape, source.linear)
    there = dict(source.shapes)
    if source.shape.tied_head:
        there.pop(HEAD, None)  # the embedding once more
    missing = [name for name in wanted if name not in there]
    extra = [name for name in there if name not in wanted]
    wrong = [
        f"{name} is {_by(there[name])}, expected {_by(shape)}"
        for name, shape in wanted.items()
        if name in there and there[name] != shape
    ]
    problems = [
        f"gpt.init: {source.path}: {what}: {_some(names)}"
        for what, names in (
            ("missing", missing),
            ("not of GPT-2", extra),
            ("of another shape", wrong),
        )
        if names
    ]
    if problems:
        raise ConfigError(problems)
    return replace(source, shapes={name: there[name] for name in wanted})


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more
