"""Options that several commands share, and what they print alike."""

from __future__ import annotations

import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from sweep.format import without_infinity


class Finite(click.FloatRange):
    """A number within bounds; nan, which is in no order, and infinity are none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Raises click.BadParameter."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, got {value}", param, ctx)
        return number


folder_argument = click.argument("folder", required=False, type=click.Path(path_type=Path))
runs_option = click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder that holds the run folders.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print data instead of text.")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Fix a setting; repeatable."
)
address_option = click.option(
    "--address",
    envvar="RAY_ADDRESS",
    help="Ray cluster to join, or auto.  [default: $RAY_ADDRESS, else start one here]",
)
here_option = click.option(
    "--here", is_flag=True, help="One trial at a time in this process, without Ray."
)
plain_option = click.option("--plain", is_flag=True, help="Plain lines instead of the live view.")


def print_json(data: Any) -> None:
    """Print `data` for --json; null stands for a number that is not finite."""
    click.echo(json.dumps(without_infinity(data), indent=2, allow_nan=False))


def same_command() -> str:
    """The command that the user typed; typed again, it continues what it began."""
    return shlex.join(["sweep", *sys.argv[1:]])
