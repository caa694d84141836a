"""What a run predicted: the log-probability of every validation target, kept in its folder.

Mixing runs is arithmetic on these; it needs neither torch nor weights. N targets, 2 bytes each.

As float16, which rounds a log-probability of 2 to 4 nats by at most 0.001, up or down alike: over N
tokens that moves a mean by 0.0006 / sqrt(N), a thousandth of its standard error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from model.config import ConfigError
from model.files import replaced

NAME = "log_probs.safetensors"
FINAL = "final"  # the last evaluation, of what train.evaluate names
LATEST = "latest"  # that of the last evaluation so far, where members are evaluated together


def epoch_key(epoch: int) -> str:
    """The key of the raw weights at the end of `epoch`, counted from 1."""
    return f"epoch_{epoch:04}"


def add(folder: Path, key: str, log_probs_N: np.ndarray) -> None:
    """Add to what `folder` keeps, or replace what it has under `key`."""
    # The least float16 there is stands for all below it: a token that was ruled out stays finite.
    finite_N = np.maximum(log_probs_N, np.finfo(np.float16).min)
    kept = {**_read(folder), key: finite_N.astype(np.float16)}
    with replaced(folder / NAME) as beside:
        save_file(kept, beside)


def read(folder: Path) -> dict[str, np.ndarray]:
    """Log-probabilities (N,) in nats by key, float32, empty if `folder` has none.

    Target i is token i + 1 of the validation split. Raises ConfigError if the file is damaged.
    """
    return {key: kept_N.astype(np.float32) for key, kept_N in _read(folder).items()}


def _read(folder: Path) -> dict[str, np.ndarray]:
    """As the file has them: those of earlier versions are float32."""
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:  # OSError: no file, or none that may be read
        raise ConfigError(
            [f"{path} is damaged ({error}); delete the folder and the run starts over"]
        ) from None


def forget(folder: Path) -> None:
    """Begin anew: a run that starts over must not keep what another has left."""
    (folder / NAME).unlink(missing_ok=True)
