"""The JSON Schema (draft 2020-12) of space files, which editors complete and check with.

It knows what a single line can tell: names, types, bounds, choices. `sweep check` knows the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.config import SETTINGS, Setting
from model.config.presets import PRESETS
from sweep.space import SECTIONS, SWEEP_SETTINGS
from sweep.space.constraint import QUANTITIES
from sweep.space.language.domains import LISTED_ONLY, NOT_SEARCHABLE
from sweep.space.language.reader import MOST_SEEDS, OBJECTIVES
from sweep.space.language.wandb import DISTRIBUTIONS, METHODS, NESTED, UNUSED

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Text that is read as a number: 1e-4 (which YAML 1.1 takes for text), 100M, 1_000, 5%, 1h30min.
NUMBER = r"^\s*[+-]?(\d|\.\d)[\d_.]*([eE][+-]?\d+)?\s*[A-Za-z%]*(\s*\d[\d.]*\s*(d|h|min|s))*\s*$"


def space_schema() -> Schema:
    """The whole schema, each setting's values defined once."""
    groups = sorted({name.partition(".")[0] for name in SETTINGS})
    leaves = {name: {"$ref": f"#/$defs/leaf.{name}"} for name in SETTINGS}
    nested = {
        group: _closed({NESTED: _closed({n.partition(".")[2]: leaves[n] for n in _in(group)})})
        for group in groups
    }
    fixed = {name: {"$ref": f"#/$defs/{name}"} for name in SETTINGS}
    return {
        "$schema": DIALECT,
        "title": "Search space of sweep",
        **_closed(
            {
                "name": {"type": ["string", "integer"], "description": "names the run folder"},
                "preset": {"enum": sorted(PRESETS), "description": "a recipe to begin with"},
                "search": _closed(leaves, "settings to search, each with its values"),
                NESTED: _closed({**leaves, **nested}, "search, as W&B sweeps call it"),
                "fixed": _closed(fixed, "settings that every trial has"),
                "points": {
                    "type": "array",
                    "items": _closed(fixed),
                    "description": "proposed first; what one leaves out is sampled",
                },
                "constraints": _constraints(),
                "repeat": _repeat(),
                "objective": {
                    "enum": list(OBJECTIVES),
                    "description": "what a trial is: one network, or train.members of them",
                },
                **{part: _section(part) for part in SECTIONS},
                **_wandb_keys(),
            }
        ),
        "anyOf": [{"required": ["search"]}, {"required": [NESTED]}],
        "$defs": {
            "number": {"anyOf": [{"type": "number"}, {"type": "string", "pattern": NUMBER}]},
            "when": _closed({n: _one_or_list(ref) for n, ref in fixed.items()}, "only where"),
            **{name: _value(setting) for name, setting in SETTINGS.items()},
            **{f"domain.{name}": _domain(setting) for name, setting in SETTINGS.items()},
            **{f"leaf.{name}": _leaf(setting) for name, setting in SETTINGS.items()},
        },
    }


def _value(setting: Setting) -> Schema:
    """What one value of a setting may be."""
    unit = f" [{setting.unit}]" if setting.unit else ""
    default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
    described: Schema = {"description": f"{setting.meaning}{unit}", "default": default}
    if setting.choices:
        # YAML 1.1 reads yes and no as true and false, and so do we.
        words = {"yes": True, "no": False}
        return described | {
            "enum": [*setting.choices, *(words[c] for c in setting.choices if c in words)]
        }
    if setting.kind is bool:
        return described | {"type": "boolean"}
    if setting.kind is str:
        return described | {"type": "string"}
    if setting.kind is tuple:
        return described | {"anyOf": [{"type": "string"}, {"type": "array"}, {"type": "number"}]}
    bounds = {"minimum": setting.low, "exclusiveMinimum": setting.above, "maximum": setting.high}
    number: Schema = {"type": "integer" if setting.kind is int else "number"}
    number |= {key: bound for key, bound in bounds.items() if bound is not None}
    known_later: list[Schema] = [{"enum": list(setting.words)}] if setting.words else []
    return described | {"anyOf": [number, {"type": "string", "pattern": NUMBER}, *known_later]}


