"""Reading a window piece by piece gives what reading it at once gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from model.config import GPTConfig
from model.network import GPT, Cache, Mixture

VOCABULARY, SEPARATOR, CONTEXT = 19, 18, 24
OPTIONS: Mapping[str, Mapping[str, object]] = {
    "plain": {},
    "learned": {"positions": "learned", "norm": "layer", "bias": True, "mlp": "gelu"},
    "half-rotary": {"positions": "half_rotary", "key_offset": "unturned", "windows": "SL"},
    "offset-documents": {
        "positions": "half_rotary",
        "key_offset": "second_half",
        "document_mask": True,
    },
    "windows": {"windows": "SSL", "short_window": 0.2, "queries_per_kv": 2},
    "windows-documents": {"windows": "SL", "short_window": 0.3, "document_mask": True},
    "grouped-documents": {"queries_per_kv": 2, "document_mask": True},
    "value-tables": {"value_residual": "table", "x0": True, "exclusive": "fixed"},
    "value-projection": {"value_residual": "projection", "exclusive": "learned", "unet": True},
    "gates": {"head_gates": True, "head_mixing": True, "softcap": 5.0, "mlp": "swiglu"},
    "replay": {"replay_passes": 2, "unet": True, "value_residual": "table"},
    "replay-no-gradient": {
        "replay_passes": 1,
        "replay_first": 0.0,
        "replay_gradient": False,
        "x0": True,
    },
    "tied": {"tied_head": True, "embedding_norm": False, "qk_norm": False, "mtp": "block"},
    "uneven": {"heads_by_layer": "2 0 1 2", "units_by_layer": "64 32 0 64"},
    "context-vector": {"context": 7, "context_vector": True},
    "context-vector-learned": {
        "context": 7,
        "context_vector": True,
        "positions": "learned",
        "windows": "SL",
        "short_window": 0.3,
        "value_residual": "table",
    },
    "context-vector-documents": {
        "context": 7,
        "context_vector": True,
        "positions": "half_rotary",
        "key_offset": "unturned",
        "document_mask": True,
    },
    "depth": {"stochastic_depth": 0.5, "dropout": 0.3, "dropout_on": "all"},
}


def network(options: Mapping[str, object], seed: int = 0, manual: bool = False) -> GPT:
    """One whose every weight says something, at the end of its run."""
    shape = {"layers": 4, "width": 32, "head_width": 16, "context": CONTEXT}
    config = GPTConfig(**{**shape, **options})  # type: ignore[arg-type]
    torch.manual_seed(seed)
    gpt = GPT(config, VOCABULARY, manual, SEPARATOR).eval()
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    gpt.enter(1.0, 0, 0)
    return gpt


@torch.inference_mode()
def piece_by_piece(gpt: GPT | Mixture, tokens_BT: Tensor, cuts: Sequence[int]) -> Tensor:
    """Logits (B, V) after each piece, stacked."""
    cache, ends = Cache(), [*cuts, tokens_BT.shape[1]]
    return torch.stack(
        [gpt.after(tokens_BT[:, a:b], cache) for a, b in zip([0, *cuts], ends, strict=True)], dim=1
    )


@pytest.mark.parametrize("manual", [False, True], ids=["fused", "products"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_window_read_in_pieces_is_predicted_as_one_read_at_once(
    options: Mapping[str, object], manual: bool
) -> None:
    gpt = network(options, manual=manual)
    tokens_BT = torch.randint(VOCABULARY, (2, CONTEXT), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        at_once_BTV = gpt(tokens_BT)

    one_by_one_BTV = piece_by_piece(gpt, tokens_BT, range(1, CONTEXT))
    in_three_BTV = piece_by_piece(gpt, tokens_BT, [7, 13])

    assert at_once_BTV.std() > 0.1
    # fp32 has seven digits; without vector instructions sums lose one and a half of them.
    close = 3e-5 * at_once_BTV.abs().max().item()
    torch.testing.assert_close(one_by_one_BTV, at_once_BTV, atol=close, rtol=0)
    torch.testing.assert_close(in_three_BTV, at_once_BTV[:, [6, 12, -1]], atol=close, rtol=0)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_each_member_of_a_mixture_keeps_its_own(average: str) -> None:
    inner = Mixture([network({}, 1), network({"positions": "learned"}, 2)], [1, 2], average)
    mixture = Mixture([inner, network({"windows": "SL"}, 3)], [0.25, 0.75], average)
    tokens_BT = torch.randint(VOCABULARY, (1, CONTEXT), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        at_once_BTV = mixture(tokens_BT)

    one_by_one_BTV = piece_by_piece(mixture, tokens_BT, range(1, CONTEXT))

    torch.testing.assert_close(one_by_one_BTV, at_once_BTV, atol=1e-5, rtol=1e-5)
