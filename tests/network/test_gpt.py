"""The network: what each option does, shown where it would show if it were left out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model.config.config import GPTConfig
from model.config.size import block_parameters, flops_per_token, parameters
from model.network.attention import Attention, attend, offset
from model.network.block import MLP, Block
from model.network.gpt import GPT
from model.network.loss import cross_entropy, offset_weights
from model.network.norm import rms_norm

VOCABULARY = 50
TINY = GPTConfig(layers=4, width=32, head_width=8, context=12)
VARIANTS: dict[str, dict[str, Any]] = {
    "LayerNorm": {"norm": "layer"},
    "LayerNorm with biases": {"norm": "layer", "bias": True},
    "plain embedding": {"embedding_norm": False},
    "half rotary": {"positions": "half_rotary"},
    "learned positions": {"positions": "learned"},
    "no QK-norm": {"qk_norm": False},
    "grouped heads": {"queries_per_kv": 2},
    "windows": {"windows": "SSL", "short_window": 0.25},
    "shifted keys": {"positions": "half_rotary", "key_offset": "unturned"},
    "head gates": {"head_gates": True},
    "head mixing": {"head_mixing": True},
    "fixed exclusion": {"exclusive": "fixed"},
    "learned exclusion": {"exclusive": "learned"},
    "value tables": {"value_residual": "table"},
    "value projections": {"value_residual": "projection"},
    "GELU": {"mlp": "gelu"},
    "ReLU": {"mlp": "relu"},
    "SwiGLU": {"mlp": "swiglu"},
    "expansion": {"mlp_expansion": 8 / 3, "mlp_multiple": 16},
    "heads by layer": {"heads_by_layer": "1 4 0 2"},
    "units by layer": {"units_by_layer": "40 0 64 7"},
    "a layer less": {"heads_by_layer": "4 4 0 4", "units_by_layer": "128 128 0 128"},
    "tables by layer": {"value_residual": "table", "heads_by_layer": "4 0 4 2"},
    "projections by layer": {"value_residual": "projection", "heads_by_layer": "4 2 4 0"},
    "x0": {"x0": True},
    "x0 with strong residual": {"x0": True, "residual_init": 1.1},
    "U-Net": {"unet": True},
    "replay": {"replay_passes": 2, "replay_start": 0.0, "replay_first": 0.5, "replay_last": 0.75},
    "whole replay": {
        "replay_passes": 1,
        "replay_start": 0.0,
        "replay_first": 0.0,
        "replay_last": 1.0,
        "replay_gradient": False,
        "x0": True,
    },
    "tied head": {"tied_head": True},
    "soft cap": {"softcap": 2.0},
}
BUILT_OTHERWISE = {"output_init": "normal"}
TRAINING_ONLY: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.5},
    "stochastic depth": {"stochastic_depth": 0.9},
    "offsets": {"mtp": "offsets"},
    "block": {"mtp": "block"},
}
EVERYTHING: dict[str, Any] = {
    **VARIANTS["LayerNorm with biases"],
    **VARIANTS["shifted keys"],
    **VARIANTS["grouped heads"],
    **VARIANTS["windows"],
    **VARIANTS["replay"],
    "head_gates": True,
    "head_mixing": True,
    "exclusive": "learned",
    "value_residual": "projection",
    "mlp": "swiglu",
    "x0": True,
    "unet": True,
    "softcap": 15.0,
    "dropout": 0.1,
    "stochastic_depth": 0.1,
    "mtp": "block",
}
BY_LAYER = {"heads_by_layer": "2 0 4 2", "units_by_layer": "60 0 30 100"}
ALL = {
    "default": {},
    **VARIANTS,
    **TRAINING_ONLY,
    "everything": EVERYTHING,
    "everything by layer": {**EVERYTHING, **BY_LAYER},
}


def build(change: dict[str, Any], manual_attention: bool = False) -> GPT:
    """A network whose weights are away from the zeros and ones they start with."""
    torch.manual_seed(0)
    gpt = GPT(replace(TINY, **change), VOCABULARY, manual_attention)
    for name, parameter in sorted(gpt.named_parameters()):
        torch.manual_seed(sum(name.encode()))  # weights of the same name are the same everywhere
        torch.nn.init.normal_(parameter, std=0.3)
    gpt.enter(done=1.0, seed=0, step=0)
    return gpt


@pytest.fixture
def tokens() -> Tensor:
    torch.manual_seed(1)
    return torch.randint(0, VOCABULARY, (2, 12))


@pytest.mark.parametrize("name", ALL)
def test_no_position_sees_a_later_token(name: str, tokens: Tensor) -> None:
    """Shown by gradient: a position's logits do not move with later embeddings."""
    gpt = build(ALL[name]).eval()
    seen: list[Tensor] = []
    gpt.embedding.register_forward_hook(lambda module, args, output: seen.append(output))

    logits = gpt(tokens[:1])
    seen[0].retain_grad()
    logits[0, 5].sum().backward()

    assert seen[0].grad is not None
    per_position = seen[0].grad[0].abs().sum(dim=-1)
    assert (per_position[6:] == 0).all()
    assert (per_position[:6] > 0).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_option_changes_what_the_network_computes(name: str, tokens: Tensor) -> None:
    plain, changed = build({}).eval(), build(VARIANTS[name]).eval()

    assert not torch.allclose(plain(tokens), changed(tokens), atol=1e-3)


