"""The settings under `search:`, or `parameters:` as W&B sweeps call it: axes, and constants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from model.config.aliases import suggestion
from model.config.config import SETTINGS
from model.config.setting import Value, did_you_mean
from sweep.space.hyperparameter import Axis
from sweep.space.language.domains_distribution import (
    INSTEAD,
    KEYS,
    constant,
    is_constant,
    read_choice,
    read_domain,
)
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
) -> tuple[list[Axis], dict[str, Value]]:
    """The axes and the constants under `node`, each setting checked."""
    axes: list[Axis] = []
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
            axes += _axes(name, line, value, problems)
    return axes, constants


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


def _axes(name: str, line: int, node: yaml.Node, problems: Problems) -> list[Axis]:
    """One axis, or the alternatives that a list of mappings gives."""
    alternatives = [node]
    if isinstance(node, yaml.SequenceNode):
        mappings = any(isinstance(item, yaml.MappingNode) for item in node.value)
        alternatives = node.value if mappings else [node]
    read = [_axis(name, line, leaf, problems) for leaf in alternatives]
    return [axis for axis in read if axis is not None]


def _axis(name: str, line: int, node: yaml.Node, problems: Problems) -> Axis | None:
    if isinstance(node, yaml.SequenceNode):
        choice = read_choice(name, line, plain(node), problems)
        return Axis(name, choice, line=line) if choice else None
    if not isinstance(node, yaml.MappingNode):
        what = "expected a list of values, or min and max; or move to fixed"
        problems.add(line, name, what)
        return None
    line, leaf = line_of(node), _leaf(name, node, problems)
    domain = read_domain(name, line, leaf, problems)
    when = _when(name, line, leaf.get("when", {}), problems)
    return Axis(name, domain, when, line) if domain else None


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
