"""Points that a space asks first: each may name some of the searched settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from model.config import SETTINGS, Value, suggestion
from sweep.space import Axis
from sweep.space.language.yaml_nodes import (
    Problems,
    as_text,
    checked,
    entries,
    line_of,
    plain,
)

Point = Mapping[str, Value]


def read_points(node: yaml.Node, axes: Sequence[Axis], problems: Problems) -> tuple[Point, ...]:
    """The mappings under `points:`, each value inside the domain that the space gives it."""
    if not isinstance(node, yaml.SequenceNode):
        what = "expected a list of mappings, such as - {optim.lr: 0.01, train.epochs: 4}"
        problems.add(line_of(node), "points", what)
        return ()
    found = []
    for item in node.value:
        point: dict[str, Value] = {}
        lines: dict[str, int] = {}
        for name, line, value in entries(item, "points", problems):
            if name not in {axis.setting for axis in axes}:
                hint = "" if name in SETTINGS else suggestion(name, SETTINGS)
                problems.add(line, f"points: {name}", f"is not searched{hint}")
                continue
            read = checked(SETTINGS, name, line, plain(value), problems)
            if read is not None:
                point[name], lines[name] = as_text(read), line
        _check_inside(point, lines, axes, problems)
        if point:
            found.append(point)
    return tuple(found)


def _check_inside(
    point: Point, lines: Mapping[str, int], axes: Sequence[Axis], problems: Problems
) -> None:
    for name, value in point.items():
        alternatives = [axis for axis in axes if axis.setting == name]
        possible = [axis for axis in alternatives if axis.possible(point)]
        if not possible:
            problems.add(lines[name], f"points: {name}", "its conditions are not met by this point")
        elif not any(axis.domain.has(value) for axis in possible):
            what = f"{value} is outside what is searched"
            problems.add(lines[name], f"points: {name}", what)