@pytest.mark.parametrize("name", TRAINING_ONLY)
def test_every_option_of_training_changes_the_objective_alone(name: str, tokens: Tensor) -> None:
    plain, changed = build({}), build(TRAINING_ONLY[name])
    changed.enter(done=0.0, seed=0, step=0)
    torch.manual_seed(0)

    assert plain.objective(tokens, tokens)[0] != changed.objective(tokens, tokens)[0]
    assert torch.equal(plain.eval()(tokens), changed.eval()(tokens))


@pytest.mark.parametrize("name", ALL)
def test_the_first_loss_is_about_that_of_guessing(name: str, tokens: Tensor) -> None:
    torch.manual_seed(0)
    gpt = GPT(replace(TINY, **ALL[name]), VOCABULARY).eval()

    assert gpt.losses(tokens, tokens.roll(1)).mean().item() == pytest.approx(
        math.log(VOCABULARY), abs=0.05 if name == "tied head" else 1e-5
    )


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_counted_without_building_the_network(name: str) -> None:
    config = replace(TINY, **ALL[name])
    with torch.device("meta"):
        gpt = GPT(config, vocabulary=64)  # no padding

    tables = sum(p.numel() for kind in ("embedding", "head") for p in gpt.groups()[kind])
    assert parameters(config, 64) - tables == block_parameters(config)
    assert sum(p.numel() for p in gpt.parameters()) == parameters(config, 64)


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_is_of_one_kind_and_learns(name: str, tokens: Tensor) -> None:
    gpt = build(ALL[name])
    gpt.enter(done=0.0, seed=0, step=0)
    gpt.keep_L.fill_(1.0)
    owned = [id(p) for group in gpt.groups().values() for p in group]

    gpt.objective(tokens, tokens.roll(-1, dims=1))[0].backward()

    assert sorted(owned) == sorted(id(p) for p in gpt.parameters())
    idle = [n for n, p in gpt.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("name", ["default", "windows", "grouped heads", "everything"])
def test_manual_attention_computes_the_same(name: str, tokens: Tensor) -> None:
    fused, manual = build(ALL[name]).eval(), build(ALL[name], manual_attention=True).eval()

    assert torch.allclose(fused(tokens), manual(tokens), atol=1e-4)


@pytest.mark.parametrize("positions", ["rotary", "half_rotary", "learned"])
def test_positions_matter(positions: str) -> None:
    gpt = build({"positions": positions}).eval()

    forward = gpt(torch.tensor([[1, 2, 3, 4]]))[0, -1]
    swapped = gpt(torch.tensor([[2, 1, 3, 4]]))[0, -1]

    assert not torch.allclose(forward, swapped, atol=1e-3)


def test_half_rotary_leaves_half_of_each_head_unturned() -> None:
    gpt = build({"positions": "half_rotary"})

    assert gpt.sin_TK.shape == (12, 8)
    assert (gpt.sin_TK[1:] != 0).all(dim=0).tolist() == [True, True, False, False] * 2


def test_long_layers_take_unturned_halves_of_keys_one_token_later() -> None:
    """Each key is normalised as a whole first, then halves of two tokens are joined (slowrun)."""
    gpt = build({**VARIANTS["shifted keys"], "windows": "SSL"})
    offsets = [block.attention.key_offset for block in gpt.blocks]  # type: ignore[union-attr]
    assert offsets == ["no", "no", "unturned", "unturned"]
    keys_BGTK = torch.arange(3.0)[:, None] + torch.zeros(1, 1, 3, 8)

    shifted_BGTK = offset(keys_BGTK, "unturned")

    assert shifted_BGTK[0, 0, 2].tolist() == [2, 2, 1, 1, 2, 2, 1, 1]
    assert shifted_BGTK[0, 0, 0].tolist() == [0] * 8
    layer, plain = (
        attention({**VARIANTS["half rotary"], "key_offset": on}, 3) for on in ("unturned", "no")
    )
    x_BTD = rms_norm(torch.randn(1, 12, 32)) * torch.linspace(0.1, 3, 12)[:, None]
    x_BTD[0, 0] *= 100  # normalised, a key is as long whatever came before it
    seen: list[Tensor] = []

    def watched(q: Tensor, k: Tensor, *rest: Any) -> Tensor:
        seen.append(k)
        return q

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.network.attention.attend", watched)
        for each in (plain, layer):
            each(x_BTD, gpt.cos_TK, gpt.sin_TK, None)
    assert torch.allclose(seen[1], offset(seen[0], "unturned"), atol=1e-6)


def test_a_key_offset_is_the_sources() -> None:
    """Slowrun's line shifts the second half of its half-split layout; modded-nanogpt's the same
    words in an interleaved one, whose second half are the features that never turn."""
    torch.manual_seed(0)
    keys_BGTK = torch.randn(2, 3, 5, 8)
    gpt = build({"positions": "half_rotary"})
    still_K = (gpt.sin_TK == 0).all(dim=0)

    for features, moved in (
        ("second_half", [4, 5, 6, 7]),
        ("unturned", still_K.nonzero().flatten().tolist()),
    ):
        expected = keys_BGTK.clone()
        expected[:, :, 1:, moved] = keys_BGTK[:, :, :-1, moved]
        assert torch.equal(offset(keys_BGTK, features), expected)


def attention(change: dict[str, Any], layer: int = 0) -> Attention:
    block = build(change).blocks[layer]
    assert isinstance(block, Block)
    return block.attention


def attended(layer: Attention, x_BTD: Tensor, residual_BTV: Tensor | None = None) -> Tensor:
    gpt = build({})
    output: Tensor = layer(x_BTD, gpt.cos_TK, gpt.sin_TK, residual_BTV)
    return output


@pytest.fixture
def x_BTD() -> Tensor:
    torch.manual_seed(2)
    return rms_norm(torch.randn(2, 12, 32))


@pytest.mark.parametrize(("layer", "reach"), [(0, 4), (1, 4), (2, 12), (3, 12)])
def test_a_short_window_reaches_no_further_back(layer: int, reach: int) -> None:
    """SSL, repeated, and the last layer sees all. FlashAttention's window of 3 has 4 keys."""
    layer_attention = attention(VARIANTS["windows"], layer)
    x_BTD = torch.randn(1, 12, 32, requires_grad=True)

    attended(layer_attention, x_BTD)[0, -1].sum().backward()

    assert x_BTD.grad is not None
    assert (x_BTD.grad[0].abs().sum(-1) > 0).tolist() == [False] * (12 - reach) + [True] * reach


@pytest.mark.parametrize("window", [1, 4, 10, 11, 12])
def test_a_window_is_flash_attentions(window: int) -> None:
    """Its (w, 0): query i reads the keys j with i - w <= j <= i, so w + 1 of them."""
    expected = [[i - window <= j <= i for j in range(12)] for i in range(12)]
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 12, 8)
    scores = (q @ k.mT / 8**0.5).masked_fill(~torch.tensor(expected), -math.inf)

    for manual in (False, True):
        assert torch.allclose(
            attend(q, k, v, window, manual), scores.softmax(dim=-1) @ v, atol=1e-5
        )


