"""Groups, decay, and each optimizer against its authors' formula, written out here in fp64."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.config.config import Config, GPTConfig, OptimConfig
from model.config.setting import ConfigError
from model.network.gpt import GPT
from model.optim.adamw import AdamW
from model.optim.optimizers import (
    describe_groups,
    make_optimizers,
    step,
    swap_in_averages,
)
from model.optim.state import load_state_tree, state_tree

NAMES = ["adamw", "muon", "soap", "shampoo", "lion", "magma", "schedule_free"]
RICH = GPTConfig(
    layers=2,
    width=16,
    head_width=8,
    context=8,
    norm="layer",
    bias=True,
    x0=True,
    unet=True,
    head_gates=True,
    value_residual="projection",
    mtp="block",
)
LR, DECAY = 0.01, 2.0


class OneMatrix(nn.Module):
    """As small as a network gets."""

    def __init__(self, rows: int = 6, columns: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(rows, columns))

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"matrices": [self.weight], "embedding": [], "head": [], "scalars": []}


def settings(name: str, **given: Any) -> OptimConfig:
    plain = {"lr": LR, "rest_lr": LR, "warmup": 0.0, "schedule": "constant", "grad_clip": 0.0}
    return OptimConfig(name=name, **{**plain, "weight_decay_multiplier": 0.0, **given})


def gradients(steps: int, shape: tuple[int, int] = (6, 4)) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(shape) for _ in range(steps)]


def trained(optim: OptimConfig, steps: int, shape: tuple[int, int] = (6, 4)) -> Tensor:
    """The matrix after gradients that do not depend on it."""
    network: Any = OneMatrix(*shape)
    optimizers = make_optimizers(network, optim)
    for number, gradient in enumerate(gradients(steps, shape)):
        network.weight.grad = gradient.clone()
        step(optimizers, network, optim, (number + 1) / steps, epochs=1)
    with swap_in_averages(optimizers):
        found: Tensor = network.weight.detach().clone()
    return found


def start() -> Tensor:
    return OneMatrix().weight.detach().double()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_exactly_one_group(name: str) -> None:
    gpt = GPT(RICH, vocabulary=50)

    optimizers = make_optimizers(gpt, OptimConfig(name=name))

    groups = chain.from_iterable(optimizer.param_groups for optimizer in optimizers)
    owned = [id(p) for group in groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in gpt.parameters())
    assert sum(g.parameters for g in describe_groups(optimizers)) == sum(
        p.numel() for p in gpt.parameters()
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name != "schedule_free"])
@pytest.mark.parametrize("cautious", ["no", "matrices", "all"])
def test_decay_shrinks_every_matrix_by_lr_times_decay_per_step(name: str, cautious: str) -> None:
    """Without gradient there is no other change. Gains, biases, gates and scalars keep theirs."""
    gpt = GPT(RICH, vocabulary=50)
    optim = settings(name, weight_decay_multiplier=10 * DECAY, cautious_decay=cautious)
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    groups = gpt.groups()
    before = {kind: [p.detach().clone() for p in group] for kind, group in groups.items()}

    step(make_optimizers(gpt, optim), gpt, optim, done=0.0, epochs=1)

    for kind, group in groups.items():
        share = 1 - LR * DECAY if kind in ("matrices", "embedding", "head") else 1.0
        for parameter, was in zip(group, before[kind], strict=True):
            assert torch.allclose(parameter, was * share, rtol=1e-5), kind


def test_decay_follows_its_schedule() -> None:
    network: Any = OneMatrix()
    points = ("0:1", "1:3")
    optim = settings(
        "adamw", weight_decay_multiplier=10, decay_schedule="piecewise", decay_points=points
    )
    network.weight.grad = torch.zeros(6, 4)

    step(make_optimizers(network, optim), network, optim, done=0.5, epochs=1)

    assert torch.allclose(network.weight.double(), start() * (1 - LR * 2), rtol=1e-5)


def test_rates_can_be_given_for_each_kind_of_parameter() -> None:
    optim = OptimConfig(
        name="muon", lr=0.1, rest_lr=0.2, embedding_lr=0.3, head_lr=0.4, scalar_lr=0.5
    )

    groups = describe_groups(make_optimizers(GPT(RICH, 50), optim))

    assert {group.name.split()[0]: group.lr for group in groups} == {
        "matrices": 0.1,
        "embedding": 0.3,
        "head": 0.4,
        "scalars": 0.5,
        "residual": 0.5,
        "x0": 0.5,
        "value_gates": 0.5,
        "head_gates": 0.5,
    }


def test_rates_not_given_are_those_of_the_rest() -> None:
    muon = describe_groups(make_optimizers(GPT(RICH, 50), OptimConfig(name="muon", lr=0.1)))
    lion = describe_groups(make_optimizers(GPT(RICH, 50), OptimConfig(name="lion", lr=0.1)))

    assert {group.lr for group in muon} == {0.1, OptimConfig().rest_lr}
    assert {group.lr for group in lion} == {0.1}


def test_the_factor_of_shape_is_seen_in_rate_and_decay() -> None:
    optim = OptimConfig(name="muon", lr=0.1, muon_scale="shape", weight_decay_multiplier=10)

    groups = {g.name: g for g in describe_groups(make_optimizers(GPT(RICH, 50), optim))}

    assert groups["matrices 64 x 16"].lr == pytest.approx(0.2)
    assert groups["matrices 64 x 16"].lr_scale == pytest.approx(2.0)
    assert groups["matrices 64 x 16"].decay_per_step == pytest.approx(0.2)
    assert groups["matrices 16 x 64"].lr == pytest.approx(0.1)


def test_the_rate_of_a_step_is_the_schedules() -> None:
    network: Any = OneMatrix()
    optim = settings("adamw", schedule="linear")
    optimizers = make_optimizers(network, optim)
    network.weight.grad = torch.ones(6, 4)

    step(optimizers, network, optim, done=0.75, epochs=1)

    assert optimizers[0].param_groups[0]["lr"] == pytest.approx(LR / 4)
    assert network.weight.grad is None


def test_muons_momentum_follows_its_warmup() -> None:
    network: Any = OneMatrix()
    optim = settings("muon", momentum_start=0.5, momentum=0.9, momentum_warmup=0.5)
    optimizers = make_optimizers(network, optim)
    network.weight.grad = torch.ones(6, 4)

    step(optimizers, network, optim, done=0.25, epochs=1)

    assert optimizers[0].param_groups[0]["momentum"] == pytest.approx(0.7)


def test_the_largest_gradient_is_clipped() -> None:
    network: Any = OneMatrix()
    optim = settings("adamw", grad_clip=0.5)
    optimizers = make_optimizers(network, optim)
    network.weight.grad = gradients(1)[0]

    step(optimizers, network, optim, 0.5, epochs=1)

    mean = optimizers[0].state[network.weight]["exp_avg"]  # a tenth of the first gradient
    assert mean.norm().item() == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize(
    "given",
    [
        {"muon_scale": "shape"},
        {"muon_iteration": "polar_express"},
        {"row_normalised": True},
        {"normuon": True},
        {"momentum": 0.5},
        {"momentum_warmup": 0.5},
        {"cautious_decay": "all"},
        {"weight_decay_multiplier": 0.0},
        {"decay_schedule": "rising"},
        {"schedule": "linear"},
        {"warmup": 0.5},
        {"cycle_epochs": 1},
    ],
    ids=lambda given: next(iter(given)),
)
def test_each_setting_of_muon_changes_what_it_learns(given: dict[str, Any]) -> None:
    plain = {"weight_decay_multiplier": 10 * DECAY}

    changed = trained(settings("muon", **{**plain, **given}), 4)

    assert not torch.allclose(changed, trained(settings("muon", **plain), 4), atol=1e-4)


@pytest.mark.parametrize("name", ["adamw", "lion", "soap", "magma", "schedule_free"])
@pytest.mark.parametrize("given", [{"beta1": 0.5}, {"beta2": 0.5}], ids=["beta1", "beta2"])
def test_betas_reach_every_optimizer_that_has_them(name: str, given: dict[str, Any]) -> None:
    plain = {"weight_decay_multiplier": 10 * DECAY}

    changed = trained(settings(name, **{**plain, **given}), 12)

    assert not torch.allclose(changed, trained(settings(name, **plain), 12), atol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "soap", "magma", "schedule_free"])
def test_eps_reaches_every_optimizer_that_has_it(name: str) -> None:
    changed = trained(settings(name, eps=0.5), 12)

    assert not torch.allclose(changed, trained(settings(name), 12), atol=1e-3)


@pytest.mark.parametrize("name", ["muon", "shampoo"])
def test_eps_reaches_the_adamw_beside_others(name: str) -> None:
    _, rest = make_optimizers(GPT(RICH, 50), OptimConfig(name=name, eps=1e-10))

    assert {group["eps"] for group in rest.param_groups} == {1e-10}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "schedule_free"])
def test_cautious_decay_is_none_where_the_update_grows_a_weight(name: str) -> None:
    """Each step of any optimizer is its step without decay, and then that of agreeing weights."""
    network: Any = OneMatrix()
    plain: Any = OneMatrix()
    cautious = settings(name, weight_decay_multiplier=10 * DECAY, cautious_decay="all")
    ours, theirs = make_optimizers(network, cautious), make_optimizers(plain, settings(name))
    kept = 0
    for number, gradient in enumerate(gradients(12)):
        was = network.weight.detach().clone()
        plain.weight.data.copy_(was)
        for each, optimizers, optim in (
            (network, ours, cautious),
            (plain, theirs, settings(name)),
        ):
            torch.manual_seed(number)  # Magma draws
            each.weight.grad = gradient.clone()
            step(optimizers, each, optim, (number + 1) / 12, epochs=1)
        shrinks = (plain.weight - was) * was <= 0
        kept += int((~shrinks).sum())
        expected = plain.weight - LR * DECAY * was * shrinks
        assert torch.allclose(network.weight, expected, atol=1e-6)

    assert kept > 20


def test_cautious_decay_shrinks_only_where_the_update_does() -> None:
    """Which is a plain step whose decay is left out elsewhere."""
    free = trained(settings("adamw"), 1).double()
    optim = settings("adamw", weight_decay_multiplier=10 * DECAY, cautious_decay="all")

    cautious = trained(optim, 1).double()

    shrinks = (free - start()) * start() <= 0
    assert 0 < shrinks.sum() < shrinks.numel()
    assert torch.allclose(cautious, free - LR * DECAY * start() * shrinks, atol=1e-6)


def rich(name: str = "muon", **given: Any) -> tuple[GPT, OptimConfig, dict[str, Tensor]]:
    """A network of drawn weights after one step on drawn gradients, and its weights before."""
    torch.manual_seed(0)
    gpt, optim = GPT(replace(RICH, head_mixing=True), vocabulary=50), settings(name, **given)
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter)
        parameter.grad = torch.randn_like(parameter)
    before = {name: parameter.detach().clone() for name, parameter in gpt.named_parameters()}
    step(make_optimizers(gpt, optim), gpt, optim, done=0.0, epochs=1)
    return gpt, optim, before


def test_cautious_decay_of_matrices_leaves_embedding_and_head_plain_decay() -> None:
    """As slowrun has it: its AdamW decays all of a weight, its Muon where the update agrees."""
    heavy = {"weight_decay_multiplier": 10 * DECAY}
    free, _, before = rich()
    cautious, _, _ = rich(cautious_decay="matrices", **heavy)
    weights = {name: parameter.detach() for name, parameter in cautious.named_parameters()}

    for name, parameter in free.named_parameters():
        was, now = before[name], parameter.detach()
        if name in ("embedding.weight", "head.weight"):
            assert torch.allclose(weights[name], now - LR * DECAY * was, atol=1e-5), name
        elif name.endswith(("expand.weight", "out.weight")):
            agrees = (now - was) * was <= 0
            assert torch.allclose(weights[name], now - LR * DECAY * was * agrees, atol=1e-5), name


@pytest.mark.parametrize("which", ["no", "value", "all"])
def test_gates_that_count_as_matrices_are_moved_by_muon_and_decay(which: str) -> None:
    """Muon makes an update of unit singular values of them, as slowrun does; AdamW one of signs."""
    gpt, optim, before = rich(gates_as_matrices=which, muon_scale="shape")
    as_matrices = {"no": [], "value": ["value_gate"], "all": ["value_gate", "head_gate"]}[which]
    groups = {
        id(p): group
        for optimizer in make_optimizers(gpt, replace(optim, weight_decay_multiplier=10.0))
        for group in optimizer.param_groups
        for p in group["params"]
    }

    for name, parameter in gpt.named_parameters():
        if "_gate." not in name:
            continue
        update = (before[name] - parameter.detach()) / LR
        if any(gate in name for gate in as_matrices):
            assert 0.3 < torch.linalg.svdvals(update).max() < 1.5, name
            assert groups[id(parameter)]["decay"] == 1.0
        else:
            assert torch.allclose(update.abs(), torch.ones_like(update), atol=1e-3), name
            assert groups[id(parameter)]["decay"] == 0.0


def test_kinds_of_parameters_can_have_betas_of_their_own() -> None:
    """Two steps of Adam by hand, for weights of x0 with slowrun's (0.96, 0.95)."""
    torch.manual_seed(0)
    gpt = GPT(RICH, vocabulary=50)
    optim = settings("muon", beta1=0.8, beta2=0.95, group_betas=("x0:0.96:0.95",), eps=1e-10)
    optimizers, drawn = make_optimizers(gpt, optim), torch.randn(2, 2, dtype=torch.float64)
    was = {name: p.detach().double().clone() for name, p in gpt.named_parameters()}

    def by_hand(weight: Tensor, beta1: float, beta2: float) -> Tensor:
        mean, square = torch.zeros(2).double(), torch.zeros(2).double()
        for t, gradient in enumerate(drawn, start=1):
            mean = beta1 * mean + (1 - beta1) * gradient
            square = beta2 * square + (1 - beta2) * gradient**2
            weight = weight - LR * mean / (1 - beta1**t) / (square / (1 - beta2**t)).sqrt()
        return weight

    for gradient in drawn:
        gpt.x0_scale_L.grad = gpt.input_scale_L.grad = gradient.float()
        step(optimizers, gpt, optim, done=0.0, epochs=1)

    x0, scale = gpt.x0_scale_L.detach().double(), gpt.input_scale_L.detach().double()
    assert torch.allclose(x0, by_hand(was["x0_scale_L"], 0.96, 0.95), atol=1e-6)
    assert torch.allclose(scale, by_hand(was["input_scale_L"], 0.8, 0.95), atol=1e-6)
    assert not torch.allclose(x0, by_hand(was["x0_scale_L"], 0.8, 0.95), atol=1e-4)


