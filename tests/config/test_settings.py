"""Every setting, tried away from its default: it trains, and it changes what training does."""

from __future__ import annotations

import math
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from sweeps import write_texts

from model.config.config import SETTINGS, Config
from model.config.presets import PRESETS
from model.progress import Progress
from model.training.train import train

# What shows nowhere in the losses, and where it is tested instead.
SHOWN_ELSEWHERE = {
    "data.path",  # test_data
    "data.tokenizer",  # test_data, test_tokenizer
    "data.column",  # test_prepare
    "data.pool_tokens",  # how far is read, not what is trained on: test_remote
    "data.reference",  # test_order
    "data.test_tokens",  # read once the search is over
    "data.digest",  # test_data
    "train.device",  # there is one device
    "train.compile",  # below
    "train.log_probs",  # test_train
    "train.teacher",  # test_teacher, with its weight and temperature
    "train.teacher_weight",
    "train.teacher_temperature",
    "train.micro_batch_tokens",  # changes nothing but rounding: test_train
    "gpt.init",  # test_hugging_face, with its digest
    "gpt.init_digest",
    "gpt.context",  # below, with a batch that fits
}
WINDOWED = {"gpt.context": 8, "gpt.context_vector": True}
MUON = {"optim.name": "muon"}
VALUES = {"gpt.value_residual": "projection"}
REPLAY = {"gpt.replay_passes": 1, "gpt.replay_start": 0.0, "gpt.replay_last": 1.0}
WHOLE_REPLAY = {**REPLAY, "gpt.replay_first": 0.0, "gpt.x0": True}
PIECES = {"optim.decay_schedule": "piecewise", "optim.decay_points": "0:1,1:0"}
HEAVY = {"optim.weight_decay_multiplier": 100.0}
AVERAGED = {"train.average_last": 2, "train.evaluate": "weights"}
CYCLIC = {"optim.schedule": "cyclic", "optim.warmup": 0.0}
TWO_CYCLES = {**CYCLIC, "optim.cycles": 2}
ENDS = {"train.evaluate": "probabilities"}
# Setting, value, and what else must be set for it to matter.
AWAY: list[tuple[str, Any, dict[str, Any]]] = [
    ("data.train_tokens", 1025, {}),
    ("data.val_tokens", 513, {}),
    ("data.splits", "stream", {}),
    ("data.vocabulary", 300, {"data.tokenizer": "bpe"}),
    ("data.curriculum", "shortest", {}),
    ("data.curriculum", "compression", {}),
    ("data.curriculum_epochs", 2, {"data.curriculum": "compression"}),
    ("gpt.layers", 3, {}),
    ("gpt.width", 32, {}),
    ("gpt.head_width", 16, {}),
    ("gpt.scale", 4.0, {}),
    ("gpt.embedding_norm", False, {}),
    ("gpt.norm", "layer", {}),
    ("gpt.bias", True, {}),
    ("gpt.positions", "half_rotary", {}),
    ("gpt.positions", "learned", {}),
    ("gpt.qk_norm", False, {}),
    ("gpt.queries_per_kv", 2, {}),
    ("gpt.windows", "SL", {}),
    ("gpt.short_window", 0.2, {"gpt.windows": "SL"}),
    ("gpt.document_mask", True, {}),
    ("gpt.context_vector", True, {"gpt.context": 8, "gpt.context_windows": 4}),
    ("gpt.context_windows", 8, {**WINDOWED, "gpt.context_windows": 4}),
    ("gpt.key_offset", "unturned", {"gpt.positions": "half_rotary"}),
    ("gpt.key_offset", "second_half", {"gpt.positions": "half_rotary"}),
    ("gpt.head_gates", True, {}),
    ("gpt.head_mixing", True, {}),
    ("gpt.exclusive", "fixed", {}),
    ("gpt.exclusive", "learned", {}),
    ("gpt.value_residual", "table", {}),
    ("gpt.value_residual", "projection", {}),
    ("gpt.mlp", "gelu", {}),
    ("gpt.mlp", "gelu_tanh", {}),
    ("gpt.mlp", "relu", {}),
    ("gpt.mlp", "swiglu", {}),
    ("gpt.mlp_expansion", 2.0, {}),
    ("gpt.mlp_multiple", 96, {}),
    ("gpt.heads_by_layer", "1 0", {}),
    ("gpt.units_by_layer", "0 24", {}),
    ("gpt.input_init", "uniform", {}),
    ("gpt.input_init", "gpt2", {}),
    ("gpt.output_init", "normal", {}),
    ("gpt.output_init", "gpt2", {}),
    ("gpt.head_init", 0.01, {}),
    ("gpt.x0", True, {}),
    ("gpt.residual_init", 1.5, {"gpt.x0": True}),
    ("gpt.unet", True, {}),
    ("gpt.replay_passes", 1, {**REPLAY, "gpt.replay_passes": 2}),
    ("gpt.replay_first", 0.0, REPLAY),
    ("gpt.replay_last", 0.5, {**REPLAY, "gpt.replay_first": 0.0}),
    ("gpt.replay_start", 0.5, REPLAY),
    ("gpt.replay_gradient", False, WHOLE_REPLAY),
    ("gpt.tied_head", True, {}),
    ("gpt.softcap", 1.0, {}),
    ("gpt.dropout", 0.3, {}),
    ("gpt.dropout_on", "mlp", {"gpt.dropout": 0.3}),
    ("gpt.dropout_on", "all", {"gpt.dropout": 0.3}),
    ("gpt.stochastic_depth", 0.9, {}),
    ("gpt.mtp", "offsets", {}),
    ("gpt.mtp", "block", {}),
    ("gpt.mtp_weight", 1.0, {"gpt.mtp": "offsets"}),
    ("gpt.mtp_until", 0.2, {"gpt.mtp": "offsets"}),
    *[("optim.name", name, {}) for name in SETTINGS["optim.name"].choices[1:]],
    ("optim.lr", 0.01, {}),
    ("optim.rest_lr", 0.02, MUON),
    ("optim.embedding_lr", 0.02, {}),
    ("optim.head_lr", 0.02, {}),
    ("optim.scalar_lr", 0.02, {"gpt.x0": True}),
    ("optim.residual_lr", 0.02, {"gpt.x0": True}),
    ("optim.mix_lr", 0.02, {"gpt.head_mixing": True}),
    ("optim.gates_as_matrices", "value", {**MUON, **VALUES}),
    ("optim.gates_as_matrices", "all", {**MUON, "gpt.head_gates": True}),
    ("optim.weight_decay_multiplier", 100.0, {}),
    ("optim.decay_timescale", 0.2, {}),
    ("optim.decay_schedule", "piecewise", {**HEAVY, "optim.decay_points": "0:1,1:0"}),
    ("optim.decay_schedule", "rising", HEAVY),
    ("optim.decay_points", "0:1,1:5", {**HEAVY, **PIECES}),
    ("optim.decay_low", 0.0, {**HEAVY, "optim.decay_schedule": "rising"}),
    ("optim.embedding_decay", 0.0, HEAVY),
    ("optim.cautious_decay", "matrices", HEAVY),
    ("optim.cautious_decay", "all", HEAVY),
    ("optim.momentum", 0.5, MUON),
    ("optim.momentum_start", 0.1, {**MUON, "optim.momentum_warmup": 0.9}),
    ("optim.momentum_warmup", 0.9, MUON),
    ("optim.muon_scale", "shape", MUON),
    ("optim.muon_iteration", "polar_express", MUON),
    ("optim.row_normalised", True, MUON),
    ("optim.normuon", True, MUON),
    ("optim.beta1", 0.5, {}),
    ("optim.beta2", 0.5, {}),
    ("optim.group_betas", "embedding:0.5:0.5", {}),
    ("optim.eps", 0.01, {}),
    *[("optim.schedule", name, {}) for name in SETTINGS["optim.schedule"].choices[1:]],
    ("optim.warmup", 0.5, {}),
    ("optim.warmup_epochs", 0.5, {}),
    ("optim.warmdown", 0.8, {"optim.schedule": "constant_linear"}),
    ("optim.final_rate", 0.5, {}),
    ("optim.cycle_epochs", 1, {}),
    ("optim.cycles", 2, CYCLIC),
    ("optim.cycle_noise", 0.1, TWO_CYCLES),
    ("optim.cycle_noise_last", 0.1, {**TWO_CYCLES, "train.epochs": 3, "optim.cycles": 3}),
    ("optim.grad_clip", 0.01, {"optim.name": "shampoo", "optim.lr": 0.1}),
    ("train.epochs", 3, {}),
    ("train.batch_tokens", 512, {}),
    ("train.meta_step", 0.5, {}),
    ("train.meta_schedule", "rate", {"train.meta_step": 0.5}),
    ("train.meta_on", "mlp", {"train.meta_step": 0.5}),
    ("train.meta_parts", 2, {"train.meta_step": 0.5}),
    ("train.shuffle", "no", {}),
    ("train.shuffle", "documents", {}),
    ("train.shuffle", "offsets", {}),
    ("train.evals", 2, {}),
    ("train.evaluate", "ema", {"train.ema_epochs": 0.5}),
    ("train.evaluate", "probabilities", AVERAGED),
    ("train.ema_epochs", 0.1, {"train.ema_epochs": 0.5, "train.evaluate": "ema"}),
    ("train.average_last", 1, AVERAGED),
    ("train.average_cycles", 1, {**TWO_CYCLES, **ENDS, "train.average_cycles": 2}),
    ("train.chain_after", 1, TWO_CYCLES),
    ("train.average_recency", True, AVERAGED),
    ("train.seed", 1, {}),
    ("train.data_seed", 1, {}),
    ("train.members", 2, {}),
    ("train.precision", "bf16", {}),
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("settings") / "texts")