@pytest.mark.parametrize("change", [{}, {"exclusive": "fixed"}, VARIANTS["windows"]])
def test_grouped_heads_are_heads_that_share_keys_and_values(
    change: dict[str, Any], x_BTD: Tensor
) -> None:
    grouped, single = attention({**change, "queries_per_kv": 2}), attention(change)
    state = grouped.state_dict()
    for name in ("key.weight", "value.weight"):
        state[name] = state[name].view(2, 8, 32).repeat_interleave(2, dim=0).reshape(32, 32)
    single.load_state_dict(state)

    assert torch.allclose(attended(grouped, x_BTD), attended(single, x_BTD), atol=1e-5)


def test_head_gates_start_half_open(x_BTD: Tensor) -> None:
    gated, plain = attention({"head_gates": True}), attention({})
    torch.nn.init.zeros_(gated.head_gate.weight)

    assert torch.allclose(attended(gated, x_BTD), attended(plain, x_BTD) / 2, atol=1e-5)


def test_head_mixing_by_a_permutation_permutes_heads(x_BTD: Tensor) -> None:
    """With the same permutation for queries, keys and values, and undone on the way out."""
    mixed, plain = attention({"head_mixing": True}), attention({})
    order = torch.tensor([2, 0, 3, 1])
    for mix in (mixed.mix_query, mixed.mix_key, mixed.mix_value):
        mix.data = torch.eye(4)[order]
    by_head_DHK = plain.out.weight.detach().view(32, 4, 8)
    mixed.out.weight.data = by_head_DHK[:, order].reshape(32, 32)

    assert torch.allclose(attended(mixed, x_BTD), attended(plain, x_BTD), atol=1e-5)


