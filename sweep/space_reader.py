"""YAML to Space. Every problem is reported at once, with its line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import yaml

from model.config import SETTINGS, Config
from model.presets import SAME, overridden, preset
from model.setting import ConfigError, Setting, Value, did_you_mean
from sweep.axis import Axis, Choice, Range
from sweep.errors import SweepError
from sweep.reference_table import as_entries, read_entries
from sweep.sections import SECTIONS, SWEEP_SETTINGS
from sweep.space import BUDGET, MULTIPLE, Space

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
# Most values in a range of these cannot be trained with: they must be multiples of something.
LISTED_ONLY = {
    "gpt.width",
    "gpt.context",
    "gpt.queries_per_kv",
    "train.batch_tokens",
    "train.micro_batch_tokens",
}
COMBINATIONS_CHECKED = 256


def read_space(path: Path, overrides: Sequence[str] = (), name: str = "") -> Space:
    """The space in the YAML file `path`, with `key=value` overrides applied.

    Raises SweepError listing every problem found, with line numbers.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SweepError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
        ) from None
    reader = _Reader()
    space = reader.space(text, default_name=path.stem)
    if name:
        space = replace(space, name=name)
    for override in overrides:
        space = reader.override(space, override)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", space.name):
        reader.problem(0, "name", f"use letters, digits, . _ and -, got {space.name!r}")
    if not space.axes and not reader.problems:
        reader.problem(0, "search", "nothing is left to search; `sweep train` trains one model")
    if BUDGET in space.searched and space.prune.rule != "none" and BUDGET not in space.prune.peers:
        reader.problem(0, "prune.peers", f"must name {BUDGET}, which is searched, or rule be none")
    reader.check_together(space)
    if reader.problems:
        count = len(reader.problems)
        raise SweepError(
            f"{path} has {count} problem{'s' * (count > 1)}",
            [text for _, text in sorted(reader.problems, key=lambda found: found[0])],
            hint="`sweep settings` lists every setting with its unit, default and bounds.",
        )
    return space