def plain(texts: Path) -> dict[str, Any]:
    return {
        "data.path": str(texts),
        "data.train_tokens": 2049,
        "data.val_tokens": 257,
        "data.test_tokens": 257,
        "gpt.layers": 2,
        "gpt.width": 16,
        "gpt.head_width": 8,
        "gpt.context": 32,
        "optim.lr": 0.005,
        "train.batch_tokens": 256,
        "train.epochs": 2,
        "train.evals": 1,
        "train.device": "cpu",
        "train.precision": "fp32",
        "train.compile": "no",
    }


@cache
def outcome(settings: tuple[tuple[str, Any], ...]) -> tuple[Progress, ...]:
    with TemporaryDirectory() as folder:
        return tuple(train(Config.from_settings(dict(settings)), Path(folder)))


def test_no_setting_is_left_untried() -> None:
    assert {name for name, _, _ in AWAY} | SHOWN_ELSEWHERE == set(SETTINGS)


@pytest.mark.parametrize(("name", "value", "besides"), AWAY, ids=[f"{n}={v}" for n, v, _ in AWAY])
def test_a_setting_away_from_its_default_trains_and_counts(
    name: str, value: Any, besides: dict[str, Any], texts: Path
) -> None:
    base = {**plain(texts), **besides}

    before, after = (outcome(tuple(s.items())) for s in (base, {**base, name: value}))

    assert all(math.isfinite(p.val_loss) for p in (*before, *after))
    assert after[-1].val_loss != before[-1].val_loss or len(after) != len(before)


