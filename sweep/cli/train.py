"""The verbs of the trainer alone: train, presets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from model.config import Config, block_parameters, parameters, scaled
from model.config.presets import Preset
from model.progress import Progress
from model.training.ranks_failed import RanksFailed
from sweep.format import count_text

if TYPE_CHECKING:
    from model.optim import Group
    from model.training.ranks import Ranks

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import click

from model.config import ALL, SETTINGS, ConfigError, Value
from model.config.presets import PRESETS, overridden, preset
from sweep.cli.data import describe_splits
from sweep.cli.options import json_option, print_json, set_option
from sweep.cli.text import counted, with_weights
from sweep.errors import SweepError
from sweep.space import read_overrides


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
@click.option(
    "--gpus",
    default="1",
    metavar="N|auto",
    help="Share each batch among so many processes here, each with a GPU if there are any; auto: "
    "all GPUs.  [default: 1]",
)
def train(name: str | None, overrides: tuple[str, ...], out: Path | None, gpus: str) -> None:
    """Train one GPT, or go on training it. Ctrl-C stops; the same command continues.

    Settings are the preset's, where one is named, with those of --set instead. The folder gets a
    journal that `sweep status` and `sweep publish` read; runs of more than 20 s go to MLflow. Under
    torchrun, which may start it on several machines, all its processes train one network.

    \b
      sweep train --set train.epochs=4 --set optim.name=muon
      sweep train --preset slowrun-tiny --set data.path=fineweb.parquet --gpus 8
    """
    folder = out or Path("runs") / "train"
    place, count = _place(), _count(gpus)
    if place and gpus != "1":
        raise SweepError("--gpus: torchrun has started the processes already; leave it out")
    try:
        config = _config(name, overrides)
        if place and place[0] > 0:
            _follow(config, folder, place)
            return
        digest = hashlib.sha256(json.dumps(config.settings()).encode()).hexdigest()[:12]
        folder = out or folder / digest
        config = _pinned(config, folder)
        click.echo(f"training in {folder}", err=True)
        if name and preset(name).notes:
            click.echo(f"{name}, but: {preset(name).notes}", err=True)
        runs = Path("runs") if out is None else folder.parent
        with _first_of(config, place) as ranks:
            _train(config, folder, overrides, runs, count, ranks)
    except BrokenPipeError:
        raise  # an OSError too, but of whoever reads what we print
    except OSError as error:
        raise SweepError(f"cannot train in {folder}: {error.strerror or error}") from None
    except RanksFailed as error:
        hint = "The same command continues from the last evaluation."
        raise SweepError(f"training ended: {error}", hint=hint, code=1) from None
    except ConfigError as error:
        raise SweepError(
            "these settings cannot be trained",
            error.problems,
            hint="`sweep settings` lists every setting with its unit, default and bounds.",
        ) from None


def _place() -> tuple[int, int, int] | None:
    """Rank, processes in all and number on this machine, as torchrun says; None without it."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not {*names, "MASTER_ADDR"} <= os.environ.keys():
        return None
    rank, width, local = (int(os.environ[name]) for name in names)
    return rank, width, local


def _count(gpus: str) -> int:
    if gpus == "auto":
        from model.training.device import gpu_count

        return max(1, gpu_count())
    if not gpus.isdecimal() or int(gpus) < 1:
        raise SweepError(f"--gpus: expected a number such as 8, or auto, got {gpus!r}")
    return int(gpus)


@contextmanager
def _first_of(config: Config, place: tuple[int, int, int] | None) -> Iterator[Ranks | None]:
    """Inside, this process is the first of those that torchrun has started, if it has any."""
    if place is None:
        yield None
        return
    from model.data.batches import open_table
    from model.training.ranks import joined

    open_table(config.data)  # may take long where it is made: before the others wait for us
    with joined(config, *place) as ranks:
        yield ranks


def _follow(config: Config, folder: Path, place: tuple[int, int, int]) -> None:
    """Train as one of several processes of which another one has the folder and says how it is."""
    from model.training.train import train

    with _first_of(config, place) as ranks:
        assert ranks is not None
        for _ in train(config, folder, ranks=ranks):
            pass


