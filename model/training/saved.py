"""What the files of a network apart from its run are called."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer.json"
MIXTURE = "mixture.json"  # of several networks, each in a folder that its number names


def is_saved(folder: Path) -> bool:
    """Whether model.training.export wrote `folder`."""
    return (folder / MIXTURE).exists() or (folder / WEIGHTS).exists()