def test_another_context_trains(texts: Path) -> None:
    outcomes = [outcome(tuple((plain(texts) | {"gpt.context": c}).items())) for c in (32, 64)]

    assert outcomes[0][-1].val_loss != outcomes[1][-1].val_loss


def assert_compiled_training_comes_to_the_same(settings: dict[str, Any], folder: Path) -> None:
    eager, compiled = (
        list(train(Config.from_settings({**settings, "train.compile": value}), folder / value))
        for value in ("no", "yes")
    )

    for a, b in zip(eager, compiled, strict=True):
        assert b.val_loss == pytest.approx(a.val_loss, abs=1e-3)
        assert b.train_loss == pytest.approx(a.train_loss, abs=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_compiled_training_comes_to_the_same(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With replay that begins midway: the compiler sees two networks.

    What it sees and traces of them is ours to get right; machine code takes a minute to make.
    """
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    settings = {
        **plain(texts),
        **REPLAY,
        "gpt.replay_start": 0.5,
        "gpt.windows": "SL",
        "gpt.mtp": "offsets",
        "gpt.x0": True,
        "train.evals": 2,
    }

    assert_compiled_training_comes_to_the_same(settings, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_training_in_machine_code_comes_to_the_same(texts: Path, tmp_path: Path) -> None:
    assert_compiled_training_comes_to_the_same({**plain(texts), "gpt.layers": 1}, tmp_path)


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("cpu-")])
def test_a_preset_for_the_cpu_trains(name: str, texts: Path) -> None:
    kept = (
        "data.",
        "gpt.layers",
        "gpt.width",
        "gpt.context",
        "train.batch",
        "train.ep",
        "train.ev",
    )
    small = {key: v for key, v in plain(texts).items() if key.startswith(kept)}
    settings = {**PRESETS[name].settings, **small, "train.device": "cpu"}

    run = outcome(tuple((key, v) for key, v in settings.items()))

    assert math.isfinite(run[-1].val_loss)


def test_slowruns_tiny_recipe_trains_at_a_small_size(texts: Path) -> None:
    """Everything it turns on, together: only sizes, data and length are ours."""
    small = {
        **{k: v for k, v in plain(texts).items() if k.startswith("data.")},
        "data.tokenizer": "bytes",
        "gpt.layers": 4,
        "gpt.width": 32,
        "gpt.head_width": 16,
        "gpt.context": 32,
        "train.batch_tokens": 512,
        "train.micro_batch_tokens": 256,
        "train.epochs": 6,
        "train.evals": 6,
        "train.device": "cpu",
        "train.precision": "fp32",
    }
    settings = {**PRESETS["slowrun-tiny"].settings, **small}
    settings = {k: ",".join(v) if isinstance(v, tuple) else v for k, v in settings.items()}

    run = outcome(tuple(settings.items()))

    assert run[-1].done
    assert run[-1].val_loss < run[0].val_loss < math.log(257)
    assert run[-1].val_loss == run[-1].weights_loss
    assert run[-1].weights_loss is not None
