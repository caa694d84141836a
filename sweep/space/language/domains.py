"""What stands under `search:`, or `parameters:` in W&B sweeps: hyperparameters and constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import yaml

from model.config import SETTINGS, Value, did_you_mean, read_number, suggestion
from sweep.space import Choice, Hyperparameter, Range
from sweep.space.language.yaml_nodes import (
    Problems,
    as_text,
    checked,
    entries,
    line_of,
    plain,
)

# Settings that decide what is measured, or when: trials that differ in them cannot be compared.
NOT_SEARCHABLE = {
    "data.path",
    "data.column",
    "data.tokenizer",
    "data.vocabulary",
    "data.splits",
    "data.pool_tokens",
    "data.val_tokens",
    "data.test_tokens",
    "data.digest",
    "train.evals",
    "train.device",
}
NESTED = "parameters"
When = tuple[tuple[str, tuple[Value, ...]], ...]


def read_leaves(
    node: yaml.Node, where: str, problems: Problems
) -> tuple[list[Hyperparameter], dict[str, Value]]:
    """The hyperparameters and the constants under `node`, each setting checked."""
    hyperparameters: list[Hyperparameter] = []
    constants: dict[str, Value] = {}
    for name, line, value in _flat(node, where, problems):
        if name not in SETTINGS:
            problems.add(line, name, f"no such setting{suggestion(name, SETTINGS)}")
            continue
        if isinstance(value, yaml.MappingNode) and is_constant(plain(value)):
            leaf = _leaf(name, value, problems)
            found = constant(name, line_of(value), leaf, problems)
            if found is not None:
                constants[name] = found
        elif name in NOT_SEARCHABLE:
            problems.add(line, name, "trials that differ in it cannot be compared; fix it")
        else:
            hyperparameters += _hyperparameters(name, line, value, problems)
    return hyperparameters, constants


def _flat(
    node: yaml.Node, where: str, problems: Problems, prefix: str = ""
) -> Iterator[tuple[str, int, yaml.Node]]:
    """(dotted name, line, node) of every leaf; nested `parameters:` become dots in the name."""
    for key, line, value in entries(node, where, problems):
        name = f"{prefix}{key}"
        if isinstance(value, yaml.MappingNode) and NESTED in map(str, plain(value)):
            for inner, inner_line, below in entries(value, name, problems):
                if inner == NESTED:
                    yield from _flat(below, name, problems, f"{name}.")
                else:
                    problems.add(inner_line, name, f"{inner} cannot stand beside {NESTED}")
        else:
            yield name, line, value


def _hyperparameters(
    name: str, line: int, node: yaml.Node, problems: Problems
) -> list[Hyperparameter]:
    """One hyperparameter, or the alternatives that a list of mappings gives."""
    alternatives = [node]
    if isinstance(node, yaml.SequenceNode):
        mappings = any(isinstance(item, yaml.MappingNode) for item in node.value)
        alternatives = node.value if mappings else [node]
    read = [_axis(name, line, leaf, problems) for leaf in alternatives]
    return [hp for hp in read if hp is not None]


def _axis(name: str, line: int, node: yaml.Node, problems: Problems) -> Hyperparameter | None:
    if isinstance(node, yaml.SequenceNode):
        choice = read_choice(name, line, plain(node), problems)
        return Hyperparameter(name, choice, line=line) if choice else None
    if not isinstance(node, yaml.MappingNode):
        what = "expected a list of values, or min and max; or move to fixed"
        problems.add(line, name, what)
        return None
    line, leaf = line_of(node), _leaf(name, node, problems)
    domain = read_domain(name, line, leaf, problems)
    when = _when(name, line, leaf.get("when", {}), problems)
    return Hyperparameter(name, domain, when, line) if domain else None


def _leaf(name: str, node: yaml.Node, problems: Problems) -> dict[str, Any]:
    """The known keys of a leaf with their plain values."""
    leaf = {}
    refused = plain(node).get("distribution") in tuple(INSTEAD)
    for key, line, value in entries(node, name, problems):
        if key == "probabilities":
            problems.add(
                line, name, "probabilities are not kept: values are equally likely at first"
            )
        elif key in ("mu", "sigma") and refused:
            pass  # told with the distribution they belong to
        elif key not in KEYS:
            problems.add(line, name, f"unknown key {key}{did_you_mean(key, KEYS)}")
        else:
            leaf[key] = plain(value)
    return leaf


def _when(name: str, line: int, found: object, problems: Problems) -> When:
    if not isinstance(found, dict):
        problems.add(line, name, f"when: expected `setting: value`, got {found!r}")
        return ()
    conditions = []
    for parent, values in found.items():
        listed = values if isinstance(values, list) else [values]
        read = [checked(SETTINGS, str(parent), line, value, problems) for value in listed]
        if not listed:
            problems.add(line, name, f"when: {parent} has no values")
        conditions.append((str(parent), tuple(as_text(v) for v in read if v is not None)))
    return tuple(conditions)


# Most values in a range of these cannot be trained with: they must be multiples of something.
LISTED_ONLY = {
    "gpt.width",
    "gpt.context",
    "gpt.queries_per_kv",
    "train.batch_tokens",
    "train.micro_batch_tokens",
}
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
KEYS = ("values", "value", "min", "max", "log", "step", "distribution", "q", "when")
Blame = Callable[[str], None]  # notes a problem of the leaf at hand


def read_domain(
    name: str, line: int, leaf: dict[str, Any], problems: Problems
) -> Choice | Range | None:
    """The domain that the keys of `leaf` describe; None, with problems noted, if they do not."""
    blame = partial(problems.add, line, name)
    if leaf:  # what is empty here was already wrong in the words of W&B
        leaf = _in_our_words(name, leaf, blame)
        if not leaf:
            return None
    given = set(leaf) - {"when"}
    if given == {"values"}:
        return read_choice(name, line, leaf["values"], problems)
    if given == {"value"}:
        value = checked(SETTINGS, name, line, leaf["value"], problems)
        return None if value is None else Choice((as_text(value),))
    if {"min", "max"} <= given and not given & {"values", "value"}:
        return _range(name, line, leaf, problems)
    blame("expected either values, or both min and max, or one value")
    return None


def read_choice(name: str, line: int, values: object, problems: Problems) -> Choice | None:
    """Listed values."""
    if not isinstance(values, list) or not values:
        problems.add(line, name, f"expected a list of values, got {values!r}")
        return None
    read = [checked(SETTINGS, name, line, value, problems) for value in values]
    listed = [as_text(value) for value in read if value is not None]
    if len(set(listed)) < len(listed):
        problems.add(line, name, f"lists a value twice: {values}")
    return Choice(tuple(listed))


def _in_our_words(name: str, leaf: dict[str, Any], blame: Blame) -> dict[str, Any]:
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
            known = ", ".join(DISTRIBUTIONS)
            blame(f"no such distribution as {distribution!r}{hint}; there are {known}")
        return {}
    if {"log", "step"} & set(leaf):
        blame("distribution says it all; leave out log and step")
        return {}
    wanted = {"constant": {"value"}, "categorical": {"values"}}.get(distribution, {"min", "max"})
    if set(leaf) - {"when"} != wanted:
        blame(f"{distribution} needs {DISTRIBUTIONS[distribution]}")
        return {}
    return _with_scale(name, leaf, distribution, q, blame)


def _with_scale(
    name: str, leaf: dict[str, Any], distribution: str, q: Any, blame: Blame
) -> dict[str, Any]:
    """Add the `log` and `step` that a W&B distribution stands for."""
    about = SETTINGS[name]
    if q is not None and not distribution.startswith("q_"):
        blame(f"q goes with q_uniform, not with {distribution}")
        return {}
    if distribution == "q_uniform" or (distribution == "int_uniform" and about.kind is float):
        leaf["step"] = 1 if q is None else q
    elif distribution == "q_log_uniform_values":
        if about.kind is not int or q not in (None, 1):
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
        if about.kind is int:
            low, high = math.ceil(low), math.floor(high)
        leaf |= {"min": low, "max": high, "log": True}
    return leaf


def _range(name: str, line: int, leaf: Mapping[str, object], problems: Problems) -> Range | None:
    blame = partial(problems.add, line, name)
    kind, log, stepped = SETTINGS[name].kind, leaf.get("log", False), "step" in leaf
    if kind not in (int, float):
        blame("has no order, so no range; list its values")
        return None
    if name in LISTED_ONLY and not stepped:
        blame("must be a multiple, so no range; list its values, or give step")
        return None
    if not isinstance(log, bool):
        blame(f"log is true or false, got {log!r}")
        return None
    low, high = (checked(SETTINGS, name, line, leaf[key], problems) for key in ("min", "max"))
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return None
    if low >= high:
        blame(f"a range needs min < max, got [{low:g}, {high:g}]")
        return None
    if log and (low <= 0 or stepped):
        blame("a log range has no step" if stepped else f"a log range needs min > 0, got {low:g}")
        return None
    step = _step(leaf["step"], low, high, kind is int, blame) if stepped else 0.0
    return None if step is None else Range(low, high, log, kind is int, step)


def _step(given: object, low: float, high: float, whole: bool, blame: Blame) -> float | None:
    """The distance between values, which must lead from one end to the other."""
    try:
        step = read_number(str(given))
    except ValueError:
        step = math.nan
    if isinstance(given, bool) or not 0 < step < math.inf or (whole and step != int(step)):
        blame(f"step must be a {'whole ' if whole else ''}number above 0, got {given!r}")
        return None
    steps = (high - low) / step
    if steps < 0.5 or not math.isclose(steps, round(steps), rel_tol=1e-9):
        blame(f"steps of {step:g} do not lead from {low:g} to {high:g}")
        return None
    return int(step) if whole else step


def is_constant(leaf: Mapping[str, object]) -> bool:
    """Whether the leaf leaves nothing to search, whatever else is chosen."""
    return "value" in leaf and "when" not in leaf


def constant(name: str, line: int, leaf: dict[str, Any], problems: Problems) -> Value | None:
    """The only value of a constant leaf."""
    domain = read_domain(name, line, leaf, problems)
    return domain.values[0] if isinstance(domain, Choice) and domain.values else None
