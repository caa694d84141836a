"""The chosen ensemble with its logits averaged: that takes its networks, not what they kept."""

from __future__ import annotations

import time
from dataclasses import dataclass

from model.config import ConfigError
from sweep.errors import SweepError
from sweep.models import of_trial
from sweep.predictions import mixture
from sweep.predictions.difference import Difference, by_tokens
from sweep.predictions.ensemble import Ensemble
from sweep.predictions.predicted import shared_table

MOST_BYTES = 1 << 30  # of distributions at once
COPIES = 4  # of a batch's distributions that are in memory


@dataclass(frozen=True)
class LogitMix:
    """What averaging logits comes to, which is the geometric mean of probabilities."""

    loss: float  # nats per token, on the tokens that nothing was chosen on
    against_best: Difference
    against_probabilities: Difference  # of its loss less that of the same averaged as probabilities
    networks: int
    tokens: int  # that each of them read
    seconds: float


def by_logits(its: Ensemble) -> LogitMix:
    """Score the members together, batch by batch: no more than a few distributions are in memory.

    Raises SweepError if a member is no network on the disk, or reads another context.
    """
    from model.training.export import open_mixture
    from model.training.mixture import mixture_log_probs

    members = its.trained()
    if len(members) < len(its.chosen.weights):
        gone = its.chosen.weights.keys() - {member.name for member, _ in members}
        raise SweepError(
            "logits are averaged of networks, of which these members are none any more",
            sorted(gone),
            hint="--only leaves the trials out whose epochs were kept as predictions alone.",
        )
    sources = [of_trial(its.folder, member.trial) for member, _ in members]
    contexts = {source.config.gpt.reach for source in sources}
    if len(contexts) > 1:
        raise SweepError(
            "logits are averaged of networks that read the same context",
            [f"{source.name}: {source.config.gpt.reach:,} tokens" for source in sources],
            hint="--only chooses members of one context.",
        )
    table = shared_table(sources)
    started = time.perf_counter()
    runs = [(source.folder, weight) for source, (_, weight) in zip(sources, members, strict=True)]
    try:
        teacher = open_mixture(runs, average="logits")
    except ConfigError as error:
        raise SweepError("the members' networks cannot be opened", error.problems) from None
    at_once = max(contexts.pop(), MOST_BYTES // (COPIES * 4 * table.vocabulary))
    log_probs_N = mixture_log_probs(teacher, table, at_once)
    seconds = time.perf_counter() - started
    rest = slice(0, its.tokens)
    weight_K = [its.chosen.weights.get(member.name, 0.0) for member in its.members]
    mixed_N = mixture.mixed(its.log_probs_KN[:, rest], mixture.as_weights(weight_K))
    loss_N = -log_probs_N[rest].astype(float)
    return LogitMix(
        float(loss_N.mean()),
        by_tokens(loss_N + its.log_probs_KN[0, rest], its.rest_offsets_D),
        by_tokens(loss_N + mixed_N, its.rest_offsets_D),
        len(members),
        len(log_probs_N),
        seconds,
    )
