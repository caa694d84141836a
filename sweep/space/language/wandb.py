"""What a W&B sweep file says, in our words: its own keys, nested parameters, distributions.

https://docs.wandb.ai/guides/sweeps/sweep-config-keys
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from model.config import SETTINGS, did_you_mean, read_number
from sweep.space import SWEEP_SETTINGS, SamplerConfig
from sweep.space.language.yaml_nodes import Problems, entries, line_of, plain

METHODS = {"bayes": SamplerConfig().name, "random": "random", "grid": "grid"}
# Keys that mean nothing here, and why: said by `sweep check`, so that nothing is dropped unseen.
UNUSED = {
    "program": "sweep trains with its own trainer",
    "command": "sweep trains with its own trainer",
    "entity": "runs go to MLflow, one experiment per sweep",
    "project": "runs go to MLflow, one experiment per sweep",
    "description": "it is for readers of the file",
    "job": "sweep run starts the trials",
    "image_uri": "sweep run starts the trials",
}
KEYS = ("method", "metric", "early_terminate", "run_cap", *UNUSED)
NESTED = "parameters"  # what `search` is called there, and groups of settings within it
EXPONENTS = "log_uniform"  # of W&B: its min and max are natural logarithms
# Distributions by their names in W&B, and what they are here.
DISTRIBUTIONS: Mapping[str, str] = {
    "constant": "value",
    "categorical": "values",
    "uniform": "min and max",
    "int_uniform": "min and max, whole numbers",
    "q_uniform": "min, max and step",
    "log_uniform_values": "min, max and log: true",
    "q_log_uniform_values": "min, max and log: true, of a whole number",
    EXPONENTS: "min and max are natural logarithms",
}
BOUNDED = "proposals need bounds: give min and max, such as mu - 2 sigma and mu + 2 sigma"
BOUNDED_LOG = f"{BOUNDED} of the logarithm, with log: true"
INSTEAD: Mapping[str, str] = {
    "normal": BOUNDED,
    "q_normal": BOUNDED,
    "log_normal": BOUNDED_LOG,
    "q_log_normal": BOUNDED_LOG,
    "beta": "give the part of [0, 1] that matters as min and max",
    "q_beta": "give the part of [0, 1] that matters as min, max and step",
    "inv_log_uniform": "give min, max and log: true, of the setting itself",
    "inv_log_uniform_values": "give min, max and log: true, of the setting itself",
    "q_log_uniform": "use q_log_uniform_values, whose min and max are the values themselves",
    "categorical_w_probabilities": "values are equally likely at first; the sampler learns",
}
Sections = dict[str, dict[str, tuple[int, Any]]]  # section, key, line and value
Blame = Callable[[str], None]  # notes a problem of the leaf at hand


def read_wandb_keys(
    parts: Mapping[str, yaml.Node], problems: Problems
) -> tuple[Sections, tuple[str, ...]]:
    """What W&B's keys among `parts` set in our sections, and notes on what is not used."""
    sections: Sections = {}
    notes = [f"{key}: not used; {why}" for key, why in UNUSED.items() if key in parts]
    values = {key: (line_of(parts[key]), plain(parts[key])) for key in KEYS if key in parts}
    if "method" in values:
        notes += _read_method(*values["method"], sections, problems)
    if "metric" in values:
        _read_metric(*values["metric"], sections, problems)
    if "run_cap" in values:
        sections.setdefault("budget", {})["trials"] = values["run_cap"]
    if "early_terminate" in values:
        notes += _read_early_terminate(*values["early_terminate"], sections, problems)
    return sections, tuple(notes)


def _read_method(
    line: int, method: object, sections: Sections, problems: Problems
) -> tuple[str, ...]:
    samplers = SWEEP_SETTINGS["sampler.name"].choices
    if not isinstance(method, str) or method not in METHODS:
        hint = did_you_mean(str(method), METHODS)
        problems.add(line, "method", f"expected {', '.join(METHODS)}, got {method!r}{hint}")
    elif METHODS[method] not in samplers:
        what = f"no sampler for {method}; write sampler: {{name: ...}} with {' or '.join(samplers)}"
        problems.add(line, "method", what)
    else:
        sections["sampler"] = {"name": (line, METHODS[method])}
        if method == "bayes":
            what = f"is sampler.name {METHODS[method]} here, the default; sampler: {{name: tpe}} or"
            return (f"method: bayes {what} {{name: gp}} instead are Optuna's",)
    return ()


