"""The command line of replays: a search on recorded curves, in virtual time."""

from __future__ import annotations

import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from model.config import Value
from sweep.cli.options import json_option, print_json
from sweep.errors import SweepError
from sweep.format import table
from sweep.space import SWEEP_SETTINGS, PruneConfig, SamplerConfig, read_overrides

if TYPE_CHECKING:
    from sweep.replay import Bank, Replay, Summary

BANK = Path(__file__).parents[2] / "benchmarks" / "bank.parquet"
TRIALS = "budget.trials"  # the only budget of a replay: nothing is spent in virtual time
HEADER = ["workers", "complete", "pruned", "compute", "saved", "to best", "quartiles", "reached"]
HEADER += ["false kills", "95 %", "regret"]


class ReplayCall(NamedTuple):
    """What a process needs to replay one sweep: all of it can be pickled."""

    path: Path
    sampler: SamplerConfig
    prune: PruneConfig
    trials: int
    order: int
    workers: int
    cost: str


@click.command()
@click.argument("source", required=False, type=click.Path(path_type=Path), metavar="[BANK|RUN]")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Of sampler or prune, or budget.trials.",
)
@click.option("--orders", default=50, show_default=True, type=click.IntRange(1), help="Sweeps.")
@click.option(
    "--workers", default="1,8", show_default=True, metavar="N,...", help="Trials at once."
)
@click.option("--cost", type=click.Choice(["flops", "seconds"]), default="flops", show_default=True)
@click.option("--jobs", type=click.IntRange(1), help="Processes.  [default: one a core]")
@json_option
def replay(
    source: Path | None,
    overrides: tuple[str, ...],
    orders: int,
    workers: str,
    cost: str,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Replay a search on recorded curves, in virtual time; nothing is trained.

    BANK is a Parquet file of curves; its bank is searched, once for each order of proposals. RUN is
    a folder that `sweep run` wrote; its own trials are proposed in the order they were, so that
    rules for pruning can be compared. Compute is in percent of training all of it once.

    \b
      sweep replay --set sampler.name=random --set prune.rule=none
      sweep replay runs/quickstart --set prune.rule=asha --set prune.grace=0.1 --workers 1
    """
    sampler, prune, most = _sections(overrides)
    path = source or BANK
    if source is None and not BANK.exists():
        raise SweepError("there is no bank of curves here", hint="Name one: sweep replay BANK")
    bank = _bank(path)
    trials = most or len(bank.cells)
    count = 1 if path.is_dir() else orders  # recorded trials have one order
    summaries = {}
    for number in _workers(workers):
        calls = [
            ReplayCall(path, sampler, prune, trials, order, number, cost) for order in range(count)
        ]
        summaries[number] = _summary(run_replays(calls, jobs), bank, cost)
    _print(summaries, bank, as_json)


def run_replays(calls: list[ReplayCall], processes: int | None) -> list[Replay]:
    """The replays of `calls`, in their order, over so many processes; None: one a core."""
    processes = min(len(calls), processes or len(os.sched_getaffinity(0)))
    if processes == 1:
        return [run_replay(call) for call in calls]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(run_replay, calls))


def run_replay(call: ReplayCall) -> Replay:
    from sweep.replay import simulate

    bank = _bank(call.path)
    recorded: list[dict[str, Value]] = []
    if call.path.is_dir():
        recorded = [dict(zip(bank.names, cell, strict=True)) for cell in bank.cells]  # type: ignore[arg-type]
    return simulate(
        bank,
        call.sampler,
        call.prune,
        call.order,
        trials=len(recorded) or call.trials,
        workers=call.workers,
        cost=call.cost,
        first=recorded,
    )


@cache
def _bank(path: Path) -> Bank:
    from sweep.folder import JOURNAL
    from sweep.journal import read_view
    from sweep.replay import make_bank, read_about, read_curves

    curves = read_curves(path)
    if path.is_dir():
        return make_bank(curves, read_view(path / JOURNAL).header.get("fixed"))
    about = read_about(path)
    return make_bank(curves, about.get("settings"), about.get("noise", math.nan))


def _summary(replays: list[Replay], bank: Bank, cost: str) -> Summary:
    from sweep.replay import summarise

    noise = bank.noise()
    floor = 0.0 if math.isnan(noise) else noise
    return summarise(replays, range(len(replays)), [bank] * len(replays), cost, floor)


def _sections(overrides: tuple[str, ...]) -> tuple[SamplerConfig, PruneConfig, int | None]:
    """Sampler, pruning and trials, if they are limited. Raises SweepError with every problem."""
    settable = {
        name: setting
        for name, setting in SWEEP_SETTINGS.items()
        if name == TRIALS or name.partition(".")[0] in ("sampler", "prune")
    }
    pairs, problems = read_overrides(overrides, settable)
    if problems:
        what = f"settings of sampler and prune, and {TRIALS}; `sweep settings` lists them."
        raise SweepError("this cannot be replayed", problems, hint=f"A replay takes {what}")
    values: dict[str, Any] = dict(pairs)
    trials = values.pop(TRIALS, None)
    parts: dict[str, Any] = {"sampler": SamplerConfig(), "prune": PruneConfig()}
    for name, value in values.items():
        part, _, key = name.partition(".")
        parts[part] = replace(parts[part], **{key: value})
    return parts["sampler"], parts["prune"], trials


def _workers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise SweepError(f"--workers: expected numbers as in 1,8, got {text!r}")
    return [int(part) for part in parts]


def _print(summaries: dict[int, Summary], bank: Bank, as_json: bool) -> None:
    noise = bank.noise()
    if as_json:
        replays = [{"workers": number, **s.to_dict()} for number, s in summaries.items()]
        floor = None if math.isnan(noise) else noise
        data = {"cells": len(bank.cells), "noise": floor, "replays": replays}
        print_json(data)
        return
    orders = next(iter(summaries.values())).orders
    click.echo(
        f"{len(bank.cells)} cells, {orders} orders, noise floor "
        + ("unknown: no seeds repeated" if math.isnan(noise) else f"{noise:.4f} nats")
    )
    rows = [row(str(number), summary) for number, summary in summaries.items()]
    click.echo(table([HEADER, *rows]))


def row(title: str, summary: Summary) -> list[str]:
    """A method's line in a table."""
    first, middle, third = (percent(share) for share in summary.to_best)
    low, high = (percent(share) for share in summary.killed_interval)
    return [
        title,
        f"{summary.complete:.1f}",
        f"{summary.pruned:.1f}",
        percent(summary.compute),
        percent(summary.saved),
        middle,
        f"{first} - {third}",
        percent(summary.reached),
        percent(summary.killed),
        f"{low} - {high}",
        f"{summary.regret:.4f}",
    ]


def percent(share: float) -> str:
    """A share to read; a dash for what never happened."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else "-"
