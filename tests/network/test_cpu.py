"""What a CPU computes by hand where a run computes in bf16."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from model.config import GPTConfig
from model.network import GPT, Cache, cpu
from model.network.attention import attend

VOCABULARY = 50
EVERYTHING: Mapping[str, object] = {
    "positions": "half_rotary",
    "key_offset": "unturned",
    "queries_per_kv": 2,
    "windows": "SSL",
    "short_window": 0.25,
    "head_gates": True,
    "head_mixing": True,
    "exclusive": "learned",
    "value_residual": "projection",
    "mlp": "swiglu",
    "x0": True,
    "unet": True,
    "softcap": 15.0,
    "mtp": "block",
    "dropout": 0.1,
    "stochastic_depth": 0.1,
}
VARIED: Mapping[str, Mapping[str, object]] = {
    "default": {},
    "nanoGPT": {"norm": "layer", "positions": "learned", "qk_norm": False, "mlp": "gelu"},
    "no QK-norm": {"qk_norm": False},
    "grouped heads": {"queries_per_kv": 2},
    "windows": {"windows": "SSL", "short_window": 0.25},
    "windows, no QK-norm": {"windows": "SSL", "short_window": 0.25, "qk_norm": False},
    "documents apart": {"document_mask": True},
    "documents apart, no QK-norm": {"document_mask": True, "qk_norm": False},
    "mean of the window before": {"context": 5, "context_vector": True, "windows": "SL"},
    "dropout of weights": {"dropout": 0.3, "dropout_on": "all"},
    "everything": EVERYTHING,
}


def network(change: Mapping[str, object]) -> GPT:
    """One whose every weight says something."""
    shape = {"layers": 3, "width": 32, "head_width": 8, "context": 12}
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(**{**shape, **change}), VOCABULARY, True, 0)  # type: ignore[arg-type]
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    gpt.enter(done=1.0, seed=0, step=0)
    return gpt


def gradients(gpt: GPT, bf16: bool) -> Tensor:
    """All of a step's gradients, one after the other."""
    torch.manual_seed(1)
    tokens = torch.randint(0, VOCABULARY, (4, 12))
    gpt.zero_grad()
    torch.manual_seed(2)  # of dropout
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss, _ = gpt.objective(tokens, tokens.roll(-1, 1))
    loss.backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten() for p in gpt.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", VARIED)
def test_gradients_by_hand_are_as_near_those_of_fp32_as_autocasts_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpt = network(VARIED[name])
    exact, by_hand = gradients(gpt, bf16=False), gradients(gpt, bf16=True)
    monkeypatch.setattr(cpu, "narrow", lambda x: False)
    by_autocast = gradients(gpt, bf16=True)

    errors = [float((g - exact).norm() / exact.norm()) for g in (by_hand, by_autocast)]

    assert not torch.equal(by_hand, by_autocast)
    assert errors[0] < 1.5 * errors[1] + 0.002


def test_fp32_computes_nothing_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its losses stay what they were, to the last bit."""
    for function in (cpu.NarrowAttention, cpu.NarrowRMSNorm, cpu.TurnedHeads, cpu.WeightedSum):
        monkeypatch.setattr(function, "apply", lambda *args: pytest.fail("computed by hand"))

    assert gradients(network(EVERYTHING), bf16=False).isfinite().all()


def test_the_largest_scores_that_norms_allow_do_not_overflow() -> None:
    """Queries and keys of unit root mean square have scores of at most the root of their width."""
    q = torch.ones(1, 2, 5, 256, dtype=torch.bfloat16, requires_grad=True)
    v = torch.arange(5.0).to(torch.bfloat16).expand(1, 2, 256, 5).mT

    y: Tensor = cpu.NarrowAttention.apply(q, q, v, None, True)  # type: ignore[no-untyped-call]
    y.float().sum().backward()

    assert torch.allclose(y[0, 0, :, 0].float(), torch.arange(5) / 2, rtol=0.01)
    assert q.grad is not None
    assert q.grad.isfinite().all()


def test_heads_too_wide_for_that_have_their_largest_score_looked_for() -> None:
    q = torch.ones(1, 1, 3, 8192, dtype=torch.bfloat16)

    with torch.autocast("cpu", torch.bfloat16):
        y = attend(q, q, q, window=3, manual=True, bounded=True)

    assert torch.equal(y, q)


@pytest.mark.parametrize("name", ["default", "no QK-norm", "windows"])
def test_what_a_cache_has_kept_is_read_in_bf16_too(name: str) -> None:
    gpt = network(VARIED[name]).eval()
    torch.manual_seed(1)
    tokens = torch.randint(0, VOCABULARY, (2, 12))

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        cache = Cache()
        gpt.after(tokens[:, :5], cache)
        gpt.after(tokens[:, 5:11], cache)
        kept, whole = gpt.after(tokens[:, 11:], cache), gpt(tokens)[:, -1]

    assert (kept - whole).norm() < 0.05 * whole.norm()
