"""The space to run next: wider where the best is at an edge, and more trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from model.config import Config, ConfigError, Value
from sweep.format import three_digits
from sweep.records import Ending
from sweep.report.facts import Facts
from sweep.results.edges import Edge
from sweep.results.settling import lateness, settled
from sweep.space import BudgetConfig, Choice, Hyperparameter, Point, Range, Space
from sweep.space.compatibility import problems
from sweep.space.constraint import violations
from sweep.space.language import space_text
from sweep.space.points import snapped

FEWEST = 8  # trials more
UNCHANGED = "as long as the trainer's code is what it was"
LIMITS = ("hours", "device_hours", "flops")


@dataclass(frozen=True)
class NextSpace:
    """A space file to paste, and how it is run."""

    text: str
    command: str
    why: str
    problems: tuple[str, ...]  # why it cannot continue the same folder; empty if it can


def next_space(facts: Facts) -> NextSpace | None:
    """What to search next; None where nothing says that more would help, or none can be read."""
    space = facts.space
    edges = [edge for edge in facts.edges if edge.firm and edge.wider is not None]
    if space is None or not (edges or more_may_help(facts)):
        return None
    wider = replace(
        space,
        hyperparameters=tuple(_widened(hp, edges) for hp in space.hyperparameters),
        budget=_more(space.budget, len(facts.view.searches())),
    )
    wider = replace(wider, points=space.points + _points(facts, wider, edges))
    reasons = tuple(problems(space.resolved(), wider.resolved(), wider, facts.view))
    file, why = f"{space.name}-next.yaml", _why(edges)
    runs = "" if str(facts.folder.parent) == "runs" else f" --runs {facts.folder.parent}"
    name = facts.folder.name if not reasons else f"{facts.folder.name}-2"
    if reasons:  # a search of its own does not have to keep the points that were asked before
        own = _points(facts, wider, edges, itself=True)
        wider = replace(wider, points=own, budget=space.budget)
    named = f" --name {name}" if name != space.name else ""
    command = f"sweep run {file}{named}{runs}"
    goes = "Begins anew." if reasons else f"Goes on in the same folder, {UNCHANGED}."
    heading = f"{why}\n\n  {command}\n\n{goes}"
    return NextSpace(space_text(wider, heading), command, why, reasons)


def more_may_help(facts: Facts) -> bool:
    """Whether more trials of the same space may find what is better than seeds differ by."""
    end = facts.view.end
    if settled(facts.view) or (end and end.ending is Ending.NOTHING_LEFT):
        return False
    known = facts.surface is not None and math.isfinite(facts.surface.gain)
    if not known or lateness(facts.view):
        return True
    assert facts.surface is not None
    return facts.surface.gain > facts.noise[0]


def _why(edges: Sequence[Edge]) -> str:
    if not edges:
        return "The same space with more trials: the search had not settled."
    wider = " and ".join(
        f"{edge.hp.setting} {'up' if edge.high else 'down'} to {three_digits(edge.wider)}"
        for edge in edges
    )
    return f"Wider where the best was at an edge: {wider}."


def _widened(hp: Hyperparameter, edges: Sequence[Edge]) -> Hyperparameter:
    edge = next((edge for edge in edges if edge.hp == hp), None)
    if edge is None or edge.wider is None:
        return hp
    domain = hp.domain
    if isinstance(domain, Choice):
        values = (*domain.values, edge.wider) if edge.high else (edge.wider, *domain.values)
        return replace(hp, domain=replace(domain, values=values))
    end = float(edge.wider)  # type: ignore[arg-type]
    return replace(hp, domain=replace(domain, high=end) if edge.high else replace(domain, low=end))


def _more(budget: BudgetConfig, ended: int) -> BudgetConfig:
    """Half as many trials again, and limits in proportion; a target that was reached is dropped."""
    trials = ended + max(FEWEST, math.ceil(ended / 2))
    grown: dict[str, Any] = {
        name: float(f"{limit * trials / max(1, ended):.2g}")
        for name in LIMITS
        if (limit := getattr(budget, name))
    }
    return replace(budget, trials=trials, target_loss=0.0, **grown)


def _points(
    facts: Facts, space: Space, edges: Sequence[Edge], itself: bool = False
) -> tuple[Point, ...]:
    """The best beyond all of its edges together, then beyond each; before them where it was."""
    hps = space.hyperparameters
    best = _shortened(facts.best.searched, hps)
    beyond = {edge.hp.setting: edge.wider for edge in edges if edge.wider is not None}
    points = [best] if itself else []
    if len(beyond) > 1:
        points.append({**best, **beyond})
    points += [{**best, name: value} for name, value in beyond.items()]
    return tuple(point for point in points if point and _trains(space, point))


def _shortened(point: Point, hps: Sequence[Hyperparameter]) -> dict[str, Value]:
    """The point with three digits, inside what is searched."""
    short: dict[str, Value] = {}
    for hp in hps:
        if not hp.active(point) or hp.setting not in point:
            continue
        value = point[hp.setting]
        if isinstance(hp.domain, Range) and isinstance(value, float):
            value = snapped(hp.domain, float(f"{value:.3g}")) or value
        short[hp.setting] = value
    return short


def _trains(space: Space, point: Mapping[str, Value]) -> bool:
    settings = {**space.fixed, **point}
    try:
        Config.from_settings(settings)
    except ConfigError:
        return False
    return not any(beyond > 0 for beyond in violations(settings, space.constraints).values())
