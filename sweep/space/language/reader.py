"""YAML to Space. Every problem is reported at once, with its line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from model.config import ALL, SETTINGS, ConfigError, Value, closest, did_you_mean, suggestion
from model.config.presets import SAME, overridden, preset
from sweep.errors import SweepError
from sweep.space import (
    SECTIONS,
    SWEEP_SETTINGS,
    Constraint,
    Hyperparameter,
    Space,
    read_overrides,
    renamed,
)
from sweep.space.baseline import as_entries, read_entries
from sweep.space.constraint import read_constraint
from sweep.space.language import wandb
from sweep.space.language.checks import (
    check_alternatives,
    check_fixed,
    check_secrets,
    check_together,
    ordered,
)
from sweep.space.language.domains import read_leaves
from sweep.space.language.first_points import read_points
from sweep.space.language.hints import hints
from sweep.space.language.yaml_nodes import (
    LONGEST,
    Problems,
    as_text,
    checked,
    compose,
    entries,
    line_of,
    plain,
)
from sweep.space.space import BUDGET

PARTS = ("points", "constraints", "repeat", "objective")
OWN = ("name", "preset", "search", wandb.NESTED, "fixed", *PARTS)
OBJECTIVES = ("single", "ensemble")
INIT = "gpt.init"
MEMBERS, FEW = "train.members", 4  # networks of a trial where the objective is an ensemble
KEYS = (*OWN, *SECTIONS, *wandb.KEYS)
MOST_SEEDS = 100  # of one proposal
Nodes = dict[str, tuple[int, yaml.Node]]  # line and value by key
Count = Callable[[Mapping[str, Value]], int]


def read_space(
    path: Path, overrides: Sequence[str] = (), name: str = "", count: Count | None = None
) -> Space:
    """The space in the YAML file `path`, with `key=value` overrides applied.

    count   training tokens of the text that these settings name, where all of them are asked for
    Raises SweepError listing every problem found, with line numbers.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except (OSError, ValueError) as error:  # a path, or text, that cannot be decoded
        raise SweepError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
        ) from None
    problems = Problems()
    space = space_in(text, path.stem, problems)
    if name:
        space = replace(space, name=name)
    space = _overridden(space, overrides, problems)
    if space.fixed.get(INIT):
        space = replace(space, fixed=_with_shape(space, problems))
    if space.fixed.get(BUDGET) == ALL:
        space = replace(space, fixed=_counted(space.fixed, count, problems))
    notes = hints(space, says_trials="budget.trials" in problems.place)
    space = replace(space, notes=(*space.notes, *notes))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", space.name):
        problems.add(0, "name", f"use letters, digits, . _ and -, got {space.name!r}")
    check_secrets(space.fixed, problems)
    check_together(space, problems)
    if problems:
        many = len(problems.lines())
        raise SweepError(
            f"{path} has {many} problem{'s' * (many > 1)}",
            problems.lines(),
            hint="`sweep settings` lists every setting with its unit, default and bounds.",
        )
    return space


def space_in(text: str, default_name: str, problems: Problems) -> Space:
    """The space that `text` describes, its parts not yet checked together."""
    root = compose(text, problems)
    return _space(root, default_name, problems) if root else Space(default_name, ())


def _counted(
    fixed: Mapping[str, Value], count: Count | None, problems: Problems
) -> dict[str, Value]:
    """`fixed` with the number that all training tokens come to; without it, if that is unknown."""
    settings = {name: value for name, value in fixed.items() if name != BUDGET}
    if count is None or problems:  # who has other problems need not wait for the counting
        return settings
    try:
        return {**settings, BUDGET: count(settings)}
    except ConfigError as error:
        for text in error.problems:
            problems.add_of_settings(text)
    return settings


def _with_shape(space: Space, problems: Problems) -> Mapping[str, Value]:
    """The fixed settings with those that the weights of `gpt.init` decide."""
    from model.pretrained import fill_in, fixed_by  # numpy and tiktoken, which few spaces need

    try:
        decided = fixed_by(str(space.fixed[INIT]))
        for hp in space.hyperparameters:
            if hp.setting in decided:
                problems.add(hp.line, hp.setting, "is decided by the weights of gpt.init; drop it")
        searched = {hp.setting for hp in space.hyperparameters}
        filled = fill_in(space.fixed)
    except ConfigError as error:
        for text in error.problems:
            problems.add_of_settings(text)
        return space.fixed
    return {n: as_text(v) for n, v in filled.items() if n in space.fixed or n not in searched}


