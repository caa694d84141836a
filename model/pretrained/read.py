"""Weights of others as the first weights of a network of ours.

Shapes: V rows of the embedding, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model.config import ConfigError, GPTConfig
from model.pretrained.architecture import misfits
from model.pretrained.checkpoint_of_nanogpt import load
from model.pretrained.names import EMBEDDING, HEAD, TRUNK, to_ours
from model.pretrained.source import Source, find_source

if TYPE_CHECKING:
    from torch import Tensor

GPT2_TOKENS = ("gpt2", "r50k_base")  # one encoding under two names


def read_weights(gpt: GPTConfig, rows: int, tokenizer: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights that `gpt.init` names, as the state of a network of `gpt`.

    rows        of its embedding; those that pad the vocabulary are zero
    tokenizer   what a token table records of its own
    Raises ConfigError with every problem: what `find_source` refuses, settings that do not fit,
    another vocabulary, other files than those of `gpt.init_digest`.
    """
    source = find_source(gpt.init)
    problems = [*misfits(gpt, source.shape), *_other_tokens(source, tokenizer)]
    if not problems and gpt.init_digest and (held := source.digest()) != gpt.init_digest:
        problems.append(
            f"gpt.init_digest: expected {gpt.init_digest}, but the files of {gpt.init} have "
            f"{held}; they changed"
        )
    if problems:
        raise ConfigError(problems)
    return fitted(weights_of(source), gpt, rows)


def check_tokens(init: str, tokenizer: Mapping[str, Any]) -> None:
    """Raise ConfigError if the weights that `init` names cannot know the tokens of a table."""
    if problems := _other_tokens(find_source(init), tokenizer):
        raise ConfigError(problems)


def _other_tokens(source: Source, tokenizer: Mapping[str, Any]) -> list[str]:
    """Why tokens of this tokenizer are not those that the weights know, as far as can be told."""
    vocabulary, name = tokenizer["vocabulary"], tokenizer["name"]
    known = source.shape.vocabulary
    same = name in GPT2_TOKENS if source.has_gpt2_tokens else known == vocabulary
    if same:
        return []
    whose, hint = "", "use the tokens that they were trained on"
    if source.has_gpt2_tokens:
        whose, hint = ", GPT-2's", "set data.tokenizer to gpt2"
    return [
        f"data.tokenizer: the weights of {source.path} know {known:,} tokens{whose}, this text has "
        f"{vocabulary:,} of {name}; {hint}"
    ]


def weights_of(source: Source) -> dict[str, Tensor]:
    """All weights under our names, on the CPU, float32. Raises ConfigError for a damaged file."""
    tensors = load(source.checkpoint) if source.checkpoint else _from_safetensors(source)
    head = tensors.pop(HEAD, None) if source.shape.tied_head else None
    if head is not None and not head.equal(tensors[EMBEDDING]):
        raise ConfigError(
            [f"gpt.init: {source.path}: {HEAD} is not {EMBEDDING}, though they are to be tied"]
        )
    return to_ours(tensors, source.shape, source.linear)


def _from_safetensors(source: Source) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    tensors = {}
    for path in sorted(set(source.at.values())):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (it is no dict)
                    plain = name.removeprefix(TRUNK)
                    if plain in source.at:
                        tensors[plain] = file.get_tensor(name).float()
        except (SafetensorError, OSError) as error:
            raise ConfigError([f"gpt.init: {path} cannot be read: {error}"]) from None
    return tensors


def fitted(weights: dict[str, Tensor], gpt: GPTConfig, rows: int) -> dict[str, Tensor]:
    """`weights` with positions cropped to the context, and tables of `rows`, new ones zero."""
    import torch

    weights["positions.weight"] = weights["positions.weight"][: gpt.context]
    for name in ("embedding.weight", "head.weight"):
        if name in weights:
            table_VD = torch.zeros(rows, gpt.width)
            there = min(rows, len(weights[name]))
            table_VD[:there] = weights[name][:there]
            weights[name] = table_VD
    return weights
