"""The room that a run which never goes on gives back: all that only going on needs.

A checkpoint is rewritten without torch: whoever drives a cluster has none. The format of
safetensors is eight bytes for the length of a header, the header in JSON, then tensors end to end.
https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from model.files import replaced
from model.training.checksums import SUMS, TEXT, checksum, damage_of_text

CHECKPOINT = "checkpoint.safetensors"
BEFORE = "checkpoint-before.safetensors"  # the one before it, while the run goes on
OPTIMIZERS = "optimizers"  # of the tree in a checkpoint, and what names of its tensors begin with
PREDECESSOR = "predecessor"  # likewise; the network of the cycle before, which teaches this one
GOES = (f"{OPTIMIZERS}.", f"{PREDECESSOR}.")
ALIGNED = 8  # bytes, to a multiple of which headers are filled up with blanks
AT_ONCE = 1 << 24  # bytes
LONGEST = 100_000_000  # bytes of a header, as safetensors limits them: more is damage


def is_needed_to_evaluate(settings: Mapping[str, Any]) -> bool:
    """Whether optimizer state says with which weights a run is evaluated."""
    return bool(settings["optim.name"] == "schedule_free")


def forget_before(folder: Path) -> int:
    """Remove the checkpoint before the latest in `folder`; the bytes that gives back."""
    path = folder / BEFORE
    if not path.exists():
        return 0
    size = path.stat().st_size
    path.unlink(missing_ok=True)
    return size


def read_run(folder: Path) -> dict[str, Any] | None:
    """What the checkpoint in `folder` says of its run, without torch; None if none can be read.

    `settings`, and `history`: every evaluation.
    """
    try:
        with (folder / CHECKPOINT).open("rb") as file:
            header = _header(file)
        run = json.loads(header["__metadata__"]["run"])
        return (
            run if isinstance(run["settings"], dict) and isinstance(run["history"], list) else None
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def releasable(folder: Path) -> int:
    """Bytes that `release` would take out of the checkpoint in `folder`; 0 if it cannot be read."""
    run = read_run(folder)
    if run is None or is_needed_to_evaluate(run["settings"]):
        return 0
    try:
        with (folder / CHECKPOINT).open("rb") as file:
            places = [its["data_offsets"] for n, its in _header(file).items() if n.startswith(GOES)]
        return sum(end - begin for begin, end in places)
    except (OSError, ValueError, KeyError, TypeError):  # gone meanwhile, or damaged
        return 0


def release(folder: Path) -> int:
    """Take the optimizers' state out of the checkpoint in `folder`; the bytes that gives back.

    The one before it goes too. 0 where there is none to take. The run keeps its weights, averages
    and evaluations, and cannot go on. Raises OSError where the disk does not take it: then the
    checkpoint is as it was.
    """
    path = folder / CHECKPOINT
    if members := sorted(folder.glob("member-*")):  # its own has no state
        return forget_before(folder) + sum(release(member) for member in members)
    if not path.exists():
        return 0
    before = path.stat().st_size + forget_before(folder)
    size = path.stat().st_size
    with path.open("rb") as file:
        header = _header(file)
        start = file.tell()
        run = json.loads(header["__metadata__"]["run"])
        if run["tree"].get(OPTIMIZERS) is None or is_needed_to_evaluate(run["settings"]):
            return before - size
        run["tree"] |= {OPTIMIZERS: None, PREDECESSOR: None}
        metadata = header["__metadata__"]
        if damage_of_text(metadata):  # a new sum would hide it
            return before - size
        metadata["run"] = json.dumps(run)
        if SUMS in metadata:
            sums = {**json.loads(metadata[SUMS]), TEXT: checksum(metadata["run"].encode())}
            metadata[SUMS] = json.dumps(sums)
        left = {
            name: entry
            for name, entry in header.items()
            if name != "__metadata__" and not name.startswith(GOES)
        }
        with replaced(path) as beside, beside.open("wb") as new:
            _write(new, file, start, header["__metadata__"], left)
    return before - path.stat().st_size


def _header(file: IO[bytes]) -> dict[str, Any]:
    """The header of an open checkpoint, which is at its tensors then. ValueError for damage."""
    size = int.from_bytes(file.read(8), "little")
    if size > LONGEST:
        raise ValueError(f"a header of {size} bytes")
    header: dict[str, Any] = json.loads(file.read(size))
    return header


def _write(
    new: IO[bytes],
    file: IO[bytes],
    start: int,
    metadata: Mapping[str, str],
    tensors: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the `tensors` of `file`, whose data begin at `start`, with their places as they are."""
    in_order = sorted(tensors.items(), key=lambda item: item[1]["data_offsets"])
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name, entry in in_order:
        begin, end = entry["data_offsets"]
        header[name] = {**entry, "data_offsets": [at, at + end - begin]}
        at += end - begin
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNED)
    new.write(len(text).to_bytes(8, "little") + text)
    for _, entry in in_order:
        begin, end = entry["data_offsets"]
        file.seek(start + begin)
        while begin < end:
            block = file.read(min(AT_ONCE, end - begin))
            new.write(block)
            begin += len(block)
