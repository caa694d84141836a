"""`sweep cluster`: what a cluster is like before a night's sweep is started on it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweep.cli.options import json_option, print_json, runs_option, set_option
from sweep.errors import SweepError

if TYPE_CHECKING:
    from sweep.run import ClusterCheck


@click.group()
def cluster() -> None:
    """Check a running Ray cluster before a sweep is started on it.

    \b
      sweep cluster check search_spaces/scale.yaml --runs /mnt/sweep/runs
    """


@cluster.command()
@click.argument("space", required=False, type=click.Path(path_type=Path))
@set_option
@click.option(
    "--address", envvar="RAY_ADDRESS", default="auto", help="Ray cluster.  [default: auto]"
)
@runs_option
@json_option
def check(
    space: Path | None, overrides: tuple[str, ...], address: str, runs: Path, as_json: bool
) -> None:
    """Ask a worker on every node whether trials of SPACE could run there.

    Versions of Python, packages and the trainer, GPUs that Ray and torch can use, room on disk,
    clocks, whether all see the folder of run folders, and the text of SPACE or its token table.
    Exit 0: the cluster is ready; 1: something is wrong, and what to do about it.

    \b
      sweep cluster check --address auto --runs /mnt/sweep/runs
      sweep cluster check space.yaml --json
    """
    from sweep.cli.text import counted
    from sweep.run import check_cluster
    from sweep.space.language import read_space

    if overrides and not space:
        raise SweepError("--set fixes settings of SPACE: name one, or leave --set out")
    searched = read_space(space, overrides, count=counted) if space else None
    found = check_cluster(address, runs, searched)
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(_text(found))
    sys.exit(1 if found.problems else 0)


def _text(check: ClusterCheck) -> str:
    from sweep.format import bytes_text, table

    rows = [["node", "CPUs", "GPUs", "python", "torch", "room for runs", "clock"]]
    for node in check.nodes:
        cpus, known = (f"{node.resources.get(kind, 0):g}" for kind in ("CPU", "GPU"))
        if node.state is None:
            rows.append([node.name, cpus, known, *["-"] * 4])
            continue
        rows.append(
            [
                node.name,
                cpus,
                f"{known} ({', '.join(node.state.gpus)})" if node.state.gpus else known,
                node.state.python,
                node.state.packages["torch"],
                bytes_text(node.state.room["runs"]),
                f"{node.ahead:+.1f} s" if node.ahead else "agrees",
            ]
        )
    many, at_once = len(check.nodes), check.at_once
    lines = [
        table(rows),
        "",
        f"{many} node{'s' * (many != 1)}, {at_once} trial{'s' * (at_once != 1)} at once",
    ]
    if check.problems:
        lines += [f"  {line}" for line in check.problems]
    else:
        lines.append("ready: versions, clocks and data agree, and all see the run folders")
    return "\n".join(lines)
