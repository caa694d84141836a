"""A space as a file: from what a run folder keeps of it, or from one that a program has changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sweep.folder import RESOLVED
from sweep.space import RENAMED, SECTIONS, SWEEP_SETTINGS, Space
from sweep.space.language.reader import space_in
from sweep.space.language.yaml_nodes import Problems, read_plain


def saved_space(folder: Path) -> Space | None:
    """The space that the sweep in `folder` searches; None where this version cannot read it."""
    try:
        resolved = read_plain((folder / RESOLVED).read_text(encoding="utf-8"))
        if not isinstance(resolved["trial"], dict):  # of which nothing else here is read
            return None
        problems = Problems()
        space = space_in("\n".join(_lines(resolved)), folder.name, problems)
    # There is none, it is damaged, or another version wrote it.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        return None
    return None if problems else space


def space_text(space: Space, heading: str = "") -> str:
    """A space file that says `space`: all it searches and fixes, and what is not a default.

    heading   comment lines to begin with, without their number signs
    """
    comments = [f"# {line}".rstrip() for line in heading.splitlines()]
    resolved = space.resolved()
    resolved["fixed"].pop("data.digest", None)  # which the text itself has
    return "\n".join([*comments, *_lines(resolved)]) + "\n"


def _lines(resolved: Mapping[str, Any]) -> Iterator[str]:
    """What `Space.resolved` says, in the words of a space file."""
    resolved = {RENAMED.get(part, part): value for part, value in resolved.items()}
    yield f"name: {_inline(resolved['name'])}"
    yield "search:"
    priors = resolved.get("priors") or {}
    for setting, leaves in _leaves(resolved["search"], priors).items():
        if len(leaves) == 1 and "when" not in leaves[0]:
            only = leaves[0]
            bare = set(only) == {"values"}
            yield f"  {setting}: {_inline(only['values'] if bare else only)}"
        else:
            yield f"  {setting}:"
            yield from (f"    - {_inline(leaf)}" for leaf in leaves)
    if resolved["fixed"]:
        yield "fixed:"
        yield from (f"  {name}: {_inline(value)}" for name, value in resolved["fixed"].items())
    for part in ("points", "constraints"):
        if resolved.get(part):
            yield f"{part}:"
            yield from (f"  - {_inline(item)}" for item in resolved[part])
    if resolved.get("repeat", 1) != 1:
        yield f"repeat: {resolved['repeat']}"
    for part in SECTIONS:
        changed = {k: v for k, v in (resolved.get(part) or {}).items() if _is_changed(part, k, v)}
        if changed:
            yield f"{part}: {_inline(changed)}"


def _leaves(search: Mapping[str, Any], priors: Mapping[str, str]) -> dict[str, list[Any]]:
    """The alternatives of each setting, from hyperparameters by their names in the study."""
    leaves: dict[str, list[Any]] = {}
    for parameter, domain in search.items():
        setting, _, conditions = parameter.partition(" [")
        leaf: dict[str, Any] = {}
        if conditions:
            pairs = (c.partition("=") for c in conditions.removesuffix("]").split(", "))
            leaf["when"] = {name: _one_or_all(values.split("|")) for name, _, values in pairs}
        leaf |= {key: value for key, value in domain.items() if value is not False}
        if parameter in priors:
            at, _, within = priors[parameter].partition(" within ")
            leaf["prior"] = {"at": _number_or_text(at)}
            if within:
                leaf["prior"]["within"] = within if within.endswith("x") else float(within)
        leaves.setdefault(setting, []).append(leaf)
    return leaves


def _one_or_all(values: list[str]) -> Any:
    typed = [_number_or_text(value) for value in values]
    return typed[0] if len(typed) == 1 else typed


def _number_or_text(text: str) -> Any:
    """A value as YAML reads it: 8, 0.5, true or muon."""
    value = yaml.safe_load(text)
    return value if isinstance(value, int | float | bool) else text


def _is_changed(part: str, key: str, value: Any) -> bool:
    """Whether a section's value is one that a file must say; older versions had other keys."""
    setting = SWEEP_SETTINGS.get(f"{part}.{key}")
    if setting is None:
        return False
    default = getattr(SECTIONS[part](), key)
    return bool(value != (list(default) if isinstance(default, tuple) else default))


def _inline(value: Any) -> str:
    """`value` in YAML, in one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, dict):
        pairs = (f"{_inline(key)}: {_inline(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf).strip()[1:-1]