@pytest.mark.parametrize("name", ["adamw", "lion", "schedule_free", "muon"])
def test_betas_of_a_kind_reach_every_optimizer_that_has_them(name: str) -> None:
    optimizers = make_optimizers(
        GPT(RICH, vocabulary=50), settings(name, group_betas=("embedding:0.5:0.6",))
    )

    betas = {g["name"]: g["betas"] for o in optimizers for g in o.param_groups if "betas" in g}
    assert betas["embedding"] == (0.5, 0.6)
    assert betas["head"] == (0.9, 0.95)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("x1:0.9:0.9", "there is no kind 'x1', only embedding, head"),
        ("x0:0.9", "an entry is a kind and two numbers from 0 to below 1"),
        ("x0:0.9:1.5", "an entry is a kind and two numbers"),
        ("x0:1:0.9", "an entry is a kind and two numbers"),  # a mean that takes nothing in
        ("x0:0.9:0.9,x0:0.8:0.8", "x0 is there twice"),
    ],
)
def test_betas_of_no_kind_or_in_another_form_are_refused(given: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Config.from_settings({"optim.group_betas": given})


def test_the_embedding_can_be_left_undecayed() -> None:
    """Marin's recipes decay no embedding (Kim et al.)."""
    optim = OptimConfig(weight_decay_multiplier=10, embedding_decay=0.0)
    half = replace(optim, embedding_decay=0.5)

    for settings_, share in ((optim, 0.0), (half, 0.5)):
        groups = describe_groups(make_optimizers(GPT(RICH, 50), settings_))
        decays = {group.name: group.decay_per_step / group.lr for group in groups}
        assert decays["embedding"] == share
        assert decays["matrices"] == decays["head"] == 1.0


def test_mixes_of_heads_can_have_a_rate_of_their_own() -> None:
    gpt = GPT(replace(RICH, head_mixing=True), 50)
    groups = describe_groups(make_optimizers(gpt, OptimConfig(scalar_lr=0.5, mix_lr=0.02)))

    rates = {group.name: group.lr for group in groups}
    assert (rates["mixes"], rates["scalars"]) == (0.02, 0.5)


def adamw_formula(steps: int) -> Tensor:
    """Loshchilov and Hutter, 1711.05101."""
    weight, mean, square = start(), torch.zeros(6, 4).double(), torch.zeros(6, 4).double()
    for t, gradient in enumerate(gradients(steps), start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        weight = weight * (1 - LR * DECAY)
        weight -= LR * (mean / (1 - 0.9**t)) / ((square / (1 - 0.95**t)).sqrt() + 1e-8)
    return weight


def lion_formula(steps: int) -> Tensor:
    """Chen et al., 2302.06675."""
    weight, mean = start(), torch.zeros(6, 4).double()
    for gradient in gradients(steps):
        weight = weight * (1 - LR * DECAY) - LR * (0.9 * mean + 0.1 * gradient).sign()
        mean = 0.95 * mean + 0.05 * gradient
    return weight


def schedule_free_formula(steps: int) -> Tensor:
    """Defazio et al., 2405.15682: gradients are taken at y, decay too; x is the answer."""
    x = z = start()
    square = torch.zeros(6, 4).double()
    for t, gradient in enumerate(gradients(steps), start=1):
        y = 0.1 * z + 0.9 * x
        square = 0.95 * square + 0.05 * gradient**2
        scaled = gradient / ((square / (1 - 0.95**t)).sqrt() + 1e-8)
        z = z - LR * (scaled + DECAY * y)
        x = x + (z - x) / t
    return x


def shampoo_formula(steps: int) -> Tensor:
    """Gupta et al., 1802.09568: inverse fourth roots, renewed every tenth step."""
    weight = start()
    left, right = (1e-6 * torch.eye(n).double() for n in (6, 4))
    left_root, right_root = torch.zeros(6, 6).double(), torch.zeros(4, 4).double()
    for t, gradient in enumerate(gradients(steps), start=1):
        g = gradient.double()
        left, right = left + g @ g.T, right + g.T @ g
        if t % 10 == 0:
            left_root, right_root = (power(m, -0.25) for m in (left, right))
        weight = weight * (1 - LR * DECAY) - LR * left_root @ g @ right_root
    return weight


def power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**exponent) @ vectors.T


@pytest.mark.parametrize(
    ("name", "formula", "steps", "tolerance"),
    [
        ("adamw", adamw_formula, 12, 1e-5),
        ("lion", lion_formula, 12, 1e-5),
        ("schedule_free", schedule_free_formula, 12, 1e-5),
        ("shampoo", shampoo_formula, 15, 1e-3),
    ],
)
def test_an_optimizer_follows_its_authors_formula(
    name: str, formula: Any, steps: int, tolerance: float
) -> None:
    expected = formula(steps)

    found = trained(settings(name, weight_decay_multiplier=10 * DECAY), steps).double()

    moved = (expected - start()).norm()
    assert moved > 0.05
    assert (found - expected).norm() < tolerance * moved


def test_soap_is_adam_in_the_eigenbasis_of_shampoo() -> None:
    """Vyas et al., 2409.11321, through two renewals of the basis, which the first gradient begins.

    Square here: of a matrix that is not, part of the first basis would be arbitrary.
    """
    drawn = [g.double() for g in gradients(25, (4, 4))]
    weight = start_of = OneMatrix(4, 4).weight.detach().double()
    mean, square = torch.zeros(4, 4).double(), torch.zeros(4, 4).double()
    left, right = 0.05 * drawn[0] @ drawn[0].T, 0.05 * drawn[0].T @ drawn[0]
    left_basis, right_basis = (torch.linalg.eigh(m)[1] for m in (left, right))
    weight = weight * (1 - LR * DECAY)
    for t, gradient in enumerate(drawn[1:], start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.95 * square + 0.05 * (left_basis.T @ gradient @ right_basis) ** 2
        inside = (left_basis.T @ mean @ right_basis) / (1 - 0.9**t)
        inside = inside / ((square / (1 - 0.95**t)).sqrt() + 1e-8)
        weight = weight * (1 - LR * DECAY) - LR * left_basis @ inside @ right_basis.T
        left = 0.95 * left + 0.05 * gradient @ gradient.T
        right = 0.95 * right + 0.05 * gradient.T @ gradient
        if t % 10 == 0:
            left_basis, rows = renewed(left, left_basis)
            right_basis, columns = renewed(right, right_basis)
            square = square[rows][:, columns]

    found = trained(settings("soap", weight_decay_multiplier=10 * DECAY), 25, (4, 4)).double()

    assert (found - weight).norm() < 1e-3 * (weight - start_of).norm()


def renewed(matrix: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """One power iteration, the largest direction first; and where each direction was before."""
    order = (basis * (matrix @ basis)).sum(0).argsort(descending=True)
    return torch.linalg.qr(matrix @ basis[:, order])[0], order


def test_magma_takes_part_of_adamws_steps() -> None:
    """A step is left out or taken in part, by how gradient and momentum agree."""
    network: Any = OneMatrix()
    optim = settings("magma")
    plain: Any = OneMatrix()
    reference = torch.optim.AdamW(plain.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.0)
    optimizers = make_optimizers(network, optim)
    alignment, shares = 1.0, []
    torch.manual_seed(5)
    for number, gradient in enumerate(gradients(12)):
        was = network.weight.detach().clone()
        plain.weight.data.copy_(was)
        network.weight.grad, plain.weight.grad = gradient.clone(), gradient.clone()
        step(optimizers, network, optim, (number + 1) / 12, epochs=1)
        reference.step()
        momentum = reference.state[plain.weight]["exp_avg"]
        cosine = torch.cosine_similarity(momentum.flatten(), gradient.flatten(), dim=0).item()
        alignment = 0.9 * alignment + 0.1 / (1 + 2.718281828 ** (-cosine / 2))
        share = ((network.weight - was).norm() / (plain.weight - was).norm()).item()
        shares.append(share)
        assert share == pytest.approx(0, abs=1e-4) or share == pytest.approx(alignment, abs=1e-3)

    assert 2 < sum(share > 0.1 for share in shares) < 10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("already", [1, 2, 11])
def test_a_restored_optimizer_goes_on_bit_for_bit(name: str, already: int) -> None:
    optim = settings(
        name, weight_decay_multiplier=5, normuon=True, momentum_warmup=0.5, schedule="cosine"
    )
    drawn = gradients(14)

    def advance(network: Any, optimizers: Any, steps: range) -> None:
        for number in steps:
            torch.manual_seed(number)  # Magma draws
            network.weight.grad = drawn[number].clone()
            step(optimizers, network, optim, (number + 1) / 14, epochs=1)

    whole: Any = OneMatrix()
    first = make_optimizers(whole, optim)
    advance(whole, first, range(already))
    saved, weights = state_tree(first), whole.weight.detach().clone()
    saved = _copied(saved)
    advance(whole, first, range(already, 14))

    continued: Any = OneMatrix()
    continued.weight.data.copy_(weights)
    second = make_optimizers(continued, optim)
    load_state_tree(second, saved)
    advance(continued, second, range(already, 14))

    assert torch.equal(whole.weight, continued.weight)


def test_matrices_come_back_as_they_lay_in_memory() -> None:
    """SOAP's bases lie by columns. Products with a copy by rows rounded otherwise at some sizes."""
    optim = settings("soap")
    network: Any = OneMatrix()
    before, after = make_optimizers(network, optim), make_optimizers(network, optim)
    network.weight.grad = gradients(1)[0]
    step(before, network, optim, 0.5, epochs=1)
    tree = _copied(state_tree(before))

    load_state_tree(after, tree)

    bases = [optimizer.state[network.weight]["Q"] for (optimizer,) in (before, after)]
    for was, now in zip(*bases, strict=True):
        assert was.stride() == (1, len(was))
        assert now.stride() == was.stride()
        assert torch.equal(now, was)


def _copied(tree: Any) -> Any:
    """As a checkpoint would bring it back; fails on what it cannot write."""
    if isinstance(tree, dict):
        assert all(isinstance(key, str) for key in tree)
        return {key: _copied(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_copied(value) for value in tree]
    assert tree is None or isinstance(tree, Tensor | bool | int | float | str), type(tree)
    if not isinstance(tree, Tensor):
        return tree
    # A file keeps tensors by rows, and gives them back at addresses that are multiples of nothing.
    apart = torch.empty(tree.numel() + 1, dtype=tree.dtype)[1:].view(tree.shape)
    return apart.copy_(tree)


def test_looking_at_the_average_leaves_training_as_it_was() -> None:
    """Of schedule_free, whose own way there and back rounds."""
    network: Any = OneMatrix()
    optim = settings("schedule_free")
    optimizers = make_optimizers(network, optim)
    for gradient in gradients(3):
        network.weight.grad = gradient.clone()
        step(optimizers, network, optim, 0.5, epochs=1)
    before = network.weight.detach().clone()

    with swap_in_averages(optimizers):
        inside = network.weight.detach().clone()

    assert torch.equal(network.weight, before)
    assert not torch.allclose(inside, before)
    assert optimizers[0].param_groups[0]["train_mode"]


def test_adamw_moves_weights_as_torchs_own_does_bit_for_bit() -> None:
    moved = []
    for kind in (AdamW, torch.optim.AdamW):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(8, 4))
        optimizer = kind([weight], lr=0.1, weight_decay=0.1, fused=True)
        for _ in range(5):
            optimizer.zero_grad()
            (weight**4).sum().backward()
            optimizer.step()
        moved.append((weight.detach(), optimizer.state_dict()["state"][0]["exp_avg_sq"]))

    for ours, theirs in zip(*moved, strict=True):
        assert torch.equal(ours, theirs)
