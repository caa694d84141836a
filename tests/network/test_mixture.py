"""Several networks that predict as one, against averages written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.config import GPTConfig
from model.network.gpt import GPT
from model.network.mixture import LOGITS, PROBABILITIES, Mixture

CONFIG = GPTConfig(layers=1, width=16, context=8, head_init=0.5)
TOKENS_BT = torch.arange(14).view(2, 7) % 11


def networks(count: int) -> list[GPT]:
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(GPT(CONFIG, 11).eval())
    return made


def test_probabilities_are_averaged_by_weight() -> None:
    gpts = networks(3)

    log_probs_BTV = Mixture(gpts, [2.0, 1.0, 1.0])(TOKENS_BT)

    chances = [F.softmax(gpt(TOKENS_BT), dim=-1) for gpt in gpts]
    mean_BTV = 0.5 * chances[0] + 0.25 * chances[1] + 0.25 * chances[2]
    torch.testing.assert_close(log_probs_BTV.exp(), mean_BTV)


def test_averaged_logits_are_a_distribution_too() -> None:
    gpts = networks(2)

    log_probs_BTV = Mixture(gpts, [0.3, 0.7], LOGITS)(TOKENS_BT)

    logits_BTV = 0.3 * gpts[0](TOKENS_BT) + 0.7 * gpts[1](TOKENS_BT)
    torch.testing.assert_close(log_probs_BTV, F.log_softmax(logits_BTV, dim=-1))


@pytest.mark.parametrize("average", [PROBABILITIES, LOGITS])
def test_losses_are_those_of_the_distribution(average: str) -> None:
    mixture = Mixture(networks(3), [0.2, 0.3, 0.5], average)
    targets_BT = (TOKENS_BT + 1) % 11

    losses_BT = mixture.losses(TOKENS_BT, targets_BT)

    own_BT = -mixture(TOKENS_BT).gather(-1, targets_BT[..., None])[..., 0]
    torch.testing.assert_close(losses_BT, own_BT)


def test_a_mixture_reads_no_more_at_once_than_each_of_its_networks() -> None:
    longer = GPT(GPTConfig(layers=1, width=16, context=32), 11)

    assert Mixture([longer, *networks(1)], [0.5, 0.5]).config.context == 8
