"""`sweep settings`: every setting there is, or those that have to do with a word."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

import click

from model.config import SETTINGS, Setting, did_you_mean
from sweep.cli.options import json_option, print_json
from sweep.errors import SweepError
from sweep.format import table, terminal_width
from sweep.space import SWEEP_SETTINGS, renamed

INDENT = "    "


@click.command()
@click.argument("name", required=False)
@json_option
def settings(name: str | None, as_json: bool) -> None:
    """List every setting with its unit, default, bounds and meaning.

    NAME limits the list to one setting, to one group, or to those with that word in their name or
    meaning.

    \b
      sweep settings optim
      sweep settings lr
    """
    every = {**SETTINGS, **SWEEP_SETTINGS}
    shown = [s for s in every.values() if name in (None, s.name, s.name.partition(".")[0])]
    shown = shown or _with_word(str(name), every)
    if not shown:
        groups = {key.partition(".")[0] for key in every}
        hint = did_you_mean(str(name), [*every, *groups])
        raise SweepError(f"{name}: {renamed(str(name)) or f'no such setting{hint}'}")
    if as_json:
        print_json([_as_data(setting) for setting in shown])
    elif width := terminal_width():
        click.echo("\n".join(line for setting in shown for line in lines_of(setting, width)))
    else:
        header = ["setting", "default", "unit", "bounds", "meaning"]
        click.echo(table([header, *(list(_row(setting)) for setting in shown)]))


def _with_word(word: str, every: Mapping[str, Setting]) -> list[Setting]:
    """Settings with `word` in their name first, then those with it in their meaning.

    Only where no name and no meaning has it as a whole word, those with it anywhere in the name.
    """
    word = word.lower()
    whole = re.compile(rf"(?<![a-z]){re.escape(word)}(?![a-z])")
    named = [setting for setting in every.values() if whole.search(setting.name)]
    meant = [setting for setting in every.values() if whole.search(setting.meaning.lower())]
    within = [setting for setting in every.values() if word in setting.name]
    return named + [setting for setting in meant if setting not in named] or within


def lines_of(setting: Setting, width: int) -> list[str]:
    """A setting as a terminal shows it: name, default and bounds, then its meaning below them."""
    name, default, unit, bounds, meaning = _row(setting)
    head = " ".join(filter(None, [name, "=", default, unit]))
    if len(head) + len(INDENT) + len(bounds) <= width:
        head, bounds = f"{head}{INDENT}{bounds}", ""
    below = [
        textwrap.wrap(text, width, initial_indent=INDENT, subsequent_indent=INDENT)
        for text in (bounds, meaning)
    ]
    return [*textwrap.wrap(head, width), *below[0], *below[1]]


def _row(setting: Setting) -> tuple[str, str, str, str, str]:
    default = (
        ",".join(map(str, setting.default))
        if isinstance(setting.default, tuple)
        else str(setting.default)
    )
    bounds = "list" if setting.kind is tuple else setting.bounds
    return setting.name, default or '""', setting.unit, bounds, setting.meaning


def _as_data(setting: Setting) -> dict[str, object]:
    return {
        "name": setting.name,
        "type": setting.kind.__name__,
        "default": setting.default,
        "unit": setting.unit,
        "bounds": setting.bounds,
        "meaning": setting.meaning,
    }
