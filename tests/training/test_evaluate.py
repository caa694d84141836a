from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.config.config import Config, GPTConfig
from model.network.gpt import GPT
from model.training.device import Runtime
from model.training.evaluate import (
    Evaluation,
    HeldOut,
    evaluate,
    score,
)

CPU = Runtime(torch.device("cpu"), torch.float32, compile=False, manual_attention=False)


class Counting:
    """Stands in for a network on tokens 0, 1, 2, ...: the loss of a target is the target."""

    training = True

    def __init__(self, context: int) -> None:
        self.context = context

    def train(self, mode: bool = True) -> None:
        self.training = mode

    def eval(self) -> None:
        self.training = False

    def losses(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        assert not self.training
        assert tokens_BT.shape[1] == self.context
        assert torch.equal(tokens_BT + 1, targets_BT)
        return targets_BT.float()


def split_of(tokens: np.ndarray, context: int) -> HeldOut:
    return HeldOut(tokens.astype(np.uint16), np.ones(2**16, dtype=np.int64), context)


@given(tokens=st.integers(2, 300), context=st.integers(1, 80), at_once=st.integers(1, 400))
def test_every_target_is_predicted_once_in_its_order(
    tokens: int, context: int, at_once: int
) -> None:
    """Whatever the context, how many windows at once, and how short the split."""
    gpt = Counting(min(context, tokens - 1))

    found = evaluate(gpt, split_of(np.arange(tokens), context), CPU, at_once)  # type: ignore[arg-type]

    assert found.log_probs_N.dtype == np.float32
    assert found.log_probs_N.tolist() == [-float(target) for target in range(1, tokens)]
    assert found.loss == pytest.approx(tokens / 2)
    assert gpt.training


def noisy(context: int, dropout: float = 0.0) -> GPT:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(context=context, dropout=dropout), vocabulary=257)
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return gpt


def test_the_result_does_not_depend_on_how_much_is_done_at_once() -> None:
    gpt, tokens = noisy(32), np.random.default_rng(0).integers(0, 257, 1000)

    found = [evaluate(gpt, split_of(tokens, 32), CPU, at_once) for at_once in (32, 100, 8192)]

    for other in found[1:]:
        assert other.loss == pytest.approx(found[0].loss, rel=1e-6)
        np.testing.assert_allclose(other.log_probs_N, found[0].log_probs_N, atol=1e-4)


def test_the_last_window_predicts_with_all_the_text_before_it() -> None:
    """It is moved back, not cut: its targets see as far back as a context allows."""
    gpt, tokens = noisy(32), np.random.default_rng(0).integers(0, 257, 101)

    found = evaluate(gpt, split_of(tokens, 32), CPU)

    last_T = torch.from_numpy(tokens[-33:])
    with torch.no_grad():
        direct = gpt.eval().losses(last_T[None, :-1], last_T[None, 1:])[0, -4:]
    np.testing.assert_allclose(found.log_probs_N[-4:], -direct.numpy(), rtol=1e-5)


def test_bits_per_byte_leave_out_the_separator_and_the_loss_does_not() -> None:
    """A head of zeros guesses uniformly: ln 257 nats for each token, each with text one byte."""
    gpt = GPT(Config().gpt, vocabulary=257)
    tokens = np.full(257, 65, dtype=np.uint16)
    tokens[100] = 256

    result = evaluate(gpt, HeldOut(tokens, np.array([1] * 256 + [0]), 64), CPU)

    assert result.loss == pytest.approx(math.log(257), rel=1e-6)
    assert result.bits_per_byte == pytest.approx(math.log2(257), rel=1e-6)


def test_bits_per_byte_are_the_nats_of_text_over_its_bytes() -> None:
    """By hand: three bytes cost 1, five cost 2, the separators' 7 and 9 are nobody's."""
    tokens = np.array([0, 1, 0, 2, 0], dtype=np.uint16)
    held_out = HeldOut(tokens, np.array([0, 3, 5]), context=8)

    result = score(-np.array([1, 7, 2, 9], dtype=np.float32), held_out)

    assert result.bits_per_byte == pytest.approx((1 + 2) / math.log(2) / (3 + 5))
    assert result.loss == (1 + 7 + 2 + 9) / 4


def test_validation_is_without_dropout() -> None:
    gpt, held_out = noisy(64, dropout=0.5), split_of(np.arange(1025) % 257, 64)

    a, b = (evaluate(gpt, held_out, CPU).loss for _ in range(2))

    assert a == b
    assert gpt.training


def scored(documents: list[np.ndarray]) -> Evaluation:
    """Of a split whose first token, which is no target, begins the first of these documents."""
    losses_N = np.concatenate(documents).astype(np.float32)
    offsets = np.cumsum([0, 1 + len(documents[0]), *map(len, documents[1:])])
    held_out = replace(split_of(np.zeros(len(losses_N) + 1), 8), documents=offsets)
    return score(-losses_N, held_out)


def test_the_standard_error_is_that_of_the_mean_of_documents() -> None:
    """Tokens of a document are alike: each alone would tell four times as much as there is."""
    means = np.random.default_rng(0).normal(3, 1, 40)

    result = scored([np.full(16, mean) for mean in means])

    assert result.standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(40), rel=1e-6)
    assert result.clusters.kind == "documents"


def test_documents_weigh_by_their_tokens_in_the_standard_error() -> None:
    """Jackknife over documents, leaving each out in turn, agrees: it knows nothing of the formula.

    It is a little larger, as it is known to be.
    """
    rng = np.random.default_rng(0)
    documents = [rng.normal(3, 1, length) + rng.normal() for length in rng.integers(10, 40, 120)]
    sums, counts = np.array([d.sum() for d in documents]), np.array([len(d) for d in documents])
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    jackknife = math.sqrt(119 / 120 * ((left_out - left_out.mean()) ** 2).sum())

    assert scored(documents).standard_error == pytest.approx(jackknife, rel=0.01)


def test_one_document_is_judged_by_blocks_and_a_short_one_has_no_standard_error() -> None:
    losses_N = np.repeat([1.0, 3.0], 64)

    assert scored([losses_N]).standard_error == pytest.approx(1.0)
    assert scored([losses_N[:100]]).standard_error == math.inf


def test_a_loss_that_is_not_a_number_is_passed_on() -> None:
    result = scored([np.array([1.0, math.nan, 2.0, 3.0])])

    assert math.isnan(result.loss)
    assert math.isnan(result.standard_error)