def _config(preset_name: str | None, overrides: Sequence[str]) -> Config:
    """The preset's settings with KEY=VALUE words instead. Raises ConfigError with every problem."""
    pairs, problems = read_overrides(overrides, SETTINGS)
    settings: Mapping[str, Value] = {}
    try:
        settings = preset(preset_name).settings if preset_name else {}
    except ConfigError as error:
        problems = [*error.problems, *problems]
    if problems:
        raise ConfigError(problems)
    chosen: Mapping[str, object] = overridden(settings, dict(pairs))
    if chosen.get("gpt.init"):
        chosen = with_weights(chosen)
    if chosen.get("data.train_tokens") == ALL:
        chosen = {**chosen, "data.train_tokens": counted(chosen)}
    return Config.from_settings(chosen)


def _pinned(config: Config, folder: Path) -> Config:
    """`config` with the digest of the tokens that `folder` began with, where their text is gone."""
    from model.data.prepare import is_gone
    from sweep.folder import JOURNAL
    from sweep.journal import read_view

    if config.data.digest or not is_gone(config.data.path) or not (folder / JOURNAL).exists():
        return config
    header = read_view(folder / JOURNAL).header
    if header.get("fixed", {}).get("data.path") != config.data.path:
        return config
    return replace(config, data=replace(config.data, digest=header.get("data", "")))


def _train(
    config: Config,
    folder: Path,
    overrides: Sequence[str],
    runs: Path,
    gpus: int,
    ranks: Ranks | None,
) -> None:
    from model.data.batches import open_table
    from model.optim import outline
    from model.pretrained import check_tokens
    from model.training.device import runtime, threads
    from model.training.release import CHECKPOINT
    from sweep.format import table
    from sweep.run import SingleRun
    from sweep.tracking.process import store_uri

    tokens = open_table(config.data)
    if config.gpt.init and not (folder / CHECKPOINT).exists():
        check_tokens(config.gpt.init, tokens.recorded["tokenizer"])  # before anything is written
    lines = [*describe(config, tokens.vocabulary), describe_splits(tokens)]
    click.echo("\n".join(lines), err=True)
    groups = outline(config, tokens.vocabulary)
    click.echo(table(group_rows(groups)), err=True)
    if runtime(config).device.type == "cpu":
        many = "; a sweep's trial has as many as trial.cpus, by default 1" if threads() > 1 else ""
        click.echo(f"CPU threads: {threads()}{many} (OMP_NUM_THREADS)", err=True)
    shown = columns(config)
    click.echo(heading(shown))
    settings = config.settings()
    named = dict(read_overrides(overrides, SETTINGS)[0])
    chosen = {name: settings[name] for name in named if name in settings}
    single = SingleRun(
        config, folder, chosen, tokens.digest, store_uri(runs), gpus=gpus, ranks=ranks
    )
    for progress in single.train():
        click.echo(row(progress, shown))
    if single.last is not None and single.last.diverged:
        raise SweepError(f"diverged at step {single.last.diverged_step}; lower optim.lr", code=1)
    click.echo(single.closing(), err=True)


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
        print_json([preset_as_data(*item) for item in PRESETS.items()])
        return

    from sweep.format import table, terminal_width

    click.echo(table(preset_rows(PRESETS), terminal_width()))


EVERY_RUN = ("done", "epoch", "train loss", "val loss", "bits/byte")
AVERAGES = ("ema", "weights", "probabilities")


def describe(config: Config, vocabulary: int) -> list[str]:
    """The network and the schedule that `config` comes to, a line each.

    vocabulary  different tokens; a token table knows, settings only guess
    """
    shape, optim = scaled(config.gpt), config.optim
    blocks = block_parameters(shape)
    total = parameters(shape, vocabulary)
    lines = [
        f"{shape.layers} layers, width {shape.width}, {shape.heads} heads: "
        f"{count_text(total)} parameters, {count_text(blocks)} of them in blocks"
    ]
    if shape.heads_by_layer or shape.units_by_layer:
        heads, units = (" ".join(map(str, of)) for of in (shape.layer_heads, shape.layer_units))
        lines.append(f"heads by layer {heads}; hidden units by layer {units}")
    if config.gpt.scale != 1:
        asked = config.gpt.scale * block_parameters(config.gpt)
        lines.append(
            f"gpt.scale {config.gpt.scale:g} asks for {count_text(asked)} in blocks: "
            f"{100 * (blocks / asked - 1):+.1f} % off"
        )
    lines.append(
        f"{config.steps:,} steps of {config.train.batch_tokens:,} tokens in {config.train.epochs} "
        f"epoch{'s' * (config.train.epochs > 1)} of {count_text(config.data.train_tokens)}"
    )
    if config.train.members > 1:
        lines.append(
            f"{config.train.members} such networks; losses are of their averaged probabilities"
        )
    decay = f"weight decay {optim.weight_decay:.3g}, {optim.weight_decay_multiplier:.3g} times 0.1"
    if optim.decay_timescale:
        decay += f": a timescale of {optim.decay_timescale:.3g} epochs at the peak rate"
    return [*lines, decay]


