"""Presets: sizes as published, settings that fit together, counts that are the network's own."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.config.config import MULTIPLIER, Config, GPTConfig
from model.config.data import VOCABULARIES
from model.config.presets import (
    PRESETS,
    TIMESCALE,
    overridden,
    preset,
)
from model.config.setting import ConfigError
from model.config.size import block_parameters, parameters, scaled
from model.network.gpt import GPT, VOCABULARY_MULTIPLE
from model.optim.optimizers import make_optimizers
from model.optim.schedule import decay
from model.training.meta_step import meta_matrices

# Names, not counts: Marin's Llamas are called by a round size near theirs, as GPT-2 medium is; and
# GPT-2 XL by its size with biases, which nanoGPT trains without.
ROUND_NAMES = {"gpt2-350m", "gpt2-1.5b", "kim-150m", "kim-300m", "kim-600m", "kim-1.4b"}
# Counted by nanoGPT, which leaves learned positions out.
WITHOUT_POSITIONS = {"nanogpt-char", "nanogpt-char-cpu", "picogpt"}
# Counted elsewhere to the last parameter: GPT-2 as Hugging Face has it, without its biases;
# Marin's Llamas by the sum in its experiments/llama.py, whose norms have two gains a layer that
# ours have not.
BIASES = 3 + 1 + 4 + 1 + 2  # widths a layer: queries to values, out, MLP in and out, two norms
EXACT = {
    "gpt2-124m": 124_439_808 - BIASES * 12 * 768 - 768,
    "gpt2-350m": 354_823_168 - BIASES * 24 * 1024 - 1024,
    "gpt2-774m": 774_030_080 - BIASES * 36 * 1280 - 1280,
    "gpt2-1.5b": 1_557_611_200 - BIASES * 48 * 1600 - 1600,
    "kim-150m": 154_146_816 - 6 * 2 * 512,
    "kim-300m": 299_649_024 - 12 * 2 * 768,
    "kim-600m": 602_456_064 - 24 * 2 * 1024,
    "kim-1.4b": 1_431_371_776 - 16 * 2 * 2048,
}
PADDED = re.compile(r"(embedding|head|value_tables\.\d+)\.weight")
names = pytest.mark.parametrize("name", PRESETS)


def config_of(name: str) -> Config:
    return Config.from_settings(PRESETS[name].settings)


def built_parameters(gpt: GPTConfig, vocabulary: int) -> int:
    """Of the real network, without the rows that pad its vocabulary."""
    with torch.device("meta"):
        network = GPT(gpt, vocabulary)
    unused = -vocabulary % VOCABULARY_MULTIPLE
    return sum(
        p.numel() - (unused * p.shape[1] if PADDED.match(name) else 0)
        for name, p in network.named_parameters()
    )


@pytest.mark.parametrize("name", [name for name, about in PRESETS.items() if about.published])
def test_a_preset_has_as_many_parameters_as_published(name: str) -> None:
    gpt, published = config_of(name).gpt, PRESETS[name].published
    count = parameters(gpt, PRESETS[name].vocabulary)
    count -= gpt.places * gpt.width if name in WITHOUT_POSITIONS else 0

    digits, unit = published[:-1], {"M": 1e6, "B": 1e9}[published[-1]]

    if name in ROUND_NAMES:
        assert count == pytest.approx(float(digits) * unit, rel=0.03)
    else:
        decimals = len(digits.partition(".")[2])
        assert f"{count / unit:.{decimals}f}" == digits


@pytest.mark.parametrize("name", EXACT)
def test_a_preset_counts_to_the_last_parameter_what_others_count(name: str) -> None:
    assert parameters(config_of(name).gpt, PRESETS[name].vocabulary) == EXACT[name]


@names
def test_the_count_without_a_network_is_that_of_the_network(name: str) -> None:
    gpt, vocabulary = config_of(name).gpt, PRESETS[name].vocabulary

    assert built_parameters(gpt, vocabulary) == parameters(gpt, vocabulary)


VARIANTS = [
    {"norm": "layer"},
    {"norm": "layer", "bias": True},
    {"bias": True, "mlp": "swiglu"},
    {"positions": "learned"},
    {"positions": "learned", "context_vector": True, "mtp": "block"},
    {"positions": "half_rotary", "key_offset": "second_half"},
    {"qk_norm": False, "embedding_norm": False},
    {"queries_per_kv": 2},
    {"queries_per_kv": 4, "bias": True},
    {"head_gates": True},
    {"head_mixing": True, "queries_per_kv": 2},
    {"exclusive": "fixed"},
    {"exclusive": "learned"},
    {"value_residual": "table", "queries_per_kv": 2},
    {"value_residual": "projection"},
    {"value_residual": "projection", "layers": 3, "queries_per_kv": 2},
    {"mlp": "swiglu", "mlp_expansion": 8 / 3, "mlp_multiple": 24},
    {"mlp": "gelu", "mlp_expansion": 1.1},
    {"mlp": "relu", "mlp_multiple": 100},
    {"x0": True},
    {"unet": True, "layers": 5},
    {"tied_head": True},
    {"tied_head": True, "positions": "learned", "value_residual": "table"},
    {"mtp": "offsets"},
    {"mtp": "block"},
    {"mtp": "block", "norm": "layer", "bias": True, "queries_per_kv": 2, "head_mixing": True},
    {"width": 8, "head_width": 4, "head_gates": True, "value_residual": "projection"},
    {"replay_passes": 2, "layers": 6, "x0": True, "stochastic_depth": 0.1, "windows": "SL"},
    {"scale": 3.0, "head_gates": True, "value_residual": "projection", "x0": True},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: " ".join(map(str, v.values())))
@pytest.mark.parametrize("vocabulary", [64, 257])
def test_every_technique_is_counted_as_it_is_built(
    variant: dict[str, object], vocabulary: int
) -> None:
    gpt = replace(GPTConfig(layers=4, width=64, head_width=8), **variant)

    assert built_parameters(gpt, vocabulary) == parameters(scaled(gpt), vocabulary)


@names
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_every_preset_scales_by_what_is_asked(name: str, scale: float) -> None:
    gpt = config_of(name).gpt

    shape = scaled(replace(gpt, scale=scale))

    assert block_parameters(shape) == pytest.approx(scale * block_parameters(gpt), rel=0.1)
    assert shape.width / shape.layers == pytest.approx(gpt.width / gpt.layers, rel=0.2)


@names
def test_every_preset_is_cited_and_its_settings_fit_together(name: str) -> None:
    about = PRESETS[name]

    assert about.source
    assert about.reproduces
    assert config_of(name).settings().items() >= about.settings.items()


@names
def test_a_preset_names_no_setting_that_only_this_machine_or_run_decides(name: str) -> None:
    own = re.compile(r"data\.(path|digest)|train\.(seed|data_seed|device|precision|compile)")

    assert not [setting for setting in PRESETS[name].settings if own.fullmatch(setting)]


def test_the_record_of_the_tiny_track_is_spelled_out() -> None:
    """Rates, decay, epochs and averages as PR 94, 99 and the scripts before have them."""
    config = config_of("slowrun-tiny")
    optim, train = config.optim, config.train

    assert config.steps == 2850
    assert optim.weight_decay == pytest.approx(0.8)
    assert [
        (round(at * train.epochs, 3), multiple * optim.weight_decay)
        for at, multiple in optim.decay_curve
    ] == [(2, pytest.approx(0.8)), (8, pytest.approx(0.1)), (15, pytest.approx(0.93))]
    assert optim.momentum_warmup * config.steps == pytest.approx(300)
    rates = (optim.lr, optim.embedding_lr, optim.head_lr, optim.scalar_lr, optim.residual_lr)
    assert rates == (0.032, 0.12, 0.0008, 0.2, 0.002)
    assert math.exp(-1 / train.ema_epochs) == pytest.approx(0.15, rel=1e-3)
    assert [config.gpt.window(layer) for layer in (0, 2, 3, 15)] == [1024, 1024, 2048, 2048]
    assert config.gpt.hidden == 2816


SLOWRUN = [
    # kind of parameter, optimizer, decay, betas; then the peak rate in each track
    ("matrices", "Muon", True, None),
    ("embedding", "AdamW", True, (0.8, 0.95)),
    ("head", "AdamW", True, (0.8, 0.95)),
    ("residual", "AdamW", False, (0.8, 0.95)),
    ("x0", "AdamW", False, (0.96, 0.95)),
]
TRACKS = {
    "slowrun-tiny": {
        "rates": (0.032, 0.12, 0.0008, 0.002, 0.2),
        "gates": {"value_gate": "Muon", "head_gate": "AdamW"},
        "others": [
            ("head_gates", 0.2, (0.9, 0.99)),
            ("exclusions", 0.2, (0.9, 0.95)),
        ],
    },
    "slowrun-day-one": {
        "rates": (0.02, 0.075, 0.001, 0.00125, 0.125),
        "gates": {"value_gate": "Muon"},
        "others": [],
    },
    **{
        name: {
            "rates": (0.01, 0.0375, 0.0005, 0.00025, 0.025),
            "gates": {"value_gate": "Muon", "head_gate": "Muon"},
            "others": [("mixes", 0.02, (0.8, 0.95))],
        }
        for name in ("slowrun-one-hour", "slowrun-two-hour", "slowrun-unlimited")
    },
}


@pytest.mark.parametrize("name", TRACKS)
def test_a_slowrun_preset_trains_each_kind_of_parameter_as_its_record(name: str) -> None:
    """Groups of its setup_optimizer: optimizer, rate, decay, betas; cautious in its Muon alone."""
    config, track = config_of(name), TRACKS[name]
    with torch.device("meta"):
        gpt = GPT(config.gpt, 64)
    made = make_optimizers(gpt, config.optim)
    groups = {
        group["name"].partition(" ")[0]: (type(optimizer).__name__, group)
        for optimizer in made
        for group in optimizer.param_groups
    }
    where = {
        id(p): type(optimizer).__name__
        for optimizer in made
        for group in optimizer.param_groups
        for p in group["params"]
    }

    for (kind, optimizer, decays, betas), peak in zip(SLOWRUN, track["rates"], strict=True):
        used, group = groups.pop(kind)
        assert (used, group.get("betas")) == (optimizer, betas), kind
        assert group["peak_lr"] / group["lr_scale"] == pytest.approx(peak), kind
        assert group["decay"] == (config.optim.weight_decay if decays else 0.0), kind
        assert group["cautious_decay"] == (kind == "matrices"), kind
    for kind, peak, betas in track["others"]:
        used, group = groups.pop(kind)
        assert (used, group["decay"], group["betas"]) == ("AdamW", 0.0, betas), kind
        assert group["peak_lr"] == pytest.approx(peak), kind
    assert not groups
    gates = {n.split(".")[-2]: where[id(p)] for n, p in gpt.named_parameters() if "_gate." in n}
    assert gates == track["gates"]


def test_our_own_tiny_recipe_differs_from_the_record_in_two_settings() -> None:
    ours, record = (config_of(name).settings() for name in ("sweep-tiny", "slowrun-tiny"))

    differ = {name: (record[name], value) for name, value in ours.items() if value != record[name]}

    assert differ == {
        "gpt.key_offset": ("second_half", "unturned"),
        "optim.cautious_decay": ("matrices", "all"),
    }


def test_kims_recipes_decay_no_embedding_and_keep_documents_apart() -> None:
    for name in (name for name in PRESETS if name.startswith("kim-")):
        config = config_of(name)
        assert config.gpt.document_mask
        assert config.optim.embedding_decay == 0


@pytest.mark.parametrize(
    "name", [name for name in PRESETS if "Whole epochs" in PRESETS[name].notes]
)
def test_notes_tell_how_many_steps_a_preset_takes(name: str) -> None:
    assert f"Whole epochs: {config_of(name).steps:,} steps, not" in PRESETS[name].notes


def test_the_hour_tracks_replay_and_raise_decay_when_they_say() -> None:
    hour, two = config_of("slowrun-one-hour"), config_of("slowrun-two-hour")

    assert list(hour.gpt.replayed) == [15, 16, 17, 18, 19, 20]
    assert list(config_of("slowrun-unlimited").gpt.replayed) == list(range(15, 25))
    assert [hour.gpt.is_replaying(done) for done in (5.9 / 11, 6.1 / 11)] == [False, True]
    assert [two.gpt.is_replaying(done) for done in (12.9 / 22, 13.1 / 22)] == [False, True]
    for config in (hour, two):
        epochs, cycles = config.train.epochs, config.optim.cycle_epochs

        def at(epoch: float, config: Config = config) -> float:
            return decay(config.optim, epoch / config.train.epochs, config.train.epochs)

        assert at(0) == at(0.4 * epochs) == 1
        assert at(epochs - cycles) == pytest.approx(0.65, rel=1e-4)
        for end in range(epochs - cycles + 1, epochs + 1):
            assert [at(end - 1), at(end - 0.5), at(end - 5e-3)] == pytest.approx(
                [0.65, 1.075, 1.5], rel=4e-3
            )


def test_an_unknown_preset_is_told_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="slowrun-tny: no such preset; did you mean slowrun-tiny"):
        preset("slowrun-tny")
    with pytest.raises(ConfigError, match="`sweep presets` lists them"):
        preset("xyz")


def test_decay_given_as_a_timescale_replaces_the_presets_multiplier_and_back() -> None:
    settings = PRESETS["slowrun-tiny"].settings

    by_timescale = Config.from_settings(overridden(settings, {TIMESCALE: 0.5}))
    by_multiplier = Config.from_settings(overridden({TIMESCALE: 0.5}, {MULTIPLIER: 3}))

    assert by_timescale.optim.decay_timescale == 0.5
    assert by_timescale.optim.weight_decay_multiplier == pytest.approx(1 / (0.5 * 0.0032 * 190))
    assert by_multiplier.optim.weight_decay_multiplier == 3


def test_vocabularies_are_those_of_the_tokenizers() -> None:
    from model.data.tokenizer import get_tokenizer

    assert VOCABULARIES["bytes"] == get_tokenizer("bytes").vocabulary
    assert Config.from_settings({"data.tokenizer": "bpe"}).data.token_kinds == 4096


@names
def test_the_page_of_the_trainer_names_every_preset(name: str) -> None:
    assert f"`{name}`" in (Path(__file__).parents[2] / "docs/trainer.md").read_text()


@pytest.mark.parametrize(
    ("name", "tensors", "millions", "schedule"),
    [("slowrun-one-hour", 279, 1260, "rate"), ("slowrun-tiny", 48, 138, "constant")],
)
def test_a_records_temporary_step_moves_the_matrices_that_it_says(
    name: str, tensors: int, millions: int, schedule: str
) -> None:
    """As PR 98 and 99 count them; on each of 8 GPUs, in halves of what that reads."""
    config = config_of(name)
    with torch.device("meta"):
        moved = meta_matrices(GPT(config.gpt, 64), config)

    assert len(moved) == tensors
    assert sum(p.numel() for p in moved) / 1e6 == pytest.approx(millions, rel=5e-3)
    train = config.train
    assert (train.meta_step, train.meta_schedule, train.meta_parts) == (0.5, schedule, 8)