def test_head_mixing_starts_as_no_mixing() -> None:
    gpt = GPT(replace(TINY, head_mixing=True), VOCABULARY)

    mixes = [p for name, p in gpt.named_parameters() if ".mix_" in name]
    assert len(mixes) == 12
    assert all(torch.equal(mix, torch.eye(4)) for mix in mixes)


def test_exclusion_takes_the_own_value_out_of_the_output(x_BTD: Tensor) -> None:
    layer = attention({"exclusive": "fixed"})
    layer.out.weight.data = torch.eye(32)
    value_BTHK = layer.value(x_BTD).view(2, 12, 4, 8)

    output_BTHK = attended(layer, x_BTD).view(2, 12, 4, 8)

    along = (output_BTHK * value_BTHK).sum(-1)
    assert along.abs().max() < 1e-4
    assert output_BTHK.abs().max() > 0.1


def test_learned_exclusion_starts_at_none(x_BTD: Tensor) -> None:
    learned, plain = attention({"exclusive": "learned"}), attention({})
    torch.nn.init.zeros_(learned.exclusion_H)

    assert torch.allclose(attended(learned, x_BTD), attended(plain, x_BTD), atol=1e-6)


def test_a_value_residual_is_added_once_its_gate_is_at_its_start(x_BTD: Tensor) -> None:
    """Layers alternate and the last has one: 1 and 3 of 0 to 3."""
    layer, plain = attention({"value_residual": "projection"}, 3), attention({}, 3)
    torch.nn.init.zeros_(layer.value_gate.weight)
    extra_BTV = torch.randn(2, 12, 32)
    own_BTV = layer.value(x_BTD)
    layer.value.weight.data.zero_()

    together_BTD = attended(layer, x_BTD, own_BTV + extra_BTV)

    layer.load_state_dict(plain.state_dict(), strict=False)
    assert torch.allclose(attended(layer, x_BTD, extra_BTV), together_BTD, atol=1e-5)
    gpt = build({"value_residual": "projection"})
    has = [hasattr(block.attention, "value_gate") for block in gpt.blocks]
    assert has == [False, True, False, True]


