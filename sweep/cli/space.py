"""The command line of the space language: its schema, a check, a file to begin with, a plan."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import click

from model.config import ConfigError, Cost, did_you_mean, read_number
from model.config.presets import PRESETS
from sweep.cli.options import json_option, print_json, set_option
from sweep.cli.text import at_most, text_line
from sweep.errors import SweepError
from sweep.format import (
    bytes_text,
    count_text,
    short_names,
    table,
    terminal_width,
    three_digits,
    time_text,
)
from sweep.space import Plan, Space, Speed
from sweep.space.language import read_space
from sweep.space.plan import totals


@click.command()
def schema() -> None:
    """Print the JSON Schema of space files, which editors complete and check with.

    \b
      sweep schema > space.schema.json
    """
    from sweep.space.language import space_schema

    click.echo(json.dumps(space_schema(), indent=1, allow_nan=False))


@click.command()
@click.argument("space", type=click.Path(path_type=Path))
@set_option
def check(space: Path, overrides: tuple[str, ...]) -> None:
    """Check SPACE and say what it searches; nothing is run.

    Its text must be there and long enough, as far as files here tell; what is elsewhere is not
    fetched.

    \b
      sweep check search_spaces/quickstart.yaml
    """
    checked = read_space(space, overrides, count=at_most)
    say_notes(checked)
    text = text_line(checked)
    hyperparameters = ", ".join(checked.searched)
    click.echo(f"{space} is fine: {checked.budget.trials} trials over {hyperparameters}")
    click.echo(text)
    if checked.priors:
        click.echo(priors_text(checked))


def priors_text(space: Space) -> str:
    """Where the user expects the best."""
    return "expected at: " + ", ".join(f"{name} {at}" for name, at in space.priors.items())


def say_notes(space: Space) -> None:
    """Print what in the file has no effect, so that nothing is dropped unseen."""
    for note in space.notes:
        click.echo(f"note: {note}", err=True)


@click.command()
@click.argument("file", default="space.yaml", type=click.Path(path_type=Path))
@click.option("--preset", "preset", metavar="NAME", help="Search around a published recipe.")
def init(file: Path, preset: str | None) -> None:
    """Write a commented space to FILE. An existing file stays as it is.

    \b
      sweep init
      sweep init search_spaces/mine.yaml --preset cpu-tiny
    """
    from sweep.space.language import starter

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
@set_option
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

    from sweep.space import plan as planning
    from sweep.space import speed

    checked = read_space(space, overrides, count=at_most)
    try:
        text = text_line(checked)
    except SweepError as error:  # it may be planned where the text is not
        text = ""
        click.echo(f"note: {error}", err=True)
    planned = planning.plan(checked)
    if measure:
        named = {row.label: row.settings for row in planned.rows}
        try:
            trial_speed = speed.measured(
                [named["cheapest"], named["median"], named["dearest"]],
                checked.trial.cpus,
                checked.trial.width,
            )
        except ConfigError as error:
            raise SweepError("cannot measure", error.problems) from None
    else:
        devices = checked.trial.width
        trial_speed = speed.stated(_rate(rate)) if rate else speed.shared(speed.assumed(), devices)
    if as_json:
        kept, more = planning.disk(checked, planned)
        disk = {"kept": kept, "more_for_each_running": more}
        its = planning.as_data(planned, trial_speed)
        print_json({"name": checked.name, **its, "text": text, "disk": disk})
    else:
        if text:
            click.echo(text)
        click.echo(describe_plan(checked, planned, trial_speed, workers, terminal_width()))


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


def describe_plan(
    space: Space, plan: Plan, speed: Speed, workers: int, width: int | None = None
) -> str:
    """The plan as text: its trials, the cost of one and of all, and the assumptions behind it.

    width   of the terminal, where settings get short names; None for a pipe
    """
    names = (
        {name: name for name in space.searched} if width is None else short_names(space.searched)
    )
    parts = [_headline(space, plan), _points(plan, speed, names, width)]
    totals_ = f"{_totals(plan, speed, workers)}\n{_disk(space, plan, workers)}"
    return "\n\n".join([*parts, totals_])


def _disk(space: Space, plan: Plan, workers: int) -> str:
    """What the sweep needs of the disk, and whether that is there."""
    from sweep.space.plan import disk

    kept, more = disk(space, plan)
    most, free = kept + workers * more, shutil.disk_usage(Path.cwd()).free
    short = f" That is more than the {bytes_text(free)} that are free here." * (most > free)
    trunks = f", at most {space.trial.trunk_room:g} GB of it trunks" * space.trial.share_trunks
    return (
        f"Disk: {bytes_text(kept)} in the end, weights and predictions of all trials{trunks}; "
        f"{bytes_text(more)} more for each that runs. MLflow gets a copy of the best.{short}"
    )


def _headline(space: Space, plan: Plan) -> str:
    seeds = f", {plan.seeds} seeds each" if plan.seeds > 1 else ""
    runs = len(plan.baseline)
    multiples = ", ".join(f"{multiple}x" for multiple in space.baseline.multiples)
    lines = [
        f"{space.name}: {plan.trials} trials{seeds} over {', '.join(space.searched)}",
        f"plain baseline on {multiples} the data: {runs} runs" if runs else "no baseline to train",
    ]
    if space.points:
        lines.append(f"tried first: {len(space.points)} of its own points")
    if space.priors:
        lines.append(priors_text(space))
    if plan.infeasible:
        broken = ", ".join(map(str, space.constraints))
        lines.append(f"{plan.infeasible:.0%} of random proposals break {broken}: replaced, free")
    if plan.untrainable:
        lines.append(f"{plan.untrainable:.0%} of random proposals cannot be trained: they fail")
    return "\n".join(lines)


def _points(plan: Plan, speed: Speed, names: Mapping[str, str], width: int | None) -> str:
    head = ["trial", "parameters", "in blocks", "steps", "tokens", "FLOPs", "memory", "time"]
    rows = [[*head, "with"]]
    for row in plan.rows:
        recipe = (f"{names[name]}={three_digits(v)}" for name, v in row.searched.items())
        rows.append([row.label, *_cells(row.cost, speed), " ".join(recipe)])
    for label, cost in dict(plan.baseline).items():  # seeds cost the same
        rows.append([f"baseline {label}", *_cells(cost, speed), ""])
    return table(rows, width)


def _cells(cost: Cost, speed: Speed) -> list[str]:
    return [
        count_text(cost.parameters),
        count_text(cost.block_parameters),
        f"{cost.steps:,}",
        count_text(cost.tokens),
        f"{cost.flops:.2e}",
        bytes_text(cost.memory),
        time_text(speed.seconds(cost)),
    ]


def _totals(plan: Plan, speed: Speed, workers: int) -> str:
    head = ["in all, expected", "tokens", "FLOPs", "time, one by one"]
    many = [f"{workers} at a time"] if workers > 1 else []
    rows = [[*head, *many]]
    for part, spent in totals(plan, speed).items():
        seconds = spent["seconds"]
        parallel = [time_text(seconds / workers)] if workers > 1 else []
        tokens, flops = count_text(spent["tokens"]), f"{spent['flops']:.2e}"
        rows.append([part, tokens, flops, time_text(seconds), *parallel])
    shared = [
        "Shared trunks, not in it: a recipe tried at every epoch count takes "
        f"{plan.sharing:.2f} times less training."
    ] * (plan.sharing > 1)
    held = f"; a GPU held {bytes_text(speed.memory)} at most" if speed.memory else ""
    return "\n".join(
        [
            table(rows),
            "",
            f"Time: {speed.source}{held}. Starting trials is not in it.",
            f"Pruned: {plan.assumption}.",
            *shared,
            "Memory: an estimate of weights, optimizer and activations, without the process; with "
            "train.precision auto as in fp32, of which bf16 takes about two thirds.",
        ]
    )
