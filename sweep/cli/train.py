"""The verbs of the trainer alone: train, and what it can be told."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import click

from model.config.config import SETTINGS, Config
from model.config.presets import PRESETS, overridden, preset
from model.config.setting import ConfigError, Setting, did_you_mean
from sweep.cli.options import json_option, set_option
from sweep.cli.train_training import (
    columns,
    describe,
    group_rows,
    heading,
    preset_as_data,
    preset_rows,
    row,
)
from sweep.errors import SweepError
from sweep.space.settings import SWEEP_SETTINGS


@click.command()
@click.option(
    "--preset",
    "name",
    metavar="NAME",
    help="Begin with the settings of a published recipe; `sweep presets` lists them.",
)
@set_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the checkpoint.  [default: runs/train/ and a digest of the settings]",
)
def train(name: str | None, overrides: tuple[str, ...], out: Path | None) -> None:
    """Train one GPT, or go on training it. Ctrl-C stops; the same command continues.

    Settings are the preset's, where one is named, with those of --set instead.

    \b
      sweep train --set train.epochs=4 --set optim.name=muon
      sweep train --preset slowrun-tiny --set data.path=fineweb.parquet
    """
    given = {key: value for key, _, value in (text.partition("=") for text in overrides)}
    folder = out or Path("runs") / "train"
    try:
        config = Config.from_settings(overridden(preset(name).settings if name else {}, given))
        digest = hashlib.sha256(json.dumps(config.settings()).encode()).hexdigest()[:12]
        folder = out or folder / digest
        click.echo(f"training in {folder}", err=True)
        if name and preset(name).notes:
            click.echo(f"{name}, but: {preset(name).notes}", err=True)
        _train(config, folder)
    except BrokenPipeError:
        raise  # an OSError too, but of whoever reads what we print
    except OSError as error:
        raise SweepError(f"cannot train in {folder}: {error.strerror or error}") from None
    except ConfigError as error:
        raise SweepError(
            "these settings cannot be trained",
            error.problems,
            hint="`sweep settings` lists every setting with its unit, default and bounds.",
        ) from None


def _train(config: Config, folder: Path) -> None:
    click.echo("\n".join(describe(config)), err=True)

    from model.optim.optimizers_outline import outline
    from model.training.train import train as train_model
    from sweep.format import table

    groups = outline(config, config.data.token_kinds)
    click.echo(table(group_rows(groups)), err=True)
    shown = columns(config)
    click.echo(heading(shown))
    for progress in train_model(config, folder):
        click.echo(row(progress, shown))
        if progress.diverged:
            raise SweepError(f"diverged at step {progress.diverged_step}; lower optim.lr", code=1)


@click.command()
@json_option
def presets(as_json: bool) -> None:
    """List the recipes that `sweep train --preset` and `preset:` in a space begin with.

    Parameters are those of the published run.

    \b
      sweep presets
      sweep presets --json
    """
    if as_json:
        click.echo(json.dumps([preset_as_data(*item) for item in PRESETS.items()], indent=2))
        return

    from sweep.format import table

    click.echo(table(preset_rows(PRESETS)))


@click.command()
@click.argument("name", required=False)
@json_option
def settings(name: str | None, as_json: bool) -> None:
    """List every setting with its unit, default, bounds and meaning.

    NAME limits the list to one setting or one group.

    \b
      sweep settings optim
    """
    known = {**SETTINGS, **SWEEP_SETTINGS}
    shown = [s for s in known.values() if name in (None, s.name, s.name.partition(".")[0])]
    if not shown:
        groups = {key.partition(".")[0] for key in known}
        raise SweepError(f"{name}: no such setting{did_you_mean(str(name), [*known, *groups])}")
    if as_json:
        click.echo(json.dumps([_setting_as_data(s) for s in shown], indent=2))
        return

    from sweep.format import table

    header = ["setting", "default", "unit", "bounds", "meaning"]
    click.echo(table([header, *([*map(str, _row(s))] for s in shown)]))


def _row(about: Setting) -> tuple[str, str, str, str, str]:
    default = (
        ",".join(map(str, about.default))
        if isinstance(about.default, tuple)
        else str(about.default)
    )
    bounds = "list" if about.kind is tuple else about.bounds
    return about.name, default or '""', about.unit, bounds, about.meaning


def _setting_as_data(about: Setting) -> dict[str, object]:
    return {
        "name": about.name,
        "type": about.kind.__name__,
        "default": about.default,
        "unit": about.unit,
        "bounds": about.bounds,
        "meaning": about.meaning,
    }
