"""What shared trunks spare: trials of one recipe at several epoch counts, and a whole search.

    python benchmarks/trunks.py                # about ten minutes of a core
    python benchmarks/trunks.py --only search

First real trials, in this process: recipes of the quickstart's corpus at 1, 2, 4 and 8 epochs, at a
rate that is constant and then falls, trained alone and with shared trunks, in an order drawn at
random. Every loss at every common step must be the same to the last digit, or the script ends with
an error. Seconds are those of training, evaluations and checkpoints included.

Then searches on the bank (see search.py), nothing pruned: compute until within the noise floor of
the best, in percent of training the whole bank, or all of it where that was not found. Without
sharing; with it, but proposals that do not know of it; with proposals that know the price. Its
curves are of cosines, which have no trunks: taken as if each had one until its last fifth, they
tell what prices do to a search, not what losses it would find.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean, quantiles

from sweep.cli.replay import percent
from sweep.format import table
from sweep.journal import Journal
from sweep.replay.bank import Bank, make_bank
from sweep.replay.curves import read_about, read_curves
from sweep.replay.simulator import replay
from sweep.replay.summary import best_of, whole_bank
from sweep.run import trunk_files
from sweep.run.interrupt import Interrupt
from sweep.run.local import run
from sweep.session import Searching, Session, open_storage
from sweep.space import BudgetConfig, Choice, Hyperparameter, PruneConfig, SamplerConfig, Space
from sweep.space.settings import TrialConfig
from sweep.space.trunks import kept_trunks, spared
from sweep.view import View

EPOCHS = (1, 2, 4, 8)
FALLS = {"optim.schedule": "constant_1-sqrt", "optim.warmup_epochs": 0.1, "optim.warmdown": 0.2}
FIXED = {**FALLS, "data.train_tokens": 32_768, "train.precision": "fp32", "train.device": "cpu"}
LOSSES = ("val_loss", "raw_loss", "train_loss", "bits_per_byte", "lr")
NOTHING = PruneConfig(rule="none")


def recipes(count: int, warmdown: float) -> Space:
    """So many recipes at every epoch count, in an order drawn at random."""
    decays, rates = (2.0, 8.0, 32.0, 16.0), (0.008, 0.004)
    pairs = list(product(rates, decays))[:count]
    names = ("optim.lr", "optim.weight_decay_multiplier")
    points = [
        {**dict(zip(names, pair, strict=True)), "train.epochs": epochs}
        for pair in pairs
        for epochs in EPOCHS
    ]
    random.Random(0).shuffle(points)
    return Space(
        "trunks",
        (
            Hyperparameter("train.epochs", Choice(EPOCHS)),
            Hyperparameter("optim.lr", Choice(tuple({lr: 0 for lr, _ in pairs}))),
            Hyperparameter(names[1], Choice(tuple({decay: 0 for _, decay in pairs}))),
        ),
        {**FIXED, "optim.warmdown": warmdown},
        BudgetConfig(trials=len(points)),
        TrialConfig(gpus=0),
        SamplerConfig(name="random"),
        NOTHING,
        points=tuple(points),
    )


def trained(space: Space, folder: Path, share: bool) -> View:
    """The trials of `space`, one after the other in this process."""
    space = replace(space, trial=replace(space.trial, share_trunks=share))
    session = Session(space, Searching.open(open_storage(None), space), Journal(None))
    with Interrupt() as interrupt:
        run(session, trunk_files.trainer(space, folder), folder / "trials", interrupt)
    return session.journal.view


def differences(ours: View, theirs: View) -> int:
    """Losses at common steps that differ in any bit; the last step of each trial is common."""
    wrong = 0
    for trial in ours.searches():
        other = {event["step"]: event for event in theirs.trials[trial.name].observations}
        assert trial.settings == theirs.trials[trial.name].settings
        for event in trial.observations:
            wrong += sum(event[name] != other[event["step"]][name] for name in LOSSES)
        wrong += trial.observations[-1]["basis_points"] != 10_000
    return wrong


def train_both(count: int) -> None:
    rows = [
        ["rate falls in the last", "trials", "FLOPs alone", "shared", "", "seconds", "shared", ""]
    ]
    for warmdown in (0.2, 0.4, 0.6):
        space = recipes(count, warmdown)
        with tempfile.TemporaryDirectory() as folder:
            alone = trained(space, Path(folder) / "alone", share=False)
            shared = trained(space, Path(folder) / "shared", share=True)
        if wrong := differences(shared, alone):
            sys.exit(f"{wrong} losses differ")
        rows.append([f"{warmdown:.0%}", str(len(alone.searches())), *_ratios(alone, shared)])
        print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows))
    print("every loss at every common step is the same to the last digit")


def _ratios(alone: View, shared: View) -> Iterator[str]:
    flops = [math.fsum(t.flops * t.trained for t in view.searches()) for view in (alone, shared)]
    seconds = [math.fsum(t.seconds for t in view.searches()) for view in (alone, shared)]
    for (whole, part), form in ((flops, ".2e"), (seconds, ".1f")):
        yield from (format(whole, form), format(part, form), f"{whole / part:.2f}x")


def search(bank: Bank, orders: int) -> None:
    floor, whole = bank.noise(), whole_bank(bank, "flops")
    rows = [["decay and rate", "trunks", "expecting", "to best", "quartiles", "mean", "worst"]]
    for ranges, expect, (name, known, share) in product((False, True), (True, False), SHARING):
        method = Method(ranges, expect, known, share)
        costs = [to_best(bank, order, floor, method) / whole for order in range(orders)]
        low, middle, high = quantiles(costs, n=4)
        about = ["ranges" if ranges else "lists", name, "the bowl" if expect else "nothing"]
        shown = percent(middle), f"{percent(low)} to {percent(high)}", percent(fmean(costs))
        rows.append([*about, *shown, percent(max(costs))])
        print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    print(f"\n{len(bank.cells)} cells, {orders} orders, noise floor {floor:.4f} nats")
    print(table(rows))


SHARING = (
    ("none", False, False),
    ("shared, unknown", False, True),
    ("shared and known", True, True),
)


@dataclass(frozen=True)
class Method:
    """A way to search the bank."""

    ranges: bool  # decay and rate between their extremes, not as they were recorded
    expect: bool  # sampler.expect
    known: bool  # proposals know what a trunk spares them
    share: bool  # what a trunk spares is not paid


def to_best(bank: Bank, order: int, floor: float, method: Method) -> float:
    """FLOPs until a trial ended within `floor` of the best of `order`; at most those of all."""
    space = bank_space(bank, SamplerConfig(seed=order, expect=method.expect), method)
    session = Session(space, Searching.open(open_storage(None), space), Journal(None))
    most, target = whole_bank(bank, "flops"), best_of(bank, order) + floor
    replayed = replay(session, bank, bank.repetition(order), target=target, compute=most)
    spent, ended = 0.0, []
    for trial, ours in zip(replayed.trials, session.journal.view.searches(), strict=True):
        trunks = kept_trunks(space, ended) if method.share else {}
        spent += max(0.0, trial.compute - spared(space, ours.settings, trunks) * trial.whole)
        if trial.final <= target:
            return spent
        ended.append((ours.settings, 1.0))
    return most


def bank_space(bank: Bank, sampler: SamplerConfig, method: Method) -> Space:
    """The bank's space as if its rates were constant and then fell."""
    space = bank.space(sampler, NOTHING, len(bank.cells))
    wide = bank.space(sampler, NOTHING, len(bank.cells), ranges=method.ranges)
    hyperparameters = tuple(
        other if hp.setting.startswith("optim.") else hp
        for hp, other in zip(space.hyperparameters, wide.hyperparameters, strict=True)
    )
    return replace(
        space,
        hyperparameters=hyperparameters,
        fixed={**space.fixed, **FALLS},
        trial=TrialConfig(share_trunks=method.known),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("trials", "search"))
    parser.add_argument("--recipes", type=int, default=4)
    parser.add_argument("--orders", type=int, default=30)
    parser.add_argument("--bank", type=Path, default=Path(__file__).parent / "bank.parquet")
    arguments = parser.parse_args()
    if arguments.only != "search":
        train_both(arguments.recipes)
    if arguments.only != "trials":
        about = read_about(arguments.bank)
        bank = make_bank(read_curves(arguments.bank), about.get("settings"), about.get("noise"))
        search(bank, arguments.orders)


if __name__ == "__main__":
    main()