class _Reader:
    """Walks the YAML nodes, which know their lines, and collects problems instead of raising."""

    def __init__(self) -> None:
        self.problems: list[tuple[int, str]] = []

    def problem(self, line: int, where: str, what: str) -> None:
        place = f"line {line}: " if line else ""
        self.problems.append((line, f"{place}{where}: {what}"))

    def space(self, text: str, default_name: str) -> Space:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            if root is not None:
                _plain(root)  # what cannot be constructed is told here; merge keys are resolved
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            self.problem(line, "YAML", str(error.problem or error.context))
            return Space(default_name, ())
        except (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError) as error:
            self.problem(0, "YAML", str(error).splitlines()[0])
            return Space(default_name, ())
        known = ("name", "preset", "search", "fixed", *SECTIONS)
        parts = dict(self._entries(root, "the file"))
        for key, (line, _) in parts.items():
            if key not in known:
                self.problem(line, key, f"no such section{did_you_mean(key, known)}")
        name = _plain(parts["name"][1]) if "name" in parts else None
        fixed = self._fixed(parts["fixed"][1]) if "fixed" in parts else {}
        axes = self._axes(parts["search"][1]) if "search" in parts else []
        if not axes and not self.problems:
            self.problem(0, "search", "nothing to search; give at least one setting with values")
        sections = {part: self._section(part, parts[part][1]) for part in SECTIONS if part in parts}
        for axis in axes:
            same = SAME.get(axis.setting)
            if axis.setting in fixed:
                self.problem(axis.line, axis.setting, "is both searched and fixed; keep one")
            elif same in fixed:
                self.problem(axis.line, axis.setting, f"follows from {same}, which is fixed")
                del fixed[same]  # told once is enough
        if "preset" in parts:
            fixed = self._under(fixed, axes, *parts["preset"])
        return Space(str(name or default_name), tuple(self._ordered(axes)), fixed, **sections)

    def _under(
        self, fixed: dict[str, Value], axes: Sequence[Axis], line: int, node: yaml.Node
    ) -> dict[str, Value]:
        """The preset's settings where `fixed` has none and no axis always has one."""
        try:
            settings = preset(str(_plain(node))).settings
        except ConfigError as error:
            self.problem(line, "preset", str(error))
            return fixed
        searched = {axis.setting for axis in axes if not axis.when}
        searched |= {SAME[axis.setting] for axis in axes if axis.setting in SAME}
        open_ = {n: _as_text(v) for n, v in settings.items() if n not in searched}
        under: dict[str, Any] = overridden(open_, fixed)
        return under

    def override(self, space: Space, text: str) -> Space:
        """Apply one `key=value` of the command line."""
        name, equals, raw = text.partition("=")
        about = SETTINGS.get(name) or SWEEP_SETTINGS.get(name)
        if not equals:
            self.problem(0, f"--set {text}", "expected KEY=VALUE")
            return space
        if about is None:
            known = [*SETTINGS, *SWEEP_SETTINGS]
            self.problem(0, f"--set {text}", f"no such setting{did_you_mean(name, known)}")
            return space
        try:
            value = about.check(raw)
        except ConfigError as error:
            self.problem(0, f"--set {name}", str(error))
            return space
        if name in SETTINGS:
            return space.pinned(name, _as_text(value))
        part, _, key = name.partition(".")
        if part == "reference":
            value = self._reference({key: value}, 0)[key]
        if name == "prune.peers":
            self._check_peers(value, 0)
        return replace(space, **{part: replace(getattr(space, part), **{key: value})})

    def _entries(self, node: yaml.Node | None, where: str) -> Iterator[tuple[str, tuple[int, Any]]]:
        """(key, (line, value node)) of a mapping; anything else is a problem and yields nothing."""
        if not isinstance(node, yaml.MappingNode):
            line = node.start_mark.line + 1 if node else 0
            self.problem(line, where, "expected `key: value` lines")
            return
        seen = set()
        for key_node, value_node in node.value:
            line, key = key_node.start_mark.line + 1, str(_plain(key_node))
            if key in seen:
                self.problem(line, key, "is given twice; keep one")
            else:
                seen.add(key)
                yield key, (line, value_node)

    def _fixed(self, node: yaml.Node) -> dict[str, Value]:
        fixed: dict[str, Value] = {}
        for name, (line, value) in self._entries(node, "fixed"):
            checked = self._check(SETTINGS, name, line, _plain(value))
            if checked is not None:
                fixed[name] = checked
        return fixed

    def _section(self, part: str, node: yaml.Node) -> Any:
        given = {}
        for key, (line, value) in self._entries(node, part):
            plain = as_entries(_plain(value)) if key == "table" else _plain(value)
            checked = self._check(SWEEP_SETTINGS, f"{part}.{key}", line, plain)
            if checked is not None:
                given[key] = checked
        if part == "prune":
            self._check_peers(given.get("peers", ()), node.start_mark.line + 1)
        if part == "reference":
            given = self._reference(given, node.start_mark.line + 1)
        return SECTIONS[part](**given)

    def _check_peers(self, peers: Any, line: int) -> None:
        for name in map(str, peers):
            if name not in SETTINGS:
                hint = did_you_mean(name, SETTINGS)
                self.problem(line, "prune.peers", f"{name} is no such setting{hint}")

    def _reference(self, given: dict[str, Any], line: int) -> dict[str, Any]:
        """The reference section with its lists in their types."""
        lists: dict[str, tuple[type, str]] = {
            "multiples": (int, "different whole numbers"),
            "sizes": (float, "different numbers above 0"),
        }
        for key in lists.keys() & given.keys():
            kind, expected = lists[key]
            numbers = {n for text in given[key] if (n := _positive(str(text), kind)) is not None}
            if len(numbers) != len(given[key]) or (key == "sizes" and not numbers):
                found = f"expected {expected}, got {list(given[key])}"
                self.problem(line, f"reference.{key}", found)
            given[key] = tuple(sorted(numbers)) or (1.0,) * (key == "sizes")
        if "table" in given:
            tell = partial(self.problem, line, "reference.table")
            given["table"] = read_entries(given["table"], tell)
        return given

    def _check(
        self, known: Mapping[str, Setting], name: str, line: int, value: object
    ) -> Value | None:
        if name not in known:
            self.problem(line, name, f"no such setting{did_you_mean(name, known)}")
            return None
        try:
            checked = known[name].check(value)
        except ConfigError as error:
            self.problem(line, name, str(error))
            return None
        return _as_text(checked) if known is SETTINGS else checked

    def _axes(self, node: yaml.Node) -> list[Axis]:
        axes: list[Axis] = []
        for name, (line, value) in self._entries(node, "search"):
            if name not in SETTINGS:
                self.problem(line, name, f"no such setting{did_you_mean(name, SETTINGS)}")
            elif name in NOT_SEARCHABLE:
                self.problem(line, name, "trials that differ in it cannot be compared; fix it")
            else:
                alternatives = [
                    axis
                    for leaf in _alternatives(value)
                    if (axis := self._axis(name, line, leaf)) is not None
                ]
                self._check_disjoint(alternatives)
                axes += alternatives
        return axes

    def _axis(self, name: str, line: int, node: yaml.Node) -> Axis | None:
        if isinstance(node, yaml.SequenceNode):
            choice = self._choice(name, line, _plain(node))
            return Axis(name, choice, line=line) if choice else None
        if not isinstance(node, yaml.MappingNode):
            self.problem(line, name, "expected a list of values, or min and max; or move to fixed")
            return None
        known = ("values", "min", "max", "log", "when")
        leaf = {}
        for key, (key_line, value) in self._entries(node, name):
            leaf[key] = _plain(value)
            if key not in known:
                self.problem(key_line, name, f"unknown key {key}{did_you_mean(key, known)}")
        line = node.start_mark.line + 1
        domain: Choice | Range | None
        if "values" in leaf and not {"min", "max", "log"} & set(leaf):
            domain = self._choice(name, line, leaf["values"])
        elif {"min", "max"} <= set(leaf) and "values" not in leaf:
            domain = self._range(name, line, leaf)
        else:
            self.problem(line, name, "expected either values, or both min and max")
            return None
        when = self._when(name, line, leaf.get("when", {}))
        return Axis(name, domain, when, line) if domain else None

    def _choice(self, name: str, line: int, values: object) -> Choice | None:
        if not isinstance(values, list) or not values:
            self.problem(line, name, f"expected a list of values, got {values!r}")
            return None
        checked = [self._check(SETTINGS, name, line, value) for value in values]
        if len(set(checked)) < len(checked) and None not in checked:
            self.problem(line, name, f"lists a value twice: {values}")
        return Choice(tuple(value for value in checked if value is not None))

    def _range(self, name: str, line: int, leaf: Mapping[str, object]) -> Range | None:
        kind, log = SETTINGS[name].kind, leaf.get("log", False)
        if kind not in (int, float):
            self.problem(line, name, "has no order, so no range; list its values")
            return None
        if name in LISTED_ONLY:
            self.problem(line, name, "must be a multiple, so no range; list its values")
            return None
        if not isinstance(log, bool):
            self.problem(line, name, f"log is true or false, got {log!r}")
            return None
        low, high = (self._check(SETTINGS, name, line, leaf[key]) for key in ("min", "max"))
        if not isinstance(low, int | float) or not isinstance(high, int | float):
            return None
        if low >= high:
            self.problem(line, name, f"a range needs min < max, got [{low:g}, {high:g}]")
        elif log and low <= 0:
            self.problem(line, name, f"a log range needs min > 0, got [{low:g}, {high:g}]")
        return Range(low, high, log, whole=kind is int)

    def _when(
        self, name: str, line: int, found: object
    ) -> tuple[tuple[str, tuple[Value, ...]], ...]:
        if not isinstance(found, dict):
            self.problem(line, name, f"when: expected `setting: value`, got {found!r}")
            return ()
        conditions = []
        for parent, values in found.items():
            listed = values if isinstance(values, list) else [values]
            checked = [self._check(SETTINGS, str(parent), line, value) for value in listed]
            if not listed:
                self.problem(line, name, f"when: {parent} has no values")
            conditions.append((str(parent), tuple(v for v in checked if v is not None)))
        return tuple(conditions)

    def _check_disjoint(self, alternatives: list[Axis]) -> None:
        for a, b in combinations(alternatives, 2):
            conditions = dict(b.when)
            apart = any(not set(v) & set(conditions.get(name, v)) for name, v in a.when)
            if not apart:
                self.problem(b.line, b.setting, f"may apply together with that of line {a.line}")

    def _ordered(self, axes: list[Axis]) -> list[Axis]:
        """Parents before children; conditions in a circle or on nothing searched are problems."""
        choices: dict[str, set[Value]] = {}
        for axis in axes:
            if isinstance(axis.domain, Choice):
                choices.setdefault(axis.setting, set()).update(axis.domain.values)
        for axis in axes:
            for parent, values in axis.when:
                if parent not in SETTINGS:
                    continue  # reported where the value was checked
                if parent not in choices:
                    what = f"when: {parent} is not searched by values"
                    hint = did_you_mean(parent, choices)
                    self.problem(axis.line, axis.setting, what + hint)
                elif missing := [v for v in values if v not in choices[parent]]:
                    self.problem(
                        axis.line, axis.setting, f"when: {parent} is never {missing[0]} here"
                    )
        ordered: list[Axis] = []
        waiting = list(axes)
        while waiting:
            pending = {axis.setting for axis in waiting}
            ready = [a for a in waiting if not pending & {name for name, _ in a.when}]
            if not ready:
                first = waiting[0]
                self.problem(first.line, first.setting, "its conditions go in a circle")
                return ordered
            ordered += ready
            waiting = [axis for axis in waiting if axis not in ready]
        return ordered

    def check_together(self, space: Space) -> None:
        """Try combinations of extreme values, so that impossible ones surface before any GPU."""
        found: dict[str, None] = {}
        for chosen in islice(_corners(space.axes, {}), COMBINATIONS_CHECKED):
            found |= dict.fromkeys(_impossible({**space.fixed, **chosen}))
        if space.reference.multiples and space.reference.table:
            self.problem(0, "reference", "measure multiples, or give a table; not both")
        for point in space.baseline_points:
            varied = {name: value for name, value in point.items() if name != MULTIPLE}
            settings = space.baseline_settings(point[MULTIPLE], varied)  # type: ignore[arg-type]
            found |= dict.fromkeys(_impossible(settings))
        for text in found:
            self.problem(0, *text.split(": ", 1))


