"""`sweep shrink`: a trained network made smaller."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.config import ALL, SETTINGS, Config, ConfigError
from sweep.cli.options import json_option, print_json, runs_option, set_option
from sweep.cli.text import counted
from sweep.cli.train import columns, heading, row
from sweep.errors import SweepError
from sweep.shrinking.request import EPOCHS, FINALISTS, RATE, Request
from sweep.space import read_overrides

if TYPE_CHECKING:
    from model.data.table import TokenTable
    from model.training.trained import Trained
    from sweep.models import Named
    from sweep.shrinking.outcome import Outcome

SECONDS_BETWEEN_LINES = {True: 0.5, False: 10.0}  # on a terminal, where one line is redrawn; else
ERASE = "\r\x1b[2K"
NEW_DATA = {"data.train_tokens": ALL, "data.digest": ""}  # of --data, unless they are set


@click.command()
@click.argument("model")
@click.option(
    "--size",
    type=float,
    default=0.0,
    metavar="SHARE",
    help="Find the plan that leaves at most this share of all parameters.",
)
@click.option(
    "--layers",
    default="",
    metavar="HOW:N",
    help="Drop N layers: top, bottom, alternate, symmetric, contribution; or by number: 2,5.",
)
@click.option("--heads", default="", metavar="SHARE", help="Drop this share of attention heads.")
@click.option(
    "--units",
    default="",
    metavar="[HOW:]SHARE",
    help="Drop this share of MLP units, by gradient or magnitude.",
)
@click.option(
    "--epochs",
    type=float,
    default=EPOCHS,
    show_default=True,
    help="Of the fine-tune; below 1 a part of the tokens, 0 none.",
)
@click.option(
    "--rate", type=float, default=RATE, show_default=True, help="Its peak, of that of the run."
)
@click.option(
    "--finalists",
    type=int,
    default=FINALISTS,
    show_default=True,
    metavar="N",
    help="Plans of --size that are fine-tuned for a while before one is chosen.",
)
@click.option("--compare", is_flag=True, help="Fine-tune each strategy alone as well, to compare.")
@click.option("--data", metavar="FILE", help="Text, where the model's own is not there.")
@set_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the smaller model.  [default: runs/shrink/ and a digest]",
)
@runs_option
@json_option
def shrink(
    model: str,
    size: float,
    layers: str,
    heads: str,
    units: str,
    epochs: float,
    rate: float,
    finalists: int,
    compare: bool,
    data: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
    runs: Path,
    as_json: bool,
) -> None:
    """Make a trained network smaller: fewer layers, heads, MLP units; then a short fine-tune.

    Either --size, and the best plan is searched on training tokens, or what goes. The result is a
    model as any other. Ctrl-C stops; the same command continues the fine-tune.

    \b
      sweep shrink runs/quickstart --size 0.6
      sweep shrink runs/train/3f2a --layers top:2 --units gradient:0.25 --epochs 0
    """
    request = Request(
        size=size,
        layers=layers,
        heads=heads,
        units=units,
        epochs=epochs,
        rate=rate,
        finalists=finalists,
        compare=compare,
    )
    pairs, problems = read_overrides(overrides, SETTINGS)
    if problems := [*request.problems(), *problems]:
        raise SweepError(f"{model} cannot be shrunk like this", problems)
    chosen: dict[str, object] = dict(pairs)
    if data is not None:
        chosen = {**NEW_DATA, "data.path": data, **chosen}
    from sweep.models import named

    its = named(model, runs)
    asked = {"model": str(its.folder.absolute()), **request.to_dict(), "set": chosen}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
    folder = out or runs / "shrink" / digest
    try:
        outcome = _shrink(its, request, chosen, folder, runs if out is None else folder.parent)
    except ConfigError as error:
        raise SweepError(f"{model} cannot be shrunk like this", error.problems) from None
    except BrokenPipeError:
        raise  # an OSError too, but of whoever reads what we print
    except OSError as error:
        raise SweepError(f"cannot write {folder}: {error.strerror or error}") from None
    _print(outcome, folder, as_json)


def _shrink(
    its: Named, request: Request, chosen: dict[str, object], folder: Path, runs: Path
) -> Outcome:
    from sweep.shrinking import work

    before = _before(its.name, request, folder)
    if before is not None and before.ended:
        return before
    if chosen.get("data.train_tokens") == ALL:
        chosen = {**chosen, "data.train_tokens": counted({**its.settings, **chosen})}
    trained = work.with_settings(its.trained, chosen)
    table = _text(trained)
    say, erase = _progress()
    try:
        outcome = before or work.plan(its.name, trained, table, request, say)
    finally:
        erase()
    config = work.begin(outcome, trained, table, request, folder)
    return _train(config, outcome, table, folder, runs)


def _before(name: str, request: Request, folder: Path) -> Outcome | None:
    """What an interrupted or ended command like this one has left in `folder`."""
    from sweep.shrinking import outcome as outcomes

    before = outcomes.read(folder)
    if before is None:
        if folder.exists() and any(folder.iterdir()):
            raise SweepError(f"{folder} is there already, and not by this command", hint=ANOTHER)
        return None
    if before.model != name or before.request != request.to_dict():
        raise SweepError(
            f"{folder} holds {before.model} shrunk in another way: {before.strategy}", hint=ANOTHER
        )
    return before


ANOTHER = "Choose another --out, or remove that folder."


def _text(trained: Trained) -> TokenTable:
    """The tokens that the network was trained on. Raises SweepError if they are not there."""
    from model.data.batches import open_table

    try:
        table = open_table(trained.config.data)
    except ConfigError as error:
        raise SweepError(
            "the text that this network was trained on cannot be read, and shrinking needs it: it "
            "says what matters, and the fine-tune reads it",
            error.problems,
            hint="--data FILE names a text to take instead.",
        ) from None
    if table.tokenizer.digest != trained.tokenizer.digest:
        raise SweepError(
            f"the tokens of {trained.config.data.path or 'the embedded corpus'} are others than "
            "those the network knows",
            hint="Name a text with --data, and its tokenizer with --set data.tokenizer=NAME.",
        )
    return table


def _train(
    config: Config, outcome: Outcome, table: TokenTable, folder: Path, runs: Path
) -> Outcome:
    """Fine-tune what is left, if that was asked for, and note what came of it."""
    from sweep.run import SingleRun
    from sweep.shrinking import work
    from sweep.tracking.process import store_uri

    settings = config.settings()
    named = ("gpt.heads_by_layer", "gpt.units_by_layer")
    chosen = {name: settings[name] for name in named if settings[name]}
    single = SingleRun(config, folder, chosen, table.digest, store_uri(runs), name="shrink")
    shown = columns(config)
    if outcome.request["epochs"]:
        click.echo(f"fine-tuning in {folder}\n{heading(shown)}", err=True)
    for progress in single.train():
        click.echo(row(progress, shown), err=True)
        if progress.diverged:
            raise SweepError(f"diverged at step {progress.diverged_step}; lower --rate", code=1)
        if progress.done:  # before MLflow gets what lies in the folder
            outcome = work.finish(outcome, table, folder)
    return outcome


def _progress() -> tuple[Callable[[str], None], Callable[[], None]]:
    """What shows how far the search is, on one line of a terminal; and what erases that."""
    on_terminal = sys.stderr.isatty()
    shown = [-SECONDS_BETWEEN_LINES[on_terminal]]

    def say(text: str) -> None:
        now = time.monotonic()
        if now - shown[0] >= SECONDS_BETWEEN_LINES[on_terminal]:
            shown[0] = now
            click.echo(f"{ERASE}{text}" if on_terminal else text, nl=not on_terminal, err=True)

    def erase() -> None:
        if on_terminal:
            click.echo(ERASE, nl=False, err=True)

    return say, erase


def _print(outcome: Outcome, folder: Path, as_json: bool) -> None:
    from sweep.format import terminal_width
    from sweep.shrinking.outcome import text

    if as_json:
        print_json({"folder": str(folder), **outcome.to_dict()})
        return
    click.echo(text(outcome, terminal_width()))
    click.echo(f"the model  {folder}", err=True)
