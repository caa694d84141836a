"""The command line of the space language: its schema, a file to begin with, what one would cost."""

from __future__ import annotations

import json
from pathlib import Path

import click

from model.config.number import read_number
from model.config.presets import PRESETS
from model.config.setting import ConfigError, did_you_mean
from sweep.cli.options import json_option
from sweep.errors import SweepError
from sweep.space.language.reader import read_space


@click.command()
def schema() -> None:
    """Print the JSON Schema of space files, which editors complete and check with.

    \b
      sweep schema > space.schema.json
    """
    from sweep.space.language.schema import space_schema

    click.echo(json.dumps(space_schema(), indent=1, allow_nan=False))


@click.command()
@click.argument("file", default="space.yaml", type=click.Path(path_type=Path))
@click.option("--preset", "preset", metavar="NAME", help="Search around a published recipe.")
def init(file: Path, preset: str | None) -> None:
    """Write a commented space to FILE. An existing file stays as it is.

    \b
      sweep init
      sweep init search_spaces/mine.yaml --preset cpu-tiny
    """
    from sweep.space.language.template import starter

    if preset and preset not in PRESETS:
        hint = did_you_mean(preset, PRESETS) or "; `sweep presets` lists them"
        raise SweepError(f"--preset {preset}: no such preset{hint}")
    text = starter(str(file), _name(file), preset or "")
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise SweepError(f"{file} is there already", hint="Name another file.") from None
    except OSError as error:
        raise SweepError(f"cannot write {file}: {error.strerror}") from None
    click.echo(f"wrote {file}; next: sweep plan {file}", err=True)


@click.command()
@click.argument("space", type=click.Path(path_type=Path))
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Fix a setting; repeatable."
)
@click.option("--measure", is_flag=True, help="Train some steps here to know the time.")
@click.option("--rate", metavar="FLOP/S", help="What one trial reaches, such as 100T.")
@click.option(
    "--workers", type=click.IntRange(1), default=1, help="Trials at a time.  [default: 1]"
)
@json_option
def plan(
    space: Path,
    overrides: tuple[str, ...],
    measure: bool,
    rate: str | None,
    workers: int,
    as_json: bool,
) -> None:
    """Say what the sweep of SPACE would take, before anything is spent.

    Parameters, tokens, FLOPs, memory and time of its cheapest, typical and dearest trials, and of
    all of them together. With --measure the tokens are prepared and some steps are trained, for
    about ten seconds; nothing else runs.

    \b
      sweep plan search_spaces/quickstart.yaml
      sweep plan search_spaces/quickstart.yaml --measure --workers 8
    """
    from sweep.cli.space_plan_report import describe_plan
    from sweep.space import plan as planning
    from sweep.space import speed

    checked = read_space(space, overrides)
    found = planning.plan(checked)
    if measure:
        named = {row.label: row.settings for row in found.rows}
        try:
            known = speed.measured([named["cheapest"], named["median"], named["dearest"]])
        except ConfigError as error:
            raise SweepError("cannot measure", error.problems) from None
    else:
        known = speed.given(_rate(rate)) if rate else speed.assumed()
    if as_json:
        click.echo(json.dumps(planning.as_data(found, known), indent=2, allow_nan=False))
    else:
        click.echo(describe_plan(checked, found, known, workers))


def _rate(text: str) -> float:
    try:
        rate = read_number(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise SweepError(f"--rate: expected FLOP/s such as 100T or 1e14, got {text!r}")
    return rate


def _name(file: Path) -> str:
    """A run folder's name made of the file's."""
    letters = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in file.stem)
    return letters.lstrip("._-") or "space"
