"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

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