def _corners(axes: Sequence[Axis], chosen: dict[str, Value]) -> Iterator[dict[str, Value]]:
    """Combinations of listed values and ends of ranges, as far as conditions let them meet."""
    if not axes:
        yield chosen
        return
    axis, rest = axes[0], axes[1:]
    if not axis.active(chosen):
        yield from _corners(rest, chosen)
        return
    domain = axis.domain
    ends = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
    for value in ends:
        yield from _corners(rest, {**chosen, axis.setting: value})


def _impossible(settings: Mapping[str, object]) -> tuple[str, ...]:
    try:
        Config.from_settings(settings)
    except ConfigError as error:
        return error.problems
    return ()


def _positive(text: str, kind: type) -> float | None:
    if kind is int and not text.isdecimal():
        return None
    try:
        number = kind(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def _alternatives(node: yaml.Node) -> list[yaml.Node]:
    """A list of mappings gives alternatives; anything else is a single leaf."""
    if isinstance(node, yaml.SequenceNode) and any(
        isinstance(item, yaml.MappingNode) for item in node.value
    ):
        return list(node.value)
    return [node]


def _plain(node: yaml.Node) -> Any:
    return yaml.constructor.SafeConstructor().construct_object(node, deep=True)


def _as_text(value: Value) -> Value:
    """A list as `--set` takes it: the study, the journal and the command line all keep text."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else value
