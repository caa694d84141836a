"""Points that a space asks first: each may name some of the searched settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from model.config import SETTINGS, Value, suggestion
from sweep.space import Hyperparameter, Point
from sweep.space.language.yaml_nodes import (
    Problems,
    as_text,
    checked,
    entries,
    line_of,
    plain,
)


def read_points(
    node: yaml.Node, hyperparameters: Sequence[Hyperparameter], problems: Problems
) -> tuple[Point, ...]:
    """The mappings under `points:`, each value inside the domain that the space gives it."""
    if not isinstance(node, yaml.SequenceNode):
        what = "expected a list of mappings, such as - {optim.lr: 0.01, train.epochs: 4}"
        problems.add(line_of(node), "points", what)
        return ()
    points = []
    for item in node.value:
        point: dict[str, Value] = {}
        lines: dict[str, int] = {}
        for name, line, value in entries(item, "points", problems):
            if name not in {hp.setting for hp in hyperparameters}:
                hint = "" if name in SETTINGS else suggestion(name, SETTINGS)
                problems.add(line, f"points: {name}", f"is not searched{hint}")
                continue
            read = checked(SETTINGS, name, line, plain(value), problems)
            if read is not None:
                point[name], lines[name] = as_text(read), line
        _check_inside(point, lines, hyperparameters, problems)
        if point:
            points.append(point)
    return tuple(points)


def _check_inside(
    point: Point,
    lines: Mapping[str, int],
    hyperparameters: Sequence[Hyperparameter],
    problems: Problems,
) -> None:
    for name, value in point.items():
        alternatives = [hp for hp in hyperparameters if hp.setting == name]
        possible = [hp for hp in alternatives if hp.possible(point)]
        if not possible:
            problems.add(lines[name], f"points: {name}", "its conditions are not met by this point")
        elif not any(hp.domain.has(value) for hp in possible):
            what = f"{value} is outside what is searched"
            problems.add(lines[name], f"points: {name}", what)
