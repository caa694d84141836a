"""What stands under `search:`, or `parameters:` in W&B sweeps: hyperparameters and constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import yaml

from model.config import SETTINGS, Value, did_you_mean, read_number
from sweep.space import Choice, Hyperparameter, Range
from sweep.space.language.priors import read_prior
from sweep.space.language.wandb import INSTEAD, Blame, flattened, in_our_words
from sweep.space.language.yaml_nodes import (
    Problems,
    as_text,
    checked,
    entries,
    line_of,
    no_such,
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
    "gpt.init",
    "gpt.init_digest",
    "train.evals",
    "train.device",
}
When = tuple[tuple[str, tuple[Value, ...]], ...]


def read_leaves(
    node: yaml.Node, where: str, problems: Problems
) -> tuple[list[Hyperparameter], dict[str, Value]]:
    """The hyperparameters and the constants under `node`, each setting checked."""
    hyperparameters: list[Hyperparameter] = []
    constants: dict[str, Value] = {}
    for name, line, value in flattened(node, where, problems):
        if name not in SETTINGS:
            problems.add(line, name, no_such(name, SETTINGS))
            continue
        if isinstance(value, yaml.MappingNode) and is_constant(plain(value)):
            leaf = _leaf(name, value, problems)
            only = constant(name, line_of(value), leaf, problems)
            if only is not None:
                constants[name] = only
        elif name in NOT_SEARCHABLE:
            problems.add(line, name, "trials that differ in it cannot be compared; fix it")
        else:
            hyperparameters += _hyperparameters(name, line, value, problems)
    return hyperparameters, constants


def _hyperparameters(
    name: str, line: int, node: yaml.Node, problems: Problems
) -> list[Hyperparameter]:
    """One hyperparameter, or the alternatives that a list of mappings gives."""
    alternatives = [node]
    if isinstance(node, yaml.SequenceNode):
        mappings = any(isinstance(item, yaml.MappingNode) for item in node.value)
        alternatives = node.value if mappings else [node]
    read = [_hyperparameter(name, line, leaf, problems) for leaf in alternatives]
    return [hp for hp in read if hp is not None]


def _hyperparameter(
    name: str, line: int, node: yaml.Node, problems: Problems
) -> Hyperparameter | None:
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
    if domain is None:
        return None
    has_prior = "prior" in leaf
    prior = read_prior(name, line, leaf["prior"], domain, problems) if has_prior else None
    return Hyperparameter(name, domain, when, line, prior)


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


def _when(name: str, line: int, parents: object, problems: Problems) -> When:
    if not isinstance(parents, dict):
        problems.add(line, name, f"when: expected `setting: value`, got {parents!r}")
        return ()
    conditions = []
    for parent, values in parents.items():
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
    "gpt.context_windows",
    "gpt.queries_per_kv",
    "train.batch_tokens",
    "train.micro_batch_tokens",
}
KEYS = ("values", "value", "min", "max", "log", "step", "distribution", "q", "when", "prior")


def read_domain(
    name: str, line: int, leaf: dict[str, Any], problems: Problems
) -> Choice | Range | None:
    """The domain that the keys of `leaf` describe; None, with problems noted, if they do not."""
    blame = partial(problems.add, line, name)
    if leaf:  # what is empty here was already wrong in the words of W&B
        leaf = in_our_words(name, leaf, blame)
        if not leaf:
            return None
    keys = set(leaf) - {"when", "prior"}
    if keys == {"values"}:
        return read_choice(name, line, leaf["values"], problems)
    if keys == {"value"}:
        value = checked(SETTINGS, name, line, leaf["value"], problems)
        return None if value is None else Choice((as_text(value),))
    if {"min", "max"} <= keys and not keys & {"values", "value"}:
        return _range(name, line, leaf, problems)
    blame("expected either values, or both min and max, or one value")
    return None


def read_choice(name: str, line: int, values: object, problems: Problems) -> Choice | None:
    """Listed values."""
    if not isinstance(values, list) or not values:
        problems.add(line, name, f"expected a list of values, got {values!r}")
        return None
    read = [_number(name, line, value, problems) for value in values]
    listed = [as_text(value) for value in read if value is not None]
    if len(set(listed)) < len(listed):
        problems.add(line, name, f"lists a value twice: {values}")
    return Choice(tuple(listed))


def _number(name: str, line: int, value: object, problems: Problems) -> Value | None:
    """One of several values; a word that stands for a number is none of them."""
    read = checked(SETTINGS, name, line, value, problems)
    if isinstance(read, str) and read in SETTINGS[name].words:
        problems.add(line, name, f"{read} is one number, so it is not searched; move it to fixed")
        return None
    return read


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
    low, high = (_number(name, line, leaf[key], problems) for key in ("min", "max"))
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


def _step(value: object, low: float, high: float, whole: bool, blame: Blame) -> float | None:
    """The distance between values, which must lead from one end to the other."""
    try:
        step = read_number(str(value))
    except ValueError:
        step = math.nan
    if isinstance(value, bool) or not 0 < step < math.inf or (whole and step != int(step)):
        blame(f"step must be a {'whole ' if whole else ''}number above 0, got {value!r}")
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
    if "prior" in leaf:
        problems.add(line, name, "prior: one value has none; give values, or min and max")
    domain = read_domain(name, line, leaf, problems)
    return domain.values[0] if isinstance(domain, Choice) and domain.values else None