@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        ("gelu", F.gelu),
        ("relu", F.relu),
        ("relu2", lambda x: F.relu(x) ** 2),
    ],
)
def test_the_mlp_applies_its_activation(kind: str, activation: Any, x_BTD: Tensor) -> None:
    mlp = MLP(replace(TINY, mlp=kind), units=128)

    expected = activation(x_BTD @ mlp.expand.weight.T) @ mlp.project.weight.T
    assert torch.allclose(mlp(x_BTD), expected, atol=1e-5)


def test_swiglu_gates_its_hidden_units(x_BTD: Tensor) -> None:
    config = replace(TINY, mlp="swiglu", mlp_expansion=8 / 3, mlp_multiple=16)
    mlp = MLP(config, config.hidden)

    assert mlp.expand.weight.shape == (96, 32)
    gate = x_BTD @ mlp.gate.weight.T
    expected = (gate * torch.sigmoid(gate) * (x_BTD @ mlp.expand.weight.T)) @ mlp.project.weight.T
    assert torch.allclose(mlp(x_BTD), expected, atol=1e-5)


def test_rms_norm_and_its_gradient_are_torchs() -> None:
    x = torch.randn(3, 5, 16, dtype=torch.float64, requires_grad=True)

    assert torch.allclose(rms_norm(x.float()), F.rms_norm(x.float(), (16,)), atol=1e-6)
    ours, theirs = (
        torch.autograd.grad((norm(x.float()) * torch.arange(16)).sum(), x)[0]
        for norm in (rms_norm, lambda x: F.rms_norm(x, (16,)))
    )
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_layer_norm_normalises_and_shifts(x_BTD: Tensor) -> None:
    norm = build(VARIANTS["LayerNorm with biases"]).norm
    centred = x_BTD - x_BTD.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    assert torch.allclose(norm(x_BTD), expected * norm.gain + norm.shift, atol=1e-5)
    assert build(VARIANTS["LayerNorm"]).norm.shift is None


def test_branch_outputs_start_at_zero_or_as_asked() -> None:
    zero, normal = (GPT(replace(TINY, output_init=init), 50) for init in ("zeros", "normal"))

    for gpt, deviation in ((zero, 0.0), (normal, 32**-0.5)):
        outputs = [gpt.blocks[0].attention.out, gpt.blocks[0].mlp.project]  # type: ignore[union-attr]
        for out in outputs:
            assert out.weight.std().item() == pytest.approx(deviation, rel=0.1)  # type: ignore[union-attr]


def test_matrices_start_as_asked() -> None:
    """Uniform within (3 / width)^0.5 as slowrun; GPT-2's 0.02, and less by depth on the way out."""

    def first(**change: Any) -> dict[str, Tensor]:
        torch.manual_seed(0)
        gpt = GPT(replace(TINY, mlp="swiglu", head_gates=True, **change), 50)
        return {name.rpartition(".weight")[0]: p.detach() for name, p in gpt.named_parameters()}

    uniform, gpt2 = first(input_init="uniform"), first(input_init="gpt2", output_init="gpt2")
    for name in ("attention.query", "attention.value", "mlp.expand", "mlp.gate"):
        assert uniform[f"blocks.0.{name}"].abs().max() < (3 / 32) ** 0.5
        assert uniform[f"blocks.0.{name}"].std().item() == pytest.approx(32**-0.5, rel=0.1)
        assert gpt2[f"blocks.0.{name}"].std().item() == pytest.approx(0.02, rel=0.1)
    for name in ("attention.out", "mlp.project"):
        assert gpt2[f"blocks.0.{name}"].std().item() == pytest.approx(0.02 / 8**0.5, rel=0.1)
    for name, weight in gpt2.items():
        assert "_gate" not in name or not weight.any()
    assert first(head_init=0.001)["head"].std().item() == pytest.approx(0.001, rel=0.1)
    assert not gpt2["head"].any()