def _leaf(setting: Setting) -> Schema:
    """How one setting is searched, or held constant."""
    value = {"$ref": f"#/$defs/{setting.name}"}
    words = {"value": value, "distribution": {"const": "constant"}}
    constant = _closed(words) | {"required": ["value"]}
    if setting.name in NOT_SEARCHABLE:
        return {"description": f"{setting.meaning}; cannot be searched", **constant}
    listed = {"type": "array", "items": value, "minItems": 1}
    domain = {"$ref": f"#/$defs/domain.{setting.name}"}
    alternatives = {"type": "array", "items": domain, "minItems": 1}
    return {"description": setting.meaning, "anyOf": [listed, domain, alternatives]}


def _domain(setting: Setting) -> Schema:
    """A mapping that says what is searched: values, or a range."""
    value = {"$ref": f"#/$defs/{setting.name}"}
    listed = {"type": "array", "items": value, "minItems": 1}
    keys: Schema = {
        "values": listed,
        "value": value,
        "when": {"$ref": "#/$defs/when"},
        "distribution": {"enum": list(DISTRIBUTIONS)},
        "prior": _prior(setting, value),
    }
    if setting.kind in (int, float):
        number = {"$ref": "#/$defs/number"}
        keys |= {
            "min": number,  # of log_uniform it is a logarithm, so the setting's bounds do not hold
            "max": number,
            "log": {"type": "boolean", "description": "even in the logarithm"},
            "step": number | {"description": "between values"},
            "q": number | {"description": "step, as W&B calls it"},
        }
    needs: list[Schema] = [{"required": ["values"]}, {"required": ["value"]}]
    if setting.kind in (int, float):
        stepped = {"anyOf": [{"required": ["step"]}, {"required": ["q"]}]}
        range_: Schema = {"required": ["min", "max"]}
        needs.append(range_ | stepped if setting.name in LISTED_ONLY else range_)
    return _closed(keys) | {"anyOf": needs}


def _prior(setting: Setting, value: Schema) -> Schema:
    keys: Schema = {"at": value}
    if setting.kind in (int, float):
        described = "a factor, such as 4x, or a distance"
        keys["within"] = {"$ref": "#/$defs/number", "description": described}
    where = "where you expect the best; the trials decide how much that counts"
    return _closed(keys, where) | {"required": list(keys)}


def _section(part: str) -> Schema:
    inside = {n.partition(".")[2]: _value(a) for n, a in SWEEP_SETTINGS.items() if _is_in(n, part)}
    if part == "baseline":
        inside["table"]["anyOf"].append({"type": "object"})  # tokens: loss
    return _closed(inside)


def _constraints() -> Schema:
    names = "|".join(name.replace(".", r"\.") for name in QUANTITIES)
    one = {"type": "string", "pattern": rf"^\s*({names})\s*(<=|>=)\s*\S.*$"}
    described = f"limits on {', '.join(QUANTITIES)}, such as gpt.parameters <= 500M"
    return {"description": described, "anyOf": [one, {"type": "array", "items": one}]}


def _repeat() -> Schema:
    seeds = {"type": "integer", "minimum": 1, "maximum": MOST_SEEDS}
    described = "how many seeds each proposal is trained with"
    return {"description": described, "anyOf": [seeds, _closed({"seeds": seeds})]}


def _wandb_keys() -> Schema:
    target = _value(SWEEP_SETTINGS["budget.target_loss"])
    metric = _closed(
        {"name": {"const": "val_loss"}, "goal": {"const": "minimize"}, "target": target}
    )
    early = {"type": "object", "properties": {"type": {"const": "hyperband"}}}
    return {
        "method": {"enum": list(METHODS), "description": "W&B's word for sampler.name"},
        "metric": metric | {"required": ["name"]},
        "early_terminate": early | {"required": ["type"]},
        "run_cap": _value(SWEEP_SETTINGS["budget.trials"]),
        **{key: {"description": f"not used: {why}"} for key, why in UNUSED.items()},
    }


def _closed(properties: Mapping[str, Any], description: str = "") -> Schema:
    """An object with these keys and no others."""
    described = {"description": description} if description else {}
    return {"type": "object", **described, "properties": properties, "additionalProperties": False}


def _one_or_list(value: Schema) -> Schema:
    return {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}


def _in(group: str) -> list[str]:
    return [name for name in SETTINGS if _is_in(name, group)]


def _is_in(name: str, group: str) -> bool:
    return name.startswith(f"{group}.")
