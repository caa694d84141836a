"""What a window knows of the ones before it: the mean of their states, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model.config.config import GPTConfig
from model.network.attention import visible
from model.network.gpt import GPT
from model.network.loss import cross_entropy

SEPARATOR, VOCABULARY, CONTEXT = 0, 50, 6
UNUSED = VOCABULARY - 1  # no test's text has it
VARIANTS: dict[str, dict[str, Any]] = {
    "rotary": {},
    "PicoGPT's": {
        "positions": "learned",
        "norm": "layer",
        "bias": True,
        "embedding_norm": False,
        "qk_norm": False,
        "mlp": "gelu",
        "tied_head": True,
    },
    "grouped heads": {"queries_per_kv": 2},
    "windows": {"windows": "SSL", "short_window": 0.3},
    "keys of the token before": {"positions": "half_rotary", "key_offset": "unturned"},
    "exclusive": {"exclusive": "learned", "head_gates": True, "head_mixing": True},
    "value residual": {"value_residual": "projection", "x0": True, "unet": True},
    "value table": {"value_residual": "table"},
    "replay": {"replay_passes": 2, "replay_start": 0.0, "replay_last": 0.75},
}
variants = pytest.mark.parametrize("name", VARIANTS)


def build(manual: bool = False, **change: Any) -> GPT:
    settings = {"layers": 4, "width": 32, "head_width": 8, "context": CONTEXT}
    config = GPTConfig(**{**settings, "context_vector": True, "context_windows": 3, **change})
    gpt = GPT(config, VOCABULARY, manual, separator=SEPARATOR)
    for name, parameter in sorted(gpt.named_parameters()):
        torch.manual_seed(sum(name.encode()))
        torch.nn.init.normal_(parameter, std=0.3)
    gpt.enter(done=1.0, seed=0, step=0)
    return gpt.eval()


def text(windows: int, sequences: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(1, UNUSED, (sequences, windows * CONTEXT))


def windows_that_differ(a_BTV: Tensor, b_BTV: Tensor) -> list[bool]:
    apart_T = (a_BTV - b_BTV).abs().amax(dim=(0, 2))
    return [bool(window.max() > 0) for window in apart_T.split(CONTEXT)]


@variants
@pytest.mark.parametrize("manual", [False, True])
def test_a_token_reaches_later_windows_and_no_earlier_one(name: str, manual: bool) -> None:
    gpt, tokens_BT = build(manual, **VARIANTS[name]), text(3)
    changed_BT = tokens_BT.clone()
    changed_BT[:, CONTEXT + 2] = UNUSED

    assert windows_that_differ(gpt(tokens_BT), gpt(changed_BT)) == [False, True, True]


@variants
def test_it_does_so_through_the_vector_alone(name: str) -> None:
    gpt, tokens_BT = build(**VARIANTS[name]), text(2)
    changed_BT = tokens_BT.clone()
    changed_BT[:, 2] = UNUSED
    (first_BT, second_BT), other_BT = tokens_BT.split(CONTEXT, dim=1), changed_BT[:, :CONTEXT]

    carried_BD, changed_BD = (gpt.window(x_BT, None)[1] for x_BT in (first_BT, other_BT))

    whole, changed = gpt.hidden(tokens_BT)[:, CONTEXT:], gpt.hidden(changed_BT)[:, CONTEXT:]
    assert torch.equal(gpt.window(second_BT, carried_BD)[0], whole)
    assert torch.equal(gpt.window(second_BT, changed_BD)[0], changed)
    nothing = torch.zeros_like(carried_BD)
    assert torch.equal(gpt.window(second_BT, nothing)[0], gpt.window(second_BT, None)[0])
    assert not torch.equal(whole, changed)


@variants
def test_every_window_before_learns_from_a_later_one(name: str) -> None:
    """Gradients are not cut off between windows."""
    gpt, tokens_BT = build(**VARIANTS[name]), text(3)
    seen: list[Tensor] = []
    gpt.embedding.register_forward_hook(lambda module, args, output: seen.append(output))

    states_BTD = gpt.hidden(tokens_BT)
    for embedded_BTD in seen:
        embedded_BTD.retain_grad()
    states_BTD[:, 2 * CONTEXT + 1, 0].sum().backward()

    moves = [bool(x_BTD.grad is not None and x_BTD.grad.abs().sum() > 0) for x_BTD in seen]
    assert moves == [True, True, True]
    last = seen[2].grad
    assert last is not None
    assert (last[0].abs().sum(-1) > 0).tolist() == [True] * 2 + [False] * 4


@variants
def test_the_vector_stands_where_a_token_before_the_window_would(name: str) -> None:
    """A plain network reads it as the embedding of one token more; the mean is over all states."""
    change = {**VARIANTS[name], "windows": "L"}
    gpt = build(**change)
    plain = build(**change, context=CONTEXT + 1, context_vector=False)
    plain.load_state_dict(gpt.state_dict())
    carried_D, window_BT = torch.randn(32), text(1, sequences=1)
    with torch.no_grad():
        plain.embedding.weight[UNUSED] = carried_D
        for table in plain.value_tables.values() if hasattr(plain, "value_tables") else ():
            assert isinstance(table, torch.nn.Embedding)
            table.weight[UNUSED] = 0.0

    states_BTD, handed_on_BD = gpt.window(window_BT, carried_D[None])

    longer_BT = torch.cat([torch.tensor([[UNUSED]]), window_BT], dim=1)
    expected_BTD = plain.hidden(longer_BT)
    assert torch.allclose(states_BTD, expected_BTD[:, 1:], atol=1e-5)
    assert torch.allclose(handed_on_BD, expected_BTD.mean(dim=1), atol=1e-5)


def test_the_slot_is_read_from_however_far() -> None:
    seen_TT = visible(5, 5, 1, torch.device("cpu"), slot=True)

    assert seen_TT.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 1, 1, 0],
        [1, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("name", ["rotary", "windows", "replay", "keys of the token before"])
def test_a_document_that_has_ended_reaches_no_token_of_the_next(name: str, manual: bool) -> None:
    gpt = build(manual, **VARIANTS[name], document_mask=True)
    # The first document ends in window 0, the second in window 2.
    tokens = [SEPARATOR, 3, 4, 5, SEPARATOR, 7, 8, 9, 3, 4, 5, 6, 7, SEPARATOR, 8, 9, 2, 1]
    ended, still_on = list(tokens), list(tokens)
    ended[2], still_on[5] = 11, 11

    base, other, same = (gpt(torch.tensor([ids]))[0] for ids in (tokens, ended, still_on))

    def differ(a_TV: Tensor, b_TV: Tensor) -> list[bool]:
        return ((a_TV - b_TV).abs().amax(dim=-1) > 0).tolist()

    assert differ(base, other) == [False] * 2 + [True] * 2 + [False] * 14
    assert differ(base, same) == [False] * 5 + [True] * 8 + [False] * 5


def test_the_block_beyond_the_next_token_stays_within_its_window() -> None:
    """It predicts in each window what it would there alone, but for the states that it is given."""
    gpt = build(mtp="block")
    tokens_BT, targets_BT = text(3), text(3).roll(-1, dims=1)

    total, plain = gpt.objective(tokens_BT, targets_BT)

    assert plain == cross_entropy(gpt(tokens_BT), targets_BT).mean()
    apart, carried_BD = [], None
    for x_BT, y_BT in zip(tokens_BT.split(CONTEXT, 1), targets_BT.split(CONTEXT, 1), strict=True):
        hidden_BTD, carried_BD = gpt.window(x_BT, carried_BD)
        apart.append(gpt._losses_of_next_but_one(x_BT, y_BT, hidden_BTD))
    later = (total - plain) / gpt.config.mtp_weight
    assert torch.allclose(later, torch.cat(apart).mean(), atol=1e-5)


def test_later_tokens_of_offsets_are_predicted_across_windows() -> None:
    gpt = build(mtp="offsets")
    gpt.enter(done=0.0, seed=0, step=0)
    tokens_BT, targets_BT = text(2), text(2).roll(-1, dims=1)

    total, plain = gpt.objective(tokens_BT, targets_BT)

    logits_BTV = gpt(tokens_BT)
    later = [cross_entropy(logits_BTV[:, :-n], targets_BT[:, n:]).mean() for n in (1, 2)]
    expected = plain + 0.5 * later[0] + 0.25 * later[1]
    assert torch.allclose(total, expected, rtol=1e-5)


def test_a_text_may_end_within_a_window() -> None:
    gpt, tokens_BT = build(), text(3)

    assert torch.equal(gpt(tokens_BT)[:, : CONTEXT + 3], gpt(tokens_BT[:, : CONTEXT + 3]))


def test_without_it_a_network_has_no_slot() -> None:
    gpt = build(positions="learned", context_vector=False)

    assert gpt.positions.weight.shape[0] == gpt.config.reach == CONTEXT
    assert replace(gpt.config, context_vector=True).reach == 3 * CONTEXT