def test_x0_reaches_every_layer(tokens: Tensor) -> None:
    gpt = build({"x0": True}).eval()
    with torch.no_grad():
        gpt.input_scale_L.fill_(0.0)
        gpt.x0_scale_L.fill_(0.0)
        gpt.x0_scale_L[-1] = 2.0
    block = gpt.blocks[-1]
    x0_BTD = rms_norm(gpt.embedding(tokens))

    expected = gpt.logits(gpt.norm(block(2 * x0_BTD, gpt.cos_TK, gpt.sin_TK)))
    assert torch.allclose(gpt(tokens), expected, atol=1e-5)


def test_late_layers_add_what_early_layers_gave_in_mirrored_order(tokens: Tensor) -> None:
    gpt = build({"unet": True}).eval()
    a, b, c, d = gpt.blocks
    tables = gpt.cos_TK, gpt.sin_TK

    first = a(rms_norm(gpt.embedding(tokens)), *tables)
    second = b(first, *tables)
    third = c(second + gpt.skip_L[0] * second, *tables)
    fourth = d(third + gpt.skip_L[1] * first, *tables)

    assert torch.allclose(gpt(tokens), gpt.logits(gpt.norm(fourth)), atol=1e-4)


def test_replay_runs_its_layers_again_from_its_start_on(tokens: Tensor) -> None:
    gpt = build(VARIANTS["replay"] | {"replay_start": 0.5}).eval()
    a, b, c, d = gpt.blocks
    tables = gpt.cos_TK, gpt.sin_TK
    x_BTD = b(a(rms_norm(gpt.embedding(tokens)), *tables), *tables)
    for _ in range(3):
        x_BTD = c(x_BTD, *tables)
    expected = gpt.logits(gpt.norm(d(x_BTD, *tables)))

    assert torch.allclose(gpt(tokens), expected, atol=1e-4)
    gpt.enter(done=0.4, seed=0, step=0)
    assert torch.allclose(gpt(tokens), build({}).eval()(tokens), atol=1e-5)


def test_whole_replay_learns_in_its_last_pass_alone(tokens: Tensor) -> None:
    """Gradients are those of a network that starts from the first pass's output as a constant."""
    gpt = build(VARIANTS["whole replay"])
    gpt.losses(tokens, tokens).mean().backward()
    found = gpt.blocks[0].mlp.expand.weight.grad.clone()  # type: ignore[union-attr]
    gpt.zero_grad()

    gpt.replaying = False
    outputs: dict[int, Tensor] = {}
    x0_BTD = x_BTD = rms_norm(gpt.embedding(tokens))
    for layer in range(4):
        x_BTD = gpt._layer(layer, x_BTD, x0_BTD, tokens, outputs)
    x_BTD = rms_norm(x_BTD).detach()
    for layer in range(4):
        x_BTD = gpt._layer(layer, x_BTD, x0_BTD, tokens, outputs)
    cross_entropy(gpt.logits(gpt.norm(x_BTD)), tokens).mean().backward()

    expected = gpt.blocks[0].mlp.expand.weight.grad  # type: ignore[union-attr]
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_soft_cap_bounds_logits(tokens: Tensor) -> None:
    plain, capped = build({}).eval()(tokens), build({"softcap": 2.0}).eval()(tokens)

    assert plain.abs().max() > 2
    assert torch.allclose(capped, 2 * torch.tanh(plain / 2), atol=1e-5)


