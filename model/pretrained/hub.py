"""Published weights on the disk, in the cache that Hugging Face's own library keeps, or fetched.

The folder is $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub, as for `huggingface_hub`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from model.config import ConfigError
from model.files import lock, part_of, write_text

OWNER = "openai-community"
CONFIG = "config.json"
SAFE = "model.safetensors"
BLOCK = 4 << 20  # bytes copied at a time


def cache() -> Path:
    """Where models of the hub are kept."""
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return Path(chosen)
    home = os.environ.get("HF_HOME")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(home) if home else base / "huggingface") / "hub"


def on_disk(name: str) -> Path | None:
    """The folder of the published network `name`, if it is here whole; the newest of several."""
    for repository in (f"{OWNER}--{name}", name):
        home = cache() / f"models--{repository}"
        snapshots = [path for path in home.glob("snapshots/*") if _is_whole(path)]
        if snapshots:
            return max(snapshots, key=lambda path: (path / SAFE).stat().st_mtime)
    return None


def folder(name: str, fetch: bool) -> Path:
    """The folder of the published network `name`.

    fetch   whether it may be downloaded if it is not here; what was begun is gone on with
    Raises ConfigError if it is not to be had, with what to download and where to put it.
    """
    here = on_disk(name)
    if here is not None:
        return here
    if not fetch:
        raise _lacking(name, "it is not on this disk")
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        raise _lacking(name, "HF_HUB_OFFLINE forbids to download it")
    try:
        return _download(name)
    except ConfigError as error:
        reason = error.problems[0].removeprefix("data.path: ").partition(": HTTP")[0]
        raise _lacking(name, reason) from None
    except OSError as error:
        raise _lacking(name, f"it cannot be written: {error}") from None


def _is_whole(path: Path) -> bool:
    return (path / CONFIG).exists() and (path / SAFE).exists()


def _download(name: str) -> Path:
    from model.data.remote import ask  # requests takes a while to import

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    repository = f"{OWNER}/{name}"
    commit = str(ask(f"{endpoint}/api/models/{repository}/revision/main").json()["sha"])
    home = cache() / f"models--{OWNER}--{name}"
    target = home / "snapshots" / commit
    target.mkdir(parents=True, exist_ok=True)
    with lock(target / ".lock", float("inf")):  # of several that want it, one downloads
        for file in (CONFIG, SAFE):
            if not (target / file).exists():
                _fetch(f"{endpoint}/{repository}/resolve/{commit}/{file}", target / file)
    (home / "refs").mkdir(exist_ok=True)
    write_text(home / "refs" / "main", commit)
    return target


def _fetch(url: str, path: Path) -> None:
    """The file at `url`, moved to `path` once it is whole; bytes that are there are kept."""
    from model.data.remote import open_url

    part = part_of(path)
    with open_url(url) as there, part.open("ab") as here:
        there.seek(here.tell())
        shutil.copyfileobj(there, here, BLOCK)
        here.flush()
        os.fsync(here.fileno())
    os.replace(part, path)


def _lacking(name: str, why: str) -> ConfigError:
    return ConfigError(
        [
            f"gpt.init: {name} cannot be had: {why}; download {CONFIG} and {SAFE} of "
            f"https://huggingface.co/{OWNER}/{name} into a folder and give its path"
        ]
    )
