"""A network of ours as a folder that Hugging Face's GPT2LMHeadModel reads."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

from model.config import ConfigError
from model.data import byte_pairs
from model.data.tokenizer import END_OF_TEXT, Tokenizer, as_data, from_data
from model.files import replaced, write_text
from model.pretrained.architecture import as_config, obstacles, shape_of
from model.pretrained.names import to_theirs
from model.pretrained.source import CONFIG, SAFE

if TYPE_CHECKING:
    from model.network import GPT

OWN_TOKENIZER = "sweep_tokenizer.json"  # of tokens that Hugging Face's GPT-2 tokenizer has not


def write(gpt: GPT, tokenizer: Tokenizer, folder: Path) -> list[str]:
    """Write `gpt` into `folder`; the names of its files.

    Raises ConfigError with every setting that stands in the way, and then writes nothing.
    """
    from safetensors.torch import save_file

    if problems := obstacles(gpt.config):
        raise ConfigError(problems)
    shape = shape_of(gpt.config, gpt.vocabulary)
    tensors = to_theirs(gpt.state_dict(), shape)
    config = as_config(gpt.config, gpt.vocabulary, tokenizer.separator)
    texts = {CONFIG: json.dumps(config, indent=2), **_tokenizer_files(tokenizer, shape.context)}
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(folder / SAFE) as beside:
        save_file(tensors, beside, {"format": "pt"})
    for name, text in texts.items():
        write_text(folder / name, text + "\n")
    return [SAFE, *texts]


def _tokenizer_files(tokenizer: Tokenizer, context: int) -> dict[str, str]:
    files = {}
    if tokenizer.name in byte_pairs.NAMES:
        ids = byte_pairs.vocabulary(tokenizer)
        files = {
            "vocab.json": json.dumps(ids, ensure_ascii=False),
            "merges.txt": "\n".join(["#version: 0.2", *byte_pairs.merges(tokenizer)]),
            "tokenizer_config.json": json.dumps(
                {
                    "tokenizer_class": "GPT2Tokenizer",
                    "bos_token": END_OF_TEXT,
                    "eos_token": END_OF_TEXT,
                    "unk_token": END_OF_TEXT,
                    "add_prefix_space": False,
                    "model_max_length": context,
                },
                indent=2,
            ),
        }
    if tokenizer.name != "gpt2":
        pieces = [base64.b64encode(piece).decode() for piece in tokenizer.pieces]
        files[OWN_TOKENIZER] = json.dumps({"about": as_data(tokenizer), "pieces": pieces})
    return files


def own_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer that `write` left in `folder`, if it did. Raises ConfigError if damaged."""
    path = folder / OWN_TOKENIZER
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return from_data(kept["about"], [base64.b64decode(piece) for piece in kept["pieces"]])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError([f"{path} is damaged: {error}"]) from None
