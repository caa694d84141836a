from __future__ import annotations

import pytest

from model.config.config import SETTINGS, Config, GPTConfig
from model.config.setting import ConfigError
from model.config.size import block_parameters, scaled


def test_every_problem_is_reported_at_once() -> None:
    wrong = {"optim.lrr": 1, "train.epochs": "two", "optim.name": "muo", "gpt.dropout": 2}

    with pytest.raises(
        ConfigError, match=r"optim\.lrr: no such setting; did you mean optim\.lr\?"
    ) as e:
        Config.from_settings(wrong)

    assert len(e.value.problems) == 4


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("0.5", 0.5), ("1_0", 10.0), (3, 3.0)])
def test_numbers_are_understood_as_people_write_them(text: object, value: float) -> None:
    assert Config.from_settings({"optim.lr": text}).optim.lr == value


def test_suffixes_mean_thousands_millions_and_billions() -> None:
    assert SETTINGS["data.train_tokens"].check("100M") == 100_000_000


def test_settings_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be a multiple of gpt.context"):
        Config.from_settings({"train.batch_tokens": 100})
    with pytest.raises(ConfigError, match="lower train.evals"):
        Config.from_settings({"train.evals": 1000})


def test_settings_survive_the_way_through_dotted_names() -> None:
    config = Config.from_settings({"optim.lr": 0.1, "train.epochs": 3})

    assert Config.from_settings(config.settings()) == config


@pytest.mark.parametrize("scale", [0.25, 0.5, 1, 2, 3, 4, 8, 30])
@pytest.mark.parametrize(("layers", "width"), [(2, 64), (3, 96), (12, 768)])
def test_scale_multiplies_parameters_within_ten_percent(
    scale: float, layers: int, width: int
) -> None:
    base = GPTConfig(layers=layers, width=width)

    shape = scaled(GPTConfig(layers=layers, width=width, scale=scale))

    assert block_parameters(shape) / block_parameters(base) == pytest.approx(scale, rel=0.1)
    assert (shape.width / shape.heads) % 2 == 0


def test_the_decay_timescale_is_what_lr_decay_and_steps_make_of_it() -> None:
    config = Config.from_settings({"optim.lr": 0.01, "optim.weight_decay_multiplier": 10})

    expected = 1 / (0.01 * 1.0 * config.steps_per_epoch)
    assert config.optim.decay_timescale == pytest.approx(expected)


def test_every_setting_says_what_it_means() -> None:
    assert all(setting.meaning for setting in SETTINGS.values())


CYCLIC = {"optim.schedule": "cyclic", "optim.cycles": 2, "train.epochs": 4}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        # Two of four layers are between 0.5 and 0.7, none of the three that are left.
        (
            {"gpt.layers": 4, "gpt.width": 128, "gpt.replay_passes": 1, "gpt.scale": 0.25},
            "no whole layer between 0.5 and 0.7 of 3",
        ),
        ({"gpt.scale": 1e-6}, r"gpt.scale: no shape is within 10% of 1e-06 times the parameters"),
        ({"gpt.width": 12, "gpt.queries_per_kv": 5}, "gpt.width: 12 cannot be split into heads"),
        ({"gpt.heads_by_layer": "4 4 4"}, "a whole number for each of 2 layers"),
        ({"gpt.units_by_layer": "64 -1"}, "a whole number for each of 2 layers"),
        ({"gpt.units_by_layer": " "}, "a whole number for each of 2 layers"),
        (
            {"gpt.heads_by_layer": "2 1", "gpt.queries_per_kv": 2},
            r"gpt.heads_by_layer: counts must be multiples of gpt.queries_per_kv \(2\)",
        ),
        (
            {"gpt.heads_by_layer": "0 0", "gpt.units_by_layer": "0 0"},
            "gpt.units_by_layer: no layer is left",
        ),
        ({"gpt.units_by_layer": "64 64", "gpt.scale": 2}, "gpt.units_by_layer: needs gpt.scale 1"),
        ({"gpt.mlp_multiple": 1e26}, r"gpt.mlp_multiple: must be >= 1, <= 131072"),
        (
            {"gpt.context_vector": True, "train.batch_tokens": 1280},
            r"train.batch_tokens: must be a multiple of gpt.context x gpt.context_windows \(512\)",
        ),
        (
            {
                "gpt.context_vector": True,
                "train.batch_tokens": 1024,
                "train.micro_batch_tokens": 128,
            },
            r"micro_batch_tokens: must be a multiple of gpt.context x gpt.context_windows \(512\)",
        ),
        ({"gpt.context_windows": 1}, r"gpt.context_windows: must be >= 2"),
        ({"optim.lr": 5e-324}, r"optim.lr: must be >= 1e-12"),
        ({"optim.decay_timescale": 1e-6}, "1e-06 epochs are less than a step"),
        ({"optim.decay_timescale": 1e-300}, "1e-300 epochs are less than a step"),
        ({**CYCLIC, "optim.cycles": 3}, r"optim.cycles: must divide train.epochs \(4\)"),
        (
            {**CYCLIC, "optim.warmup": 0.5},
            "optim.warmup: 0.5 .* no shorter than the first of its 2",
        ),
        ({**CYCLIC, "optim.cycle_epochs": 1}, "optim.cycle_epochs: .* set it to 0 with"),
        ({**CYCLIC, "optim.name": "schedule_free"}, "schedule_free has no rate that cycles"),
        ({"train.average_cycles": 2}, "train.average_cycles: there are cycles with .* got cosine"),
        ({"train.chain_after": 1}, "train.chain_after: there are cycles with .* got cosine"),
        ({"train.log_probs": "cycles"}, "train.log_probs: there are cycles with .* got cosine"),
        (
            {**CYCLIC, "train.average_cycles": 2, "train.average_last": 2},
            r"train.average_cycles: takes the place of train.average_last \(2\)",
        ),
        ({"train.evaluate": "probabilities"}, "train.average_last or average_cycles above 0"),
        (
            {"train.meta_step": 0.5, "train.meta_on": "mlp", "gpt.units_by_layer": "0 0"},
            r"meta_on: mlp moves nothing, as gpt.units_by_layer leaves no hidden unit",
        ),
        (
            {"train.meta_step": 0.5, "train.batch_tokens": 960, "gpt.context": 64},
            r"meta_step: cuts a batch into 2 halves of parts, but .* is 15 x gpt.context",
        ),
        (
            {"train.meta_step": 0.5, "train.batch_tokens": 1536, "train.micro_batch_tokens": 512},
            r"of 768 tokens each, which train.micro_batch_tokens \(512\) must divide",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_is(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.from_settings(settings)


@pytest.mark.parametrize(("schedule", "room"), [("constant_linear", 1.2), ("cosine", 1.8)])
def test_a_warmup_in_epochs_has_to_fit_beside_the_fall(schedule: str, room: float) -> None:
    settings = {"optim.schedule": schedule, "optim.warmdown": 0.4, "train.epochs": 2}

    Config.from_settings({**settings, "optim.warmup_epochs": room})
    with pytest.raises(ConfigError, match=rf"a run of 2 epochs has room for {room} of them, got"):
        Config.from_settings({**settings, "optim.warmup_epochs": room + 0.1})


def test_cycles_have_to_fit_into_the_run() -> None:
    with pytest.raises(ConfigError, match="cycle_epochs: must be at most train.epochs .2., got 3"):
        Config.from_settings({"train.epochs": 2, "optim.cycle_epochs": 3})
