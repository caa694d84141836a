"""Every setting of a run, and what follows from them without building anything."""

from model.config.aliases import suggestion
from model.config.config import (
    DIGEST_OF,
    MULTIPLIER,
    SETTINGS,
    Config,
    DataConfig,
    GPTConfig,
    TrainConfig,
)
from model.config.cost import Cost, config_flops, trial_cost, trial_flops
from model.config.data import ALL, AS_THERE_IS, TEXT_TEST_TOKENS, VOCABULARIES
from model.config.number import read_number
from model.config.optim import FOR_ALL, KINDS, OptimConfig
from model.config.setting import ConfigError, Setting, Value, closest, did_you_mean
from model.config.size import (
    HEAD_GATE_INPUTS,
    VALUE_GATE_INPUTS,
    block_parameters,
    flops_per_token,
    parameters,
    scaled,
)
from model.config.trunk import (
    PATHS,
    SharedTrunks,
    branch_steps,
    recipe_digest,
    trunk_problems,
    trunk_steps,
)
from model.config.width import width_problems

__all__ = [
    "ALL",
    "AS_THERE_IS",
    "DIGEST_OF",
    "FOR_ALL",
    "HEAD_GATE_INPUTS",
    "KINDS",
    "MULTIPLIER",
    "PATHS",
    "SETTINGS",
    "TEXT_TEST_TOKENS",
    "VALUE_GATE_INPUTS",
    "VOCABULARIES",
    "Config",
    "ConfigError",
    "Cost",
    "DataConfig",
    "GPTConfig",
    "OptimConfig",
    "Setting",
    "SharedTrunks",
    "TrainConfig",
    "Value",
    "block_parameters",
    "branch_steps",
    "closest",
    "config_flops",
    "did_you_mean",
    "flops_per_token",
    "parameters",
    "read_number",
    "recipe_digest",
    "scaled",
    "setting",
    "suggestion",
    "trial_cost",
    "trial_flops",
    "trunk_problems",
    "trunk_steps",
    "width_problems",
]