def _space(root: yaml.Node, default_name: str, problems: Problems) -> Space:
    parts: Nodes = {key: (line, node) for key, line, node in entries(root, "the file", problems)}
    for key, (line, node) in [*parts.items()]:
        if key not in KEYS:
            hint = did_you_mean(key, KEYS)
            hint = f"; under search, {suggestion(key, SETTINGS)[2:]}" if key in SETTINGS else hint
            problems.add(line, key, renamed(key) or f"no such section{hint}")
            if hint and key not in SETTINGS:  # what is wrong inside is told as well
                parts.setdefault(closest(key, KEYS), (line, node))
    hyperparameters, fixed = _settings(parts, problems)
    sections, notes = _sections(parts, problems)
    if "preset" in parts:
        fixed = _under(fixed, hyperparameters, *parts["preset"], problems)
    if "objective" in parts:
        named = {*fixed, *(hp.setting for hp in hyperparameters)}
        fixed = _objective(*parts["objective"], named, problems) | fixed
    name = plain(parts["name"][1]) if "name" in parts else None
    hyperparameters = ordered(hyperparameters, problems)
    return Space(
        str(name or default_name),
        tuple(hyperparameters),
        fixed,
        **{part: _section(part, sections[part], problems) for part in sections},
        points=read_points(parts["points"][1], hyperparameters, problems)
        if "points" in parts
        else (),
        constraints=_constraints(parts, problems),
        repeat=_repeat(*parts["repeat"], problems) if "repeat" in parts else 1,
        notes=notes,
    )


def _settings(parts: Nodes, problems: Problems) -> tuple[list[Hyperparameter], dict[str, Value]]:
    """What `search`, `parameters` and `fixed` say: hyperparameters, and constants."""
    hyperparameters: list[Hyperparameter] = []
    fixed: dict[str, Value] = {}
    if "fixed" in parts:
        for name, line, node in entries(parts["fixed"][1], "fixed", problems):
            value = checked(SETTINGS, name, line, plain(node), problems)
            if value is not None:
                fixed[name] = as_text(value)
    for part in ("search", wandb.NESTED):
        if part not in parts:
            continue
        line, node = parts[part]
        searched, constants = read_leaves(node, part, problems)
        for name in {hp.setting for hp in hyperparameters} & {hp.setting for hp in searched}:
            problems.add(line, name, "is given in search and in parameters; keep one")
        for name in constants.keys() & fixed.keys():
            problems.add(line, name, "is given twice; keep one")
        hyperparameters += searched
        fixed |= constants
    if not hyperparameters and not problems:
        problems.add(0, "search", "nothing to search; give at least one setting with values")
    check_alternatives(hyperparameters, problems)
    check_fixed(hyperparameters, fixed, problems)
    return hyperparameters, fixed


def _sections(
    parts: Nodes, problems: Problems
) -> tuple[dict[str, dict[str, tuple[int, Any]]], tuple[str, ...]]:
    """The sections that are given, as lines and values by key, with W&B's keys among them."""
    sections = {
        part: {
            key: (line, plain(node)) for key, line, node in entries(parts[part][1], part, problems)
        }
        for part in SECTIONS
        if part in parts
    }
    nodes = {key: node for key, (_, node) in parts.items()}
    foreign, notes = wandb.read_wandb_keys(nodes, problems)
    for part, values in foreign.items():
        for key, value in values.items():
            if key in sections.setdefault(part, {}):
                line = sections[part][key][0]
                problems.add(line, f"{part}.{key}", "is said by a key of W&B too; keep one")
            sections[part][key] = value
    return sections, notes


def _section(part: str, section: dict[str, tuple[int, Any]], problems: Problems) -> Any:
    """The section as its dataclass, from lines and values by key."""
    values: dict[str, Any] = {}
    for key, (line, plain_value) in section.items():
        name = f"{part}.{key}"
        value = checked(SWEEP_SETTINGS, name, line, as_list(name, plain_value), problems)
        if value is not None:
            values[key] = read_list(name, value, line, problems)
    return SECTIONS[part](**values)


