from __future__ import annotations

import math

import pytest
import torch

from model.config import GPTConfig
from model.gpt import GPT

TINY = GPTConfig(layers=2, width=16, head_width=8, context=12)


@pytest.fixture
def gpt() -> GPT:
    torch.manual_seed(0)
    gpt = GPT(TINY, vocabulary=50)
    for weight in gpt.parameters():  # away from the zeros it starts with
        torch.nn.init.normal_(weight, std=0.2)
    return gpt


def test_no_position_sees_a_later_token(gpt: GPT) -> None:
    """Shown by gradient: the loss at a position does not move with later embeddings."""
    tokens = torch.randint(0, 50, (1, 12))
    seen: list[torch.Tensor] = []
    gpt.embedding.register_forward_hook(lambda module, args, output: seen.append(output))

    logits = gpt(tokens)
    seen[0].retain_grad()
    logits[0, 5].sum().backward()

    assert seen[0].grad is not None
    per_position = seen[0].grad[0].abs().sum(dim=-1)
    assert (per_position[6:] == 0).all()
    assert (per_position[:6] > 0).all()


def test_positions_matter(gpt: GPT) -> None:
    forward = gpt(torch.tensor([[1, 2, 3, 4]]))[0, -1]
    swapped = gpt(torch.tensor([[2, 1, 3, 4]]))[0, -1]

    assert not torch.allclose(forward, swapped, atol=1e-3)


def test_the_first_loss_is_that_of_guessing() -> None:
    tokens = torch.randint(0, 50, (2, 12))

    loss = GPT(TINY, vocabulary=50).losses(tokens, tokens).mean()

    assert loss.item() == pytest.approx(math.log(50), abs=1e-5)


def test_dropout_acts_in_training_only(gpt: GPT) -> None:
    torch.manual_seed(0)
    dropping = GPT(GPTConfig(layers=2, width=16, head_width=8, context=12, dropout=0.5), 50)
    dropping.load_state_dict(gpt.state_dict())
    tokens = torch.randint(0, 50, (1, 12))

    assert not torch.equal(dropping(tokens), gpt(tokens))
    assert torch.equal(dropping.eval()(tokens), gpt.eval()(tokens))


def test_scale_counts_the_blocks_parameters() -> None:
    counts = [
        GPT(GPTConfig(scale=scale), vocabulary=257).parameter_count() for scale in (0.5, 1, 2)
    ]

    assert counts[1] == 12 * 2 * 64**2
    assert counts[0] / counts[1] == pytest.approx(0.5, rel=0.1)
    assert counts[2] / counts[1] == pytest.approx(2, rel=0.1)
