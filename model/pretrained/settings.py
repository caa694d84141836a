"""What `gpt.init` says about other settings: the shape of its weights, and which files they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.config import SETTINGS, ConfigError, GPTConfig
from model.pretrained import hub
from model.pretrained.architecture import COMMON, PUBLISHED, Shape, misfits
from model.pretrained.source import GPT2_VOCABULARY, PADDED, find_source, published

INIT, DIGEST, TOKENIZER = "gpt.init", "gpt.init_digest", "data.tokenizer"


def fill_in(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with those of the weights that `gpt.init` names, where they have none.

    Nothing is fetched: a published network's shape is known. Raises ConfigError with every problem
    of the weights, and with each setting that does not fit them.
    """
    word = settings.get(INIT)
    if not word or not isinstance(word, str):
        return dict(settings)
    shape = _shape(word)
    filled: dict[str, Any] = {**shape.settings(), **settings}
    if shape.vocabulary in (GPT2_VOCABULARY, PADDED):
        filled.setdefault(TOKENIZER, "gpt2")
    if problems := _problems(filled, shape):
        raise ConfigError(problems)
    return filled


def fixed_by(word: str) -> set[str]:
    """Settings that the weights called `word` decide, so that no search can vary them."""
    free = {"gpt.context", "gpt.input_init", "gpt.output_init"}
    return {*COMMON, *_shape(word).settings(), INIT, DIGEST} - free


def pin(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with the digest of the files that `gpt.init` names, fetched if they are not here.

    Raises ConfigError where `fill_in` does, if they cannot be had, or are not those of a digest
    that is given.
    """
    word = settings.get(INIT)
    if not word:
        return dict(settings)
    held = find_source(str(word), fetch=True).digest()
    asked = settings.get(DIGEST) or held
    if asked != held:
        raise ConfigError([f"{DIGEST}: expected {asked}, but the files of {word} have {held}"])
    return {**settings, DIGEST: held}


def _shape(word: str) -> Shape:
    name = published(word)
    return PUBLISHED[name] if name and hub.on_disk(name) is None else find_source(word).shape


def _problems(settings: Mapping[str, Any], shape: Shape) -> list[str]:
    """Settings that do not fit `shape`; those that are impossible at all are told elsewhere."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        part, _, key = name.partition(".")
        if part == "gpt" and name in SETTINGS:
            try:
                values[key] = SETTINGS[name].check(value)
            except ConfigError:
                return []
    gpt = GPTConfig(**values)
    return [] if gpt.problems() else misfits(gpt, shape)
