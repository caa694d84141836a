"""What is known of a corpus before it is prepared: from its table if there is one, else its size.

Nothing is fetched and nothing is written.
"""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from model.config import DataConfig
from model.data.corpus import LEFT_OUT, is_remote, text_bytes
from model.data.prepare import table_path
from model.data.table import read_table
from model.data.token_files import find_import

LIBRARY = "Python's standard library"


@dataclass(frozen=True)
class Extent:
    """Where the text is from, and how many tokens of it there are."""

    source: str
    train: int | None = None  # tokens to train on; None before they were counted
    most: int | None = None  # tokens of all splits at most, by the size of files; None: not known
    val_digest: str = ""  # of the validation tokens; empty before they are prepared


def look_at(data: DataConfig) -> Extent:
    """What is known of the text at `data.path`. Raises ConfigError if there is none."""
    source, table = data.path or LIBRARY, table_path(data)
    if table.exists():
        kept = read_table(table)
        val_digest = kept.recorded.get("digests", {}).get("val", "")
        return Extent(source, train=len(kept.train), val_digest=val_digest)
    return Extent(source, most=_most(data))


def _most(data: DataConfig) -> int | None:
    """A token stands for at least a byte of text, but for one that begins each document."""
    if is_remote(data.path):
        return None
    if not data.path:
        return _library_bytes()
    root = Path(data.path).expanduser()
    if find_import(root) is not None:
        return None
    size = text_bytes(data)
    if not size:
        return None
    files = [path for path in root.rglob("*") if path.is_file()] if root.is_dir() else [root]
    if any(path.suffix == ".parquet" for path in files):
        return None  # how many rows are documents of their own is not looked at
    return size + len(files)


def _library_bytes() -> int:
    """Bytes and number of the files that the embedded corpus is made of."""
    total = 0
    for folder, folders, names in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = [name for name in folders if name not in LEFT_OUT and name[0] != "."]
        files = [name for name in names if name.endswith(".py") and name[0] != "."]
        total += sum(os.stat(os.path.join(folder, name)).st_size + 1 for name in files)
    return total
