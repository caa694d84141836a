"""What rules for pruning save, and how often they stop what would have been among the best.

    python benchmarks/pruning.py                          # random sweeps, every combination
    python benchmarks/pruning.py --sampler surface        # sweeps that learn: harder, and slower

Sweeps of `--trials` trials on halves of the bank (benchmarks/bank.parquet), by one worker and by
eight in turn. The false-kill rate is the share of a sweep's eventual best three, by the recorded
ends that it never saw, that were pruned. Of each rule and signal the table has the strata, grace
and confidence that save most with few kills. Then the rule that saves most at `--kills` or fewer is
chosen on one half of the cells and told of on the other, in both directions: only that is a rate it
was not chosen by. Intervals are over orders, which share their curves.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from search import arguments_of, bank_line, played, read_bank

from sweep.cli.replay import percent
from sweep.format import table
from sweep.replay.simulator import Replay, simulate
from sweep.replay.summary import summarise, wilson
from sweep.space.settings import PruneConfig, SamplerConfig

STRATA: tuple[tuple[str, ...], ...] = (
    (),
    ("train.epochs",),
    ("train.epochs", "gpt.scale"),
    ("train.epochs", "optim.weight_decay_multiplier"),
)


def rules() -> Iterator[PruneConfig]:
    """Every combination that is judged."""
    signals = ("raw", "ema", "corrected")
    judged = {
        "median": product(signals, STRATA, (0.25, 0.5)),
        "percentile": product(signals, STRATA[:2], (0.25,)),
        "asha": product(signals, STRATA[:2], (0.1, 0.5)),
        "hyperband": product(signals, STRATA[:1], (0.1,)),
        "best": product(signals[2:], STRATA[:1], (0.5,)),
        "patient": product(signals[:2], STRATA[:1], (0.5,)),
        "none": [("val", (), 0.5)],
    }
    for rule, combinations in judged.items():
        for signal, peers, grace in combinations:
            expected = signal == "corrected"
            for confidence in (1.0, 2.0) if expected else (1.0,):
                options = {"peers": peers, "grace": grace, "confidence": confidence}
                yield PruneConfig(rule=rule, signal=signal, **options)  # type: ignore[arg-type]


def judge(path: Path, name: str, trials: int, half: int, prune: PruneConfig, order: int) -> Replay:
    """A sweep on half of the bank, by one worker or eight."""
    bank, sampler = read_bank(path, half), SamplerConfig(name=name)
    workers = (1, 8)[order % 2]
    return simulate(bank, sampler, prune, order, trials=trials, workers=workers)


def compare(arguments: argparse.Namespace) -> None:
    bank = read_bank(arguments.bank)
    every = list(rules())
    every = [r for r in every if not arguments.only or spelled(r) in arguments.only]
    orders = range(arguments.orders)
    keys = list(product(range(len(every)), (0, 1)))
    jobs = [
        partial(
            judge, arguments.bank, arguments.sampler, arguments.trials, half, every[number], order
        )
        for number, half in keys
        for order in orders
    ]
    replays = played(jobs, arguments.jobs, f"{len(every)} rules, 2 halves")
    judged = {}
    for place, key in enumerate(keys):
        mine = replays[place * len(orders) : (place + 1) * len(orders)]
        banks = [read_bank(arguments.bank, key[1])] * len(orders)
        judged[key] = summarise(mine, orders, banks, "flops", bank.noise())
    print(bank_line(bank, arguments.orders))
    print(table([RULES, *(_rule_row(r, judged, n) for n, r in _frontier(every, judged))]))
    for half in (0, 1):
        allowed = [n for n in range(len(every)) if judged[n, half].killed <= arguments.kills]
        chosen = max(allowed, key=lambda n: judged[n, half].saved)
        there, here = judged[chosen, 1 - half], judged[chosen, half]
        print(
            f"chosen on half {half}: {spelled(every[chosen])}: saves {percent(here.saved)} at "
            f"{percent(here.killed)} false kills; on the other half {percent(there.saved)} at "
            f"{percent(there.killed)}"
        )
    if arguments.json:
        summaries = [
            {**asdict(every[n]), "half": half, **s.to_dict()} for (n, half), s in judged.items()
        ]
        arguments.json.write_text(json.dumps(summaries, indent=1))


RULES = ["rule", "signal", "strata", "grace", "other", "saved", "false kills", "95 %"]


def _both(judged: Any, number: int) -> tuple[float, float, tuple[float, float]]:
    """Saved, false kills and their widest interval over both halves."""
    halves = [judged[number, half] for half in (0, 1)]
    saved, killed = (sum(getattr(h, n) for h in halves) / 2 for n in ("saved", "killed"))
    top = sum(3 * h.orders for h in halves)
    return saved, killed, wilson(round(killed * top), top)


def _frontier(every: Sequence[PruneConfig], judged: Any) -> list[tuple[int, PruneConfig]]:
    """Of each rule and signal, the combination that saves most at the fewest kills."""
    best: dict[tuple[str, str], int] = {}
    for number, rule in enumerate(every):
        kind = (rule.rule, rule.signal)
        saved, killed, _ = _both(judged, number)
        worth = (saved - 5 * max(0.0, killed - 0.02), number)
        if kind not in best or worth > (
            _both(judged, best[kind])[0] - 5 * max(0.0, _both(judged, best[kind])[1] - 0.02),
            best[kind],
        ):
            best[kind] = number
    return [(number, every[number]) for number in best.values()]


def _rule_row(rule: PruneConfig, judged: Any, number: int) -> list[str]:
    saved, killed, (low, high) = _both(judged, number)
    peers = ", ".join(name.partition(".")[2] for name in rule.peers) or "-"
    other = f"confidence {rule.confidence:g}" if rule.signal == "corrected" else ""
    return [
        rule.rule,
        rule.signal,
        peers,
        f"{rule.grace:g}",
        other,
        percent(saved),
        percent(killed),
        f"{percent(low)} - {percent(high)}",
    ]


def spelled(rule: PruneConfig) -> str:
    peers = "+".join(name.partition(".")[2] for name in rule.peers) or "all"
    return f"{rule.rule} {rule.signal} {peers} {rule.grace:g} {rule.confidence:g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments_of(parser)
    parser.add_argument("--sampler", default="random", help="what proposes the trials")
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--kills", type=float, default=0.02)
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
