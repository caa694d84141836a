"""KEY=VALUE words of a command line, read by one rule for every command that takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model.config import SETTINGS, ConfigError, Setting, Value, suggestion
from sweep.space.settings import SWEEP_SETTINGS, renamed


def read_overrides(
    words: Sequence[str], settings: Mapping[str, Setting], option: str = "--set"
) -> tuple[list[tuple[str, Value]], list[str]]:
    """The (name, value) pairs in the order they were written, and a line for each problem.

    settings   what may be set, by the name that KEY must be
    option     the option that the words followed, for the problems
    """
    pairs: list[tuple[str, Value]] = []
    problems = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            problems.append(f"{option} {word}: expected KEY=VALUE")
        elif name not in settings:
            problems.append(f"{option} {word}: {_unknown(name, settings)}")
        else:
            try:
                pairs.append((name, settings[name].check(text)))
            except ConfigError as error:
                problems.append(f"{option} {name}: {error}")
    return pairs, problems


def _unknown(name: str, settings: Mapping[str, Setting]) -> str:
    if name in SETTINGS or name in SWEEP_SETTINGS:
        return "cannot be set here"
    # A word that several kinds of settings have, as lr, most likely means the trainer's.
    ours = suggestion(name, settings) or suggestion(name, settings.keys() & SETTINGS.keys())
    return renamed(name) or f"no such setting{ours}"
