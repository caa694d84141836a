"""`sweep gc`: what a run folder holds, and room in it without losing what anything rests on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli.options import Finite, folder_argument, json_option, print_json, runs_option

if TYPE_CHECKING:
    from sweep.run.contents import Contents

NAMED = 12  # files, or trials, that are told one by one


@click.command()
@folder_argument
@click.option("--dry-run", is_flag=True, help="Remove nothing; say what would go.")
@click.option(
    "--best",
    type=click.IntRange(min=0),
    metavar="N",
    help="Weights of so many best trials stay; 0: all.  [default: keep.best of the space]",
)
@click.option(
    "--max-gb",
    type=Finite(min=0),
    metavar="GB",
    help="Room for weights; 0: any.  [default: keep.max_gb of the space]",
)
@runs_option
@json_option
def gc(
    folder: Path | None,
    dry_run: bool,
    best: int | None,
    max_gb: float | None,
    runs: Path,
    as_json: bool,
) -> None:
    """Make room in a run folder; by default the latest.

    Weights go as `keep.best` and `keep.max_gb` say, worst first, and whatever killed processes
    left. Those of the best, of unfinished trials, finalists, runs with fresh seeds, members of the
    ensemble and teachers always stay; so do settings, curves and losses. --dry-run shows what the
    folder holds and works while a driver does. Killed in the middle, the same command goes on.

    \b
      sweep gc runs/quickstart --dry-run
      sweep gc runs/quickstart --best 3
    """
    from contextlib import nullcontext

    from sweep.folder import locked, run_folder
    from sweep.run import contents, trial_and_keep

    folder = run_folder(folder, runs)
    with nullcontext() if dry_run else locked(folder):
        trial, keep = trial_and_keep(folder)
        if best is not None:
            keep = replace(keep, best=best)
        if max_gb is not None:
            keep = replace(keep, max_gb=max_gb)
        holds = contents.contents(folder, keep, trial)
        if not dry_run:
            contents.remove(holds, folder)
    if as_json:
        print_json(_data(folder, holds, dry_run))
    else:
        _show(folder, holds, dry_run)


def _show(folder: Path, holds: Contents, dry_run: bool) -> None:
    from sweep.format import bytes_text, table, terminal_width

    rows = [["kind", "files", "on disk", "share", "goes"]]
    whole, going = max(1, holds.bytes), _by_kind(holds)
    for kind in dict.fromkeys([*holds.kinds, *going]):
        files, size = holds.kinds.get(kind, (0, 0))
        of = [str(files), bytes_text(size), f"{size / whole:.1%}"] if files else ["", "", ""]
        rows.append([kind, *of, bytes_text(going[kind]) if kind in going else "-"])
    click.echo(f"{folder}: {bytes_text(holds.bytes)}\n\n{table(rows, terminal_width())}")
    does = "would go" if dry_run else "went"
    if holds.goes:
        click.echo(f"\n{bytes_text(holds.freed)} {does}:")
        _list([f"{i.path}: {bytes_text(i.bytes)} of {i.kind}; {i.why}" for i in holds.goes])
    else:
        click.echo(f"\nnothing {does}")
    if holds.stays:
        click.echo("\nweights that stay:")
        _list([f"{n}: {bytes_text(size)}, {why}" for n, (size, why) in holds.stays.items()])
    if holds.over:
        click.echo(f"\n{bytes_text(holds.over)} more than keep.max_gb: none of these may go")


def _list(lines: list[str]) -> None:
    for line in lines[:NAMED]:
        click.echo(f"  {line}")
    if len(lines) > NAMED:
        click.echo(f"  and {len(lines) - NAMED} more; --json names all")


def _by_kind(holds: Contents) -> dict[str, int]:
    going: dict[str, int] = {}
    for item in holds.goes:
        going[item.kind] = going.get(item.kind, 0) + item.bytes
    return going


def _data(folder: Path, holds: Contents, dry_run: bool) -> dict[str, Any]:
    return {
        "run": str(folder),
        "removed": not dry_run,
        "bytes": holds.bytes,
        "freed": holds.freed,
        "over": holds.over,
        "kinds": [{"kind": k, "files": f, "bytes": b} for k, (f, b) in holds.kinds.items()],
        "goes": [
            {"path": str(i.path), "kind": i.kind, "bytes": i.bytes, "why": i.why}
            for i in holds.goes
        ],
        "stays": [{"trial": n, "bytes": b, "why": w} for n, (b, w) in holds.stays.items()],
    }
