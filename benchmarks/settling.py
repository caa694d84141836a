"""When a search says that it has settled, and whether it found better after that.

    python benchmarks/settling.py [--bank BANK] [--orders 6] [--trials 60]

Searches are replayed on a bank of recorded curves, as in benchmarks/search.py. Each goes on to its
last trial. A line tells of one rule, expected gains up to so many nats in so many proposals in a
row: after how many trials it would have ended the searches, and how much better the best was later.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from search import BANK, read_bank

from sweep.journal import Journal
from sweep.records import Outcome
from sweep.replay.bank import Bank
from sweep.replay.simulator import replay
from sweep.session import Searching, Session, open_storage
from sweep.space import PruneConfig, SamplerConfig
from sweep.view import View

PATIENCES = (4, 8)
LITTLE = (0.004, 0.002, 0.001)  # nats: a quarter of our bank's noise floor, and less
WORKERS = (1, 8)


def searched(bank: Bank, order: int, workers: int, expect: bool, trials: int) -> View:
    """One search, by the proposals of our own sampler."""
    space = bank.space(SamplerConfig(seed=order, expect=expect), PruneConfig(), trials)
    session = Session(space, Searching.open(open_storage(None), space), Journal(None))
    replay(session, bank, bank.repetition(order), workers)
    return session.journal.view


def settles(view: View, little: float, patience: int) -> int | None:
    """After how many trials the rule ends the search; None if it never does."""
    row = 0
    for number, trial in enumerate(view.searches(), 1):
        if trial.expected_gain is not None:
            row = row + 1 if trial.expected_gain <= little else 0
        if row == patience:
            return number
    return None


def lost(view: View, trials: int | None) -> float:
    """Nats by which the best of all trials is below the best of the first so many."""
    losses = [t.val_loss if t.outcome is Outcome.COMPLETE else math.inf for t in view.searches()]
    return min(losses[:trials]) - min(losses)


def lines(title: str, views: Sequence[View]) -> list[str]:
    """One line for each rule."""
    written = []
    for patience in PATIENCES:
        for little in LITTLE:
            ends = [settles(view, little, patience) for view in views]
            ended = [end for end in ends if end is not None]
            worse = [lost(view, end) for view, end in zip(views, ends, strict=True)]
            when = f"{min(ended)} to {max(ended)}, median {median(ended):g}" if ended else "never"
            written.append(
                f"{title:32} {patience} x {little:.4f} nats: ended {len(ended)}/{len(ends)} after "
                f"{when}; better later: {sum(w > 0 for w in worse)}, at most by {max(worse):.4f}"
            )
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bank", type=Path, default=BANK)
    parser.add_argument("--orders", type=int, default=6)
    parser.add_argument("--trials", type=int, default=60)
    options = parser.parse_args()
    bank = read_bank(options.bank)
    for expect in (True, False):
        for workers in WORKERS:
            title = f"{workers} workers, {'with' if expect else 'without'} the bowl"
            views = [
                searched(bank, order, workers, expect, options.trials)
                for order in range(options.orders)
            ]
            print("\n".join(lines(title, views)), flush=True)


if __name__ == "__main__":
    main()