def _read_metric(line: int, metric: object, sections: Sections, problems: Problems) -> None:
    """The validation loss is what everything here compares; another metric would be ignored.

    Its target ends a sweep of W&B as `budget.target_loss` does here.
    """
    keys = metric if isinstance(metric, dict) else {}
    name, goal = keys.get("name"), keys.get("goal", "minimize")
    if "target" in keys:
        sections.setdefault("budget", {})["target_loss"] = (line, keys["target"])
    for key in keys.keys() - {"name", "goal", "target"}:
        problems.add(line, "metric", f"unknown key {key}; name, goal and target are known")
    if name != "val_loss" or goal != "minimize":
        what = (
            "trials are compared by val_loss, nats per token, the lower the better; expected "
            f"{{name: val_loss, goal: minimize}}, got {metric!r}. train.evaluate says of which "
            "weights"
        )
        problems.add(line, "metric", what)


def _read_early_terminate(
    line: int, value: object, sections: Sections, problems: Problems
) -> tuple[str, ...]:
    """W&B knows hyperband alone, with brackets counted in calls of wandb.log."""
    rules = SWEEP_SETTINGS["prune.rule"].choices
    keys = value if isinstance(value, dict) else {}
    if keys.get("type") != "hyperband":
        instead = ", ".join(rules)
        what = f"expected {{type: hyperband}}, got {value!r}; prune: {{rule: ...}} has {instead}"
        problems.add(line, "early_terminate", what)
        return ()
    if "hyperband" not in rules:
        instead = " or ".join(rules)
        what = f"there is no hyperband; delete it, and write prune: {{rule: ...}} with {instead}"
        problems.add(line, "early_terminate", what)
        return ()
    sections["prune"] = {"rule": (line, "hyperband")}
    unused = ", ".join(sorted(set(map(str, keys)) - {"type"}))
    why = "trials are compared at fractions of their own schedule, which prune sets"
    return (f"early_terminate: {unused} not used; {why}",) if unused else ()


def flattened(
    node: yaml.Node, where: str, problems: Problems, prefix: str = ""
) -> Iterator[tuple[str, int, yaml.Node]]:
    """(dotted name, line, node) of every leaf; nested `parameters:` become dots in the name."""
    for key, line, value in entries(node, where, problems):
        name = f"{prefix}{key}"
        if isinstance(value, yaml.MappingNode) and NESTED in map(str, plain(value)):
            for inner, inner_line, below in entries(value, name, problems):
                if inner == NESTED:
                    yield from flattened(below, name, problems, f"{name}.")
                else:
                    problems.add(inner_line, name, f"{inner} cannot stand beside {NESTED}")
        else:
            yield name, line, value


def in_our_words(name: str, leaf: dict[str, Any], blame: Blame) -> dict[str, Any]:
    """The leaf without `distribution` and `q`; empty, with a problem noted, if it cannot be."""
    leaf = dict(leaf)
    distribution, q = leaf.pop("distribution", None), leaf.pop("q", None)
    if distribution is None:
        if q is not None:
            blame("q goes with distribution: q_uniform; write step")
        return leaf
    if not isinstance(distribution, str) or distribution not in DISTRIBUTIONS:
        if isinstance(distribution, str) and distribution in INSTEAD:
            blame(f"{distribution} is not searched: {INSTEAD[distribution]}")
        else:
            hint = did_you_mean(str(distribution), DISTRIBUTIONS)
            all_ = ", ".join(DISTRIBUTIONS)
            blame(f"no such distribution as {distribution!r}{hint}; there are {all_}")
        return {}
    if {"log", "step"} & set(leaf):
        blame("distribution says it all; leave out log and step")
        return {}
    wanted = {"constant": {"value"}, "categorical": {"values"}}.get(distribution, {"min", "max"})
    if set(leaf) - {"when", "prior"} != wanted:
        blame(f"{distribution} needs {DISTRIBUTIONS[distribution]}")
        return {}
    return _with_scale(name, leaf, distribution, q, blame)


def _with_scale(
    name: str, leaf: dict[str, Any], distribution: str, q: Any, blame: Blame
) -> dict[str, Any]:
    """Add the `log` and `step` that a W&B distribution stands for."""
    kind = SETTINGS[name].kind
    if q is not None and not distribution.startswith("q_"):
        blame(f"q goes with q_uniform, not with {distribution}")
        return {}
    if distribution == "q_uniform" or (distribution == "int_uniform" and kind is float):
        leaf["step"] = 1 if q is None else q
    elif distribution == "q_log_uniform_values":
        if kind is not int or q not in (None, 1):
            blame("steps on a log scale have no even width: use log_uniform_values, or list values")
            return {}
        leaf["log"] = True
    elif distribution == "log_uniform_values":
        leaf["log"] = True
    elif distribution == EXPONENTS:
        try:
            low, high = (math.exp(read_number(str(leaf[key]))) for key in ("min", "max"))
        except (ValueError, OverflowError):
            blame(f"log_uniform takes logarithms, got [{leaf['min']}, {leaf['max']}]")
            return {}
        if kind is int:
            low, high = math.ceil(low), math.floor(high)
        leaf |= {"min": low, "max": high, "log": True}
    return leaf
