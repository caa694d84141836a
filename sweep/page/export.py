"""A page with its networks as a folder that Hugging Face runs as a Space, or anyone by itself."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from urllib.parse import urlsplit

import model
from model.config import Config, ConfigError, Value
from model.training.trained import Trained, write
from sweep.errors import SweepError
from sweep.folder import size
from sweep.imports import imported_files
from sweep.page import app
from sweep.page.app import MODELS, Offered

GRADIO = "6.31.0"  # the page was looked at with it
NEEDED = ("torch", "numpy", "safetensors", "tiktoken")  # by the code that a Space carries
CARRIED = (("trained", "generate"), ("trained", "sampling"), ("training", "trained"))
NETWORKS = "networks"
PLACES = ("data.path", "data.reference", "train.teacher", "gpt.init")  # settings that name files
MADE_BY = "made_by"
README = """\
---
title: {title}
emoji: 📜
colorFrom: gray
colorTo: indigo
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
pinned: false
---

Trained networks that continue a prompt, two of them side by side.

Here:

    pip install -r requirements.txt
    python app.py

As a [Space](https://huggingface.co/docs/hub/spaces) of yours:

    hf upload --repo-type space YOU/NAME . .

{size_text} It has no pickle: weights are safetensors in `{networks}/`, tokenizers are JSON.
`app.py` and `model/` are copied from {version}, under whose terms they are. Say in the lines above
which licence the weights have (`license:`).
"""


def export_space(title: str, models: Sequence[Offered], folder: Path) -> int:
    """Write the Space into `folder`, whole or not at all; the bytes that it has.

    A Space that this wrote before is replaced. Raises SweepError if `folder` holds anything else,
    a network cannot be opened, or the disk does not take it.
    """
    _refuse_others(folder)
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            made, before = Path(scratch) / "made", Path(scratch) / "before"
            _write(title, models, made)
            if folder.exists():
                folder.rename(before)
            try:
                made.rename(folder)
            except OSError:
                if before.exists():
                    before.rename(folder)
                raise
    except OSError as error:
        raise SweepError(f"cannot write {folder}: {error.strerror or error}") from None
    except ConfigError as error:
        raise SweepError("this Space cannot be written", error.problems) from None
    return size(folder)


def _refuse_others(folder: Path) -> None:
    """Raises SweepError unless `folder` is not there, empty, or a Space with nothing more in it."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        files = set(json.loads((folder / MODELS).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise SweepError(
            f"{folder} is there and is no Space that sweep wrote",
            hint="Name a folder that is not there yet.",
        ) from None
    others = sorted(
        name
        for path in folder.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and (name := str(path.relative_to(folder))) not in files
    )
    if others:
        raise SweepError(
            f"{folder} holds what sweep did not write: {', '.join(others[:3])}"
            + " and more" * (len(others) > 3),
            hint="Name a folder that is not there yet, or move these away.",
        )


def _write(title: str, models: Sequence[Offered], folder: Path) -> None:
    folder.mkdir()
    its = []
    for number, offered in enumerate(models):
        network = f"{NETWORKS}/{number}"
        write(_anywhere(offered.open()), folder / network)
        its.append(
            {
                "name": offered.name,
                "folder": network,
                "val_loss": offered.val_loss,
                "searched": _by_name(offered.searched),
            }
        )
    home = Path(next(iter(model.__path__)))
    for file in imported_files(home, CARRIED):
        copy = folder / "model" / file.relative_to(home)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    shutil.copyfile(app.__file__, folder / "app.py")
    (folder / "requirements.txt").write_text("\n".join([*requirements(), ""]))
    version = f"sweep {importlib.metadata.version('sweep')}"
    readme = README.format(
        title=json.dumps(title, ensure_ascii=False),  # a string of YAML too
        gradio=GRADIO,
        python=".".join(map(str, sys.version_info[:2])),
        size_text=size_text(size(folder)),
        networks=NETWORKS,
        version=version,
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    about = {MADE_BY: version, "title": title, "models": its, "files": sorted([*files, MODELS])}
    (folder / MODELS).write_text(json.dumps(about, indent=2), encoding="utf-8")


def _anywhere(trained: Trained) -> Trained:
    """`trained` without the folders and the keys of whoever trained it, which nobody else needs."""
    settings = _by_name(trained.config.settings())
    return replace(trained, config=Config.from_settings(settings))


def _by_name(settings: Mapping[str, Value]) -> dict[str, Value]:
    """`settings` with files by their last name, URIs without user, password and query."""
    shown = dict(settings)
    for name in PLACES:
        if isinstance(value := shown.get(name), str):
            uri = urlsplit(value)
            where = f"{uri.scheme}://{uri.netloc.rpartition('@')[2]}{uri.path}"
            shown[name] = where if "://" in value else PurePath(value).name
    return shown


def requirements() -> list[str]:
    """Of pip: gradio, and what the carried code imports, in the versions that sweep asks for."""
    asked = importlib.metadata.requires("sweep") or []
    lines = {re.split(r"[^\w-]", line)[0]: line for line in asked if "extra ==" not in line}
    return [f"gradio=={GRADIO}", *(lines[name] for name in NEEDED)]


def size_text(size_bytes: int) -> str:
    """How large a Space is, beside what a free one of Hugging Face has."""
    return f"{size_bytes / 1e6:,.1f} MB; a free Space has 2 cores and 16 GB of memory."
