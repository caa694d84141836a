"""The plan that costs least at a size: all are tried as cut, the best few after a fine-tune.

They are judged on training tokens that no fine-tune of the search reads; validation tokens are for
the report alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model.config import ConfigError
from model.data.batches import windows
from model.data.table import TokenTable
from model.trained.importance import importance
from model.trained.retrain import loss_on, tuned, tuning, where_to_compute
from model.trained.shrink import one_network, shrunk
from model.training.trained import Trained
from sweep.format import clock_text
from sweep.shrinking.plans import Candidate, Network, candidates
from sweep.shrinking.request import Request, unsuitable

MEASURED = 16_384  # training tokens, which say what is important
SCREENED = 4096  # tokens that every plan is tried on; the better ones then on all held back
BETTER = 16  # of these, so many
HELD_BACK = 65_536  # tokens at most, an eighth of those trained on at most
PART = 1 / 8  # of the whole fine-tune, for each finalist
FEWEST_STEPS = 16
AT_ONCE = 64  # sequences
Say = Callable[[str], None]


@dataclass(frozen=True)
class Tried:
    """A plan and what it cost on all tokens held back, nats per token."""

    plan: Candidate
    loss: float  # as cut
    tuned_loss: float | None = None  # after a part of the fine-tune

    @property
    def last(self) -> float:
        """The loss that is known last."""
        return self.loss if self.tuned_loss is None else self.tuned_loss


@dataclass(frozen=True, eq=False)
class Material:
    """A trained network, the text of its run, and which parts of it matter there."""

    trained: Trained
    table: TokenTable
    network: Network
    held_back_N: np.ndarray  # training tokens to choose by

    def cut(self, plan: Candidate) -> Trained:
        """What `plan` leaves, on the device that it computes on."""
        return shrunk(self.trained, plan.kept)


def prepare(trained: Trained, table: TokenTable, say: Say) -> Material:
    """Measure what matters of `trained`. Raises ConfigError for several networks as one."""
    gpt, data = one_network(trained), trained.config.data
    where = where_to_compute(trained.config)
    gpt.to(where.device)
    context = trained.config.gpt.reach
    held_back = max(context + 1, min(HELD_BACK, data.train_tokens // 8))
    read = data.train_tokens - held_back
    if read <= context + 1:
        raise ConfigError(
            [f"data.train_tokens: {data.train_tokens:,} are too few to choose a plan by"]
        )
    sequences = max(1, min(MEASURED // context, (read - 1) // context))
    say(f"what matters: gradients on {sequences * context:,} training tokens")
    draw = np.random.default_rng(trained.config.train.data_seed)
    starts = np.sort(draw.integers(0, read - context, sequences))
    parts = np.array_split(starts, max(1, sequences // AT_ONCE))
    batches = (windows(table.train, part, context) for part in parts)
    network = Network(gpt.config, table.vocabulary, importance(gpt, batches, where))
    tokens_N = np.asarray(table.train[read : data.train_tokens])
    return Material(trained, table, network, tokens_N)


def find(material: Material, request: Request, say: Say) -> list[Tried]:
    """Plans that were tried, the chosen one first.

    Raises ConfigError if nothing is as small as asked for, or if nothing would be left.
    """
    if problems := unsuitable(material.network.gpt, request):
        raise ConfigError(problems)
    if not request.size:
        plan = request.plan(material.network)
        return _screened(material, [plan], len(material.held_back_N), say)
    plans = candidates(material.network, request.size)
    tried = _screened(material, plans, SCREENED, say)
    alone = [one.plan for one in tried if one.plan.alone]
    better = [one.plan for one in tried[:BETTER]]
    again = [*better, *(plan for plan in alone if plan not in better)]
    tried = _screened(material, again, len(material.held_back_N), say)
    if not request.epochs:
        return tried
    finalists = _finalists(tried, request)
    tuned_ones = [
        replace(one, tuned_loss=loss)
        for one, loss in zip(finalists, _tuned(material, finalists, request, say), strict=True)
    ]
    tuned_ones.sort(key=lambda one: one.last)
    return [*tuned_ones, *(one for one in tried if one not in finalists)]


def _screened(material: Material, plans: Sequence[Candidate], tokens: int, say: Say) -> list[Tried]:
    """`plans` with their losses as cut, on the same tokens, lowest first."""
    tokens_N, began, tried = material.held_back_N[: tokens + 1], time.monotonic(), []
    for number, plan in enumerate(plans):
        left = clock_text((time.monotonic() - began) / max(1, number) * (len(plans) - number))
        if len(plans) > 1:
            say(
                f"plan {number + 1} of {len(plans)}, as cut, on {len(tokens_N) - 1:,} tokens"
                + (f"; about {left} left" if number else "")
            )
        tried.append(Tried(plan, loss_on(material.cut(plan), tokens_N).loss))
    return sorted(tried, key=lambda one: one.loss)


def _finalists(tried: Sequence[Tried], request: Request) -> list[Tried]:
    """The best of each number of layers first, as what a fine-tune mends differs with it."""
    firsts: dict[int, Tried] = {}
    for one in tried:
        firsts.setdefault(one.plan.layers, one)
    order = [*firsts.values(), *(one for one in tried if one not in firsts.values())]
    chosen = order[: request.finalists]
    if request.compare:
        chosen += [one for one in tried if one.plan.alone and one not in chosen]
    return chosen


def _tuned(
    material: Material, finalists: Sequence[Tried], request: Request, say: Say
) -> list[float]:
    """The loss of each on the tokens held back, after a part of the fine-tune."""
    losses: list[float] = []
    began = time.monotonic()
    for number, one in enumerate(finalists):
        cut = material.cut(one.plan)
        config = tuning(cut, request.epochs, request.rate, len(material.held_back_N))
        steps = min(config.steps, max(FEWEST_STEPS, round(PART * config.steps)))
        shown = f"finalist {number + 1} of {len(finalists)}, fine-tuned for a while"
        watch = _watch(shown, steps, number, len(finalists), began, say)
        its = tuned(cut, config, material.table, steps, watch)
        losses.append(loss_on(its, material.held_back_N).loss)
    return losses


def _watch(
    shown: str, steps: int, number: int, count: int, began: float, say: Say
) -> Callable[[int], None]:
    """Says how far the fine-tune of finalist `number` from 0 of so many is."""

    def watch(step: int) -> None:
        done = number * steps + step
        left = (time.monotonic() - began) / done * (count * steps - done)
        say(f"{shown}: step {step:,} of {steps:,}; about {clock_text(left)} left")

    return watch
