"""The keys of a W&B sweep file outside its parameters, as the sections that they mean here.

https://docs.wandb.ai/guides/sweeps/sweep-config-keys
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from model.config import did_you_mean
from sweep.space import SWEEP_SETTINGS
from sweep.space.language.yaml_nodes import Problems, line_of, plain

METHODS = {"bayes": "tpe", "random": "random", "grid": "grid"}
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
Given = dict[str, dict[str, tuple[int, Any]]]  # section, key, line and value


def read_wandb_keys(
    parts: Mapping[str, yaml.Node], problems: Problems
) -> tuple[Given, tuple[str, ...]]:
    """What W&B's keys among `parts` set in our sections, and notes on what is not used."""
    given: Given = {}
    notes = [f"{key}: not used; {why}" for key, why in UNUSED.items() if key in parts]
    found = {key: (line_of(parts[key]), plain(parts[key])) for key in KEYS if key in parts}
    if "method" in found:
        _read_method(*found["method"], given, problems)
    if "metric" in found:
        _read_metric(*found["metric"], given, problems)
    if "run_cap" in found:
        given.setdefault("budget", {})["trials"] = found["run_cap"]
    if "early_terminate" in found:
        notes += _read_early_terminate(*found["early_terminate"], given, problems)
    return given, tuple(notes)


def _read_method(line: int, method: object, given: Given, problems: Problems) -> None:
    samplers = SWEEP_SETTINGS["sampler.name"].choices
    if not isinstance(method, str) or method not in METHODS:
        hint = did_you_mean(str(method), METHODS)
        problems.add(line, "method", f"expected {', '.join(METHODS)}, got {method!r}{hint}")
    elif METHODS[method] not in samplers:
        what = f"no sampler for {method}; write sampler: {{name: ...}} with {' or '.join(samplers)}"
        problems.add(line, "method", what)
    else:
        given["sampler"] = {"name": (line, METHODS[method])}


def _read_metric(line: int, metric: object, given: Given, problems: Problems) -> None:
    """The validation loss is what everything here compares; another metric would be ignored.

    Its target ends a sweep of W&B as `budget.target_loss` does here.
    """
    about = metric if isinstance(metric, dict) else {}
    name, goal = about.get("name"), about.get("goal", "minimize")
    if "target" in about:
        given.setdefault("budget", {})["target_loss"] = (line, about["target"])
    for key in about.keys() - {"name", "goal", "target"}:
        problems.add(line, "metric", f"unknown key {key}; name, goal and target are known")
    if name != "val_loss" or goal != "minimize":
        what = (
            "trials are compared by val_loss, nats per token, the lower the better; expected "
            f"{{name: val_loss, goal: minimize}}, got {metric!r}. train.evaluate says of which "
            "weights"
        )
        problems.add(line, "metric", what)


def _read_early_terminate(
    line: int, found: object, given: Given, problems: Problems
) -> tuple[str, ...]:
    """W&B knows hyperband alone, with brackets counted in calls of wandb.log."""
    rules = SWEEP_SETTINGS["prune.rule"].choices
    about = found if isinstance(found, dict) else {}
    if about.get("type") != "hyperband":
        known = ", ".join(rules)
        what = f"expected {{type: hyperband}}, got {found!r}; prune: {{rule: ...}} has {known}"
        problems.add(line, "early_terminate", what)
        return ()
    if "hyperband" not in rules:
        instead = " or ".join(rules)
        what = f"there is no hyperband; delete it, and write prune: {{rule: ...}} with {instead}"
        problems.add(line, "early_terminate", what)
        return ()
    given["prune"] = {"rule": (line, "hyperband")}
    unused = ", ".join(sorted(set(map(str, about)) - {"type"}))
    why = "trials are compared at fractions of their own schedule, which prune sets"
    return (f"early_terminate: {unused} not used; {why}",) if unused else ()