def test_a_tied_head_is_the_embedding() -> None:
    gpt = build({"tied_head": True})

    assert not hasattr(gpt, "head")
    assert gpt.groups()["head"] == []


@pytest.mark.parametrize("on", ["attention", "mlp", "both", "all"])
def test_dropout_acts_on_the_branches_it_names(on: str, x_BTD: Tensor) -> None:
    gpt = build({"dropout": 0.5, "dropout_on": on})
    block = gpt.blocks[0]
    assert isinstance(block, Block)

    def zeros(output: Tensor) -> float:
        return (output == 0).float().mean().item()

    mlp, attention_out = block.mlp(x_BTD), attended(block.attention, x_BTD)
    assert zeros(attention_out) == pytest.approx(0.5 if on != "mlp" else 0, abs=0.1)
    assert zeros(mlp) == pytest.approx(0.5 if on != "attention" else 0, abs=0.1)


@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("window", [12, 3])
def test_dropout_on_all_reaches_attention_weights_as_in_nanogpt(manual: bool, window: int) -> None:
    """Of equal weights 1 / n each is dropped or scaled by 1 / (1 - p)."""
    torch.manual_seed(0)
    zero, each = torch.zeros(400, 1, 12, 12), torch.eye(12).expand(400, 1, 12, 12)

    weights = attend(zero, zero, each, window, manual, dropout=0.25)[:, 0, 11, -4:]

    count = min(12, window + 1)
    dropped = weights == 0
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert torch.allclose(weights[~dropped], torch.tensor(1 / 0.75 / count))


def test_dropout_on_all_reaches_the_embedding_and_training_alone(tokens: Tensor) -> None:
    gpt = build({"dropout": 0.25, "dropout_on": "all", "embedding_norm": False})
    plain = gpt.embedding(tokens)

    dropped = gpt._embed(tokens)

    zeros = dropped == 0
    assert zeros.float().mean().item() == pytest.approx(0.25, abs=0.08)
    assert torch.allclose(dropped[~zeros], plain[~zeros] / 0.75)
    assert torch.equal(gpt.eval()._embed(tokens), plain)
    assert torch.equal(gpt(tokens), build({"embedding_norm": False}).eval()(tokens))


def test_stochastic_depth_skips_later_layers_more_often_by_step_alone(tokens: Tensor) -> None:
    gpt = build({"stochastic_depth": 0.6})
    kept = []
    for step in range(1000):
        gpt.enter(done=0.0, seed=7, step=step)
        kept.append(gpt.keep_L.clone())
    gpt.enter(done=0.5, seed=7, step=3)

    assert torch.equal(gpt.keep_L, kept[3])
    mean_L = torch.stack(kept).mean(dim=0)
    assert mean_L.tolist() == pytest.approx([1.0, 0.8, 0.6, 0.4], abs=0.05)

    gpt.keep_L.copy_(torch.tensor([1.0, 0.0, 0.0, 1.0]))
    shallow = build({})
    shallow.blocks = torch.nn.ModuleList([shallow.blocks[0], shallow.blocks[3]])
    shallow.config = replace(shallow.config, layers=2)
    assert torch.allclose(gpt(tokens), shallow(tokens), atol=1e-5)


def test_later_tokens_count_until_they_fade_out(tokens: Tensor) -> None:
    gpt = build({"mtp": "offsets", "mtp_weight": 0.5})
    targets = tokens.roll(-1, dims=1)
    gpt.enter(done=0.0, seed=0, step=0)
    logits = gpt(tokens)

    total, plain = gpt.objective(tokens, targets)

    assert torch.allclose(plain, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    second = F.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())
    third = F.cross_entropy(logits[:, :-2].flatten(0, 1), targets[:, 2:].flatten())
    assert torch.allclose(total, plain + 0.5 * second + 0.25 * third)


