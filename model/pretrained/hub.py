"""Published weights on the disk, in the cache that Hugging Face's own library keeps, or fetched.

The folder is $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub, as for `huggingface_hub`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from model.config import ConfigError
from model.files import is_locked, lock, write_text

OWNER = "openai-community"
CONFIG = "config.json"
SAFE = "model.safetensors"


def cache() -> Path:
    """Where models of the hub are kept."""
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return Path(chosen).expanduser()
    home = os.environ.get("HF_HOME")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(home).expanduser() if home else base / "huggingface") / "hub"


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
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
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
    from model.pretrained.download import download  # requests takes a while to import

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    repository = f"{OWNER}/{name}"
    commit = _commit(f"{endpoint}/api/models/{repository}/revision/main")
    home = cache() / f"models--{OWNER}--{name}"
    target = home / "snapshots" / commit
    target.mkdir(parents=True, exist_ok=True)
    taken = home / ".lock"
    if is_locked(taken):
        _say(f"another process downloads the weights of {name}; waiting for it")
    with lock(taken, float("inf")):  # of several that want it, one downloads
        for file in (CONFIG, SAFE):
            if not (target / file).exists():
                _say(f"downloading {file} of {repository} (once)")
                download(f"{endpoint}/{repository}/resolve/{commit}/{file}", target / file, _say)
        (home / "refs").mkdir(exist_ok=True)
        write_text(home / "refs" / "main", commit)
    return target


def _commit(url: str) -> str:
    """What the branch stands for now. Raises ConfigError if the answer at `url` does not say."""
    from model.data.remote import ask

    try:
        commit = ask(url).json()["sha"]
    except (OSError, ValueError, KeyError, TypeError):  # OSError: the answer broke off
        commit = None
    if not isinstance(commit, str) or not commit.isalnum():
        raise ConfigError([f"{url} does not answer as the hub does (HF_ENDPOINT, or a proxy?)"])
    return commit


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _lacking(name: str, why: str) -> ConfigError:
    return ConfigError(
        [
            f"gpt.init: {name} cannot be had: {why}; download {CONFIG} and {SAFE} of "
            f"https://huggingface.co/{OWNER}/{name} into a folder and give its path"
        ]
    )