def group_rows(groups: Sequence[Group]) -> list[list[str]]:
    """The optimizers' groups of parameters with their rates, as a table, its heading first.

    Rates are peaks, and a step at the peak shrinks weights by the decay, before its schedule.
    """
    rows = [["group", "optimizer", "parameters", "peak rate", "decay a step"]]
    for group in groups:
        rate, decay = f"{group.lr:.3g}", f"{group.decay_per_step:.3g}"
        rows.append([group.name, group.optimizer, count_text(group.parameters), rate, decay])
    return rows


def columns(config: Config) -> list[str]:
    """Headings of a run's evaluations: those of averages where it has them."""
    train = config.train
    has = {"ema": train.ema_epochs > 0, "weights": train.averages_ends}
    has["probabilities"] = has["weights"]
    averages = [name for name in AVERAGES if has[name]]
    return [*EVERY_RUN, *(["raw", *averages] if averages else []), "seconds"]


def row(progress: Progress, shown: list[str]) -> str:
    """One evaluation under the headings `shown`; a dash for an average not there yet."""
    cells = {
        "done": f"{progress.basis_points / 100:.1f} %",
        "epoch": f"{progress.epoch:.2f}",
        "bits/byte": f"{progress.bits_per_byte:.4f}",
        "seconds": f"{progress.seconds:.1f}",
    }
    losses = {
        "train loss": progress.train_loss,
        "val loss": progress.val_loss,
        "raw": progress.raw_loss,
        "ema": progress.ema_loss,
        "weights": progress.weights_loss,
        "probabilities": progress.probabilities_loss,
    }
    cells |= {name: "-" if loss is None else f"{loss:.4f}" for name, loss in losses.items()}
    return _line([cells[name] for name in shown], shown)


def heading(shown: list[str]) -> str:
    """The headings themselves, as wide as what comes below."""
    return _line(shown, shown)


def _line(cells: list[str], shown: list[str]) -> str:
    padded = [cell.rjust(max(7, len(name))) for cell, name in zip(cells, shown, strict=True)]
    return "  ".join(padded)


def preset_as_data(name: str, recipe: Preset) -> dict[str, Any]:
    """One preset for --json; the size is that of the published run, with its vocabulary."""
    config = Config.from_settings(recipe.settings)
    return {
        "name": name,
        "parameters": parameters(config.gpt, recipe.vocabulary),
        "block_parameters": block_parameters(config.gpt),
        "published": recipe.published,
        "layers": config.gpt.layers,
        "width": config.gpt.width,
        "heads": config.gpt.heads,
        "vocabulary": recipe.vocabulary,
        "train_tokens": config.data.train_tokens,
        "epochs": config.train.epochs,
        "reproduces": recipe.reproduces,
        "source": recipe.source,
        "notes": recipe.notes,
        "settings": dict(recipe.settings),
    }


def preset_rows(presets: dict[str, Preset]) -> list[list[str]]:
    """`sweep presets` as a table, its heading first."""
    rows = [["preset", "parameters", "layers x width", "tokens", "reproduces", "source"]]
    for name, recipe in presets.items():
        data = preset_as_data(name, recipe)
        rows.append(
            [
                name,
                count_text(data["parameters"]),
                f"{data['layers']} x {data['width']}",
                f"{data['epochs']} x {count_text(data['train_tokens'])}",
                data["reproduces"],
                data["source"],
            ]
        )
    return rows