@pytest.mark.parametrize(
    ("done", "weights"),
    [(0, [0.5, 0.25]), (0.165, [0.5, 0.125]), (0.495, [0.25, 0]), (0.66, [0, 0])],
)
def test_the_farthest_token_fades_out_first(done: float, weights: list[float]) -> None:
    config = GPTConfig(mtp="offsets", mtp_weight=0.5, mtp_until=0.66)

    assert offset_weights(config, done) == pytest.approx(weights, abs=1e-9)


def test_the_block_beyond_the_next_token_sees_just_that_one_more(tokens: Tensor) -> None:
    """Its loss for the token after next moves with the next token, not with what it predicts."""
    gpt = build({"mtp": "block", "mtp_weight": 1.0})
    seen: list[Tensor] = []
    gpt.next_but_one.register_forward_hook(lambda module, args, output: seen.append(output))

    def at_five(changed: int) -> Tensor:
        known = torch.arange(13)[None] % VOCABULARY
        known[0, changed] = 49
        gpt.objective(known[:, :-1], known[:, 1:])
        return seen.pop()[0, 5]

    gpt.eval()
    assert not torch.allclose(at_five(6), at_five(12))
    assert torch.allclose(at_five(7), at_five(12), atol=1e-6)


def test_the_block_beyond_the_next_token_reads_it_normalised(tokens: Tensor) -> None:
    gpt = build({"mtp": "block"})
    seen: list[Tensor] = []
    gpt.next_but_one.register_forward_pre_hook(lambda module, args: seen.extend(args))

    gpt.objective(tokens, tokens)

    assert torch.equal(seen[1], rms_norm(gpt.embedding(tokens[:, :-1])))


def test_the_next_token_keeps_its_own_position_in_that_block(tokens: Tensor) -> None:
    gpt = build({"mtp": "block", "positions": "learned"})
    seen: list[Tensor] = []
    gpt.next_but_one.register_forward_pre_hook(lambda module, args: seen.extend(args))

    gpt.objective(tokens, tokens)

    expected = gpt.embedding(tokens[:, :-1]) + gpt.positions.weight[1 : tokens.shape[1]]
    assert torch.equal(seen[1], rms_norm(expected))


def test_the_objective_adds_the_loss_of_the_token_after_next(tokens: Tensor) -> None:
    half, full = (build({"mtp": "block", "mtp_weight": weight}) for weight in (0.5, 1.0))

    a, plain = half.objective(tokens, tokens)
    b, _ = full.objective(tokens, tokens)

    assert (b - plain).item() == pytest.approx(2 * (a - plain).item(), rel=1e-4)
    assert a > plain


@pytest.mark.parametrize(
    "name",
    [
        "default",
        "SwiGLU",
        "grouped heads",
        "value projections",
        "heads by layer",
        "units by layer",
        "replay",
        "block",
    ],
)
def test_operations_are_those_that_torch_counts(name: str) -> None:
    """Attention aside (bmm), of which torch counts all pairs and we those a causal mask leaves."""
    config = replace(TINY, **ALL[name], context=512)
    with torch.device("meta"):
        gpt = GPT(config, vocabulary=64)
        tokens = torch.zeros(1, 512, dtype=torch.long)
    gpt.enter(done=1.0, seed=0, step=0)
    with FlopCounterMode(display=False) as counter:
        gpt.objective(tokens, tokens)[0].backward()

    counted = counter.get_flop_counts()["Global"]
    dense = sum(count for op, count in counted.items() if "bmm" not in str(op)) / 512
    layers = config.layers + (name == "block") + len(config.replayed) * config.replay_passes
    heads = sum(config.layer_heads) / config.layers
    pairs = layers * 3 * 4 * heads * (config.width // config.heads) * 513 / 2
    assert flops_per_token(config, 64, done=1.0) - pairs == pytest.approx(dense, rel=0.01)