def _under(
    fixed: dict[str, Value],
    hyperparameters: Sequence[Hyperparameter],
    line: int,
    node: yaml.Node,
    problems: Problems,
) -> dict[str, Value]:
    """The preset's settings where `fixed` has none and no hyperparameter always has one."""
    try:
        settings = preset(str(plain(node))).settings
    except ConfigError as error:
        problems.add(line, "preset", str(error))
        return fixed
    searched = {hp.setting for hp in hyperparameters if not hp.when}
    searched |= {SAME[hp.setting] for hp in hyperparameters if hp.setting in SAME}
    open_ = {n: as_text(v) for n, v in settings.items() if n not in searched}
    under: dict[str, Any] = overridden(open_, fixed)
    return under


def _constraints(parts: Nodes, problems: Problems) -> tuple[Constraint, ...]:
    if "constraints" not in parts:
        return ()
    node = parts["constraints"][1]
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    constraints = []
    for item in items:
        try:
            constraints.append(read_constraint(plain(item)))
        except ConfigError as error:
            problems.add(line_of(item), "constraints", str(error))
    return tuple(dict.fromkeys(constraints))


def _objective(line: int, node: yaml.Node, named: Set[str], problems: Problems) -> dict[str, Value]:
    """What every trial has so that the search looks for this."""
    value = plain(node)
    if value not in OBJECTIVES:
        problems.add(line, "objective", f"expected {' or '.join(OBJECTIVES)}, got {value!r}")
    return {MEMBERS: FEW} if value == "ensemble" and MEMBERS not in named else {}


def _repeat(line: int, node: yaml.Node, problems: Problems) -> int:
    value = plain(node)
    seeds = value["seeds"] if isinstance(value, dict) and set(value) == {"seeds"} else value
    if isinstance(seeds, bool) or not isinstance(seeds, int) or not 1 <= seeds <= MOST_SEEDS:
        what = f"expected the seeds of each proposal, 1 to {MOST_SEEDS}, as {{seeds: 3}}"
        problems.add(line, "repeat", f"{what}; got {value!r}")
        return 1
    return seeds


def _overridden(space: Space, overrides: Sequence[str], problems: Problems) -> Space:
    """The space with every `key=value` of the command line that can be understood."""
    pairs, wrong = read_overrides(overrides, {**SETTINGS, **SWEEP_SETTINGS})
    for text in wrong:
        problems.add(0, *text.split(": ", 1))
    for name, value in pairs:
        problems.place[name] = 0
        if name in SETTINGS:
            space = space.pinned(name, as_text(value))
        else:
            part, _, key = name.partition(".")
            value = read_list(name, value, 0, problems)
            space = replace(space, **{part: replace(getattr(space, part), **{key: value})})
    return space


NUMBERS: dict[str, tuple[type, str]] = {
    "baseline.multiples": (int, "different whole numbers"),
    "baseline.sizes": (float, "different numbers above 0"),
}


def as_list(name: str, value: object) -> object:
    """What a file gives for setting `name`, as the list that `--set` takes."""
    return as_entries(value) if name == "baseline.table" else value


def read_list(name: str, value: Value, line: int, problems: Problems) -> Value:
    """`value` with what its members must be; anything but a known list stays as it is."""
    if not isinstance(value, tuple):
        return value
    if name in NUMBERS:
        kind, expected = NUMBERS[name]
        numbers = {n for text in value if (n := _positive(str(text), kind)) is not None}
        is_sizes = name == "baseline.sizes"
        if len(numbers) != len(value) or (is_sizes and not numbers):
            problems.add(line, name, f"expected {expected}, got {list(value)}")
        return tuple(sorted(numbers)) or (1.0,) * is_sizes
    if name == "baseline.table":
        return read_entries(value, partial(problems.add, line, name))
    if name == "prune.peers":
        for peer in map(str, value):
            if peer not in SETTINGS:
                problems.add(line, name, f"{peer} is no such setting{suggestion(peer, SETTINGS)}")
    return value


def _positive(text: str, kind: type) -> float | None:
    if kind is int and not text.isdecimal():
        return None
    try:
        number: float = kind(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
