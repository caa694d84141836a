"""What a trial costs before it is run."""

from __future__ import annotations

import pytest

from model.config.config import Config
from model.config.cost import trial_cost, trial_flops
from model.config.setting import ConfigError


def test_cost_goes_with_epochs_and_nearly_with_scale() -> None:
    once = trial_flops({"train.epochs": 1, "gpt.scale": 1.0})

    assert trial_flops({"train.epochs": 8}) == pytest.approx(8 * once)
    assert 2 * once < trial_flops({"train.epochs": 1, "gpt.scale": 4.0}) < 4.4 * once


def test_cost_is_about_six_operations_a_parameter_and_token() -> None:
    config = Config()

    tokens = config.steps * config.train.batch_tokens
    assert 4 * 10**5 < trial_flops({}) / tokens < 6 * 10**7


def test_layers_that_are_replayed_cost_from_then_on() -> None:
    replay = {"gpt.replay_passes": 1, "gpt.replay_first": 0.0}
    late, soon = (trial_flops({**replay, "gpt.replay_start": start}) for start in (0.75, 0.25))

    assert trial_flops({}) < late < soon


def test_evaluating_each_average_costs_as_much_again_and_training_nothing() -> None:
    """The default has neither; an EMA is one average, that of the last epochs another."""
    averages = [{}, {"train.ema_epochs": 0.5}, {"train.ema_epochs": 0.5, "train.average_last": 1}]

    plain, one, two = (trial_cost(settings) for settings in averages)

    assert one.evaluation_flops == pytest.approx(2 * plain.evaluation_flops)
    assert two.evaluation_flops == pytest.approx(3 * plain.evaluation_flops)
    assert plain.flops == one.flops == two.flops


def test_what_cannot_be_trained_has_no_cost() -> None:
    with pytest.raises(ConfigError, match="gpt.scale"):
        trial_flops({"gpt.scale": -1})


def test_a_meta_step_costs_no_operations_but_a_copy_of_what_it_moves() -> None:
    """And of its gradients where parts of the batch have each their own."""
    small = {"train.micro_batch_tokens": 64, "gpt.mlp": "swiglu"}
    plain, meta, of_mlps, of_parts = (
        trial_cost({**small, **more})
        for more in (
            {},
            {"train.meta_step": 0.5},
            {"train.meta_step": 0.5, "train.meta_on": "mlp"},
            {"train.meta_step": 0.5, "train.meta_parts": 2},
        )
    )

    assert meta.flops == plain.flops
    assert meta.memory - plain.memory == 4 * plain.block_parameters
    assert of_parts.memory - plain.memory == 8 * plain.block_parameters
    assert of_mlps.memory < meta.memory
