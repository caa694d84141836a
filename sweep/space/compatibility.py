"""Whether a sweep can be continued as it is now described.

The budget may change and the space may grow. One rule covers it: every trial so far must be one
that the new space could have proposed, trained with exactly the settings that it was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model.config import DIGEST_OF, SETTINGS, Config, ConfigError, Value
from sweep.records import OUTSIDE, SEEDS, Outcome
from sweep.space.hyperparameter import Hyperparameter, Range
from sweep.space.settings import RENAMED
from sweep.space.space import Space
from sweep.view import View

# Sections that a continued sweep may have differently: they say what is spent and what is proposed.
CHANGEABLE = ("budget", "trial", "keep", "constraints", "repeat", "priors")
# And so do these settings of others.
CHANGEABLE_SETTINGS = ("sampler.warm_start",)
GROWING = ("search", "fixed")  # sections that may differ as long as every trial has its place
MULTIPLES = "baseline.multiples"  # may grow: the points that are new are measured
TOLD = 3  # trials that a refusal names


class Outside(Exception):
    """A trial that a space could not have proposed; says which value is not in it."""


def problems(
    before: Mapping[str, Any], now: Mapping[str, Any], space: Space, view: View
) -> list[str]:
    """Why the sweep resolved as `before` cannot be continued as `now`; empty if it can.

    space   `now` as a space
    view    the trials so far
    """
    before = {RENAMED.get(part, part): value for part, value in before.items()}
    reasons = []
    for part in sorted(now.keys() | before.keys()):
        old, new = before.get(part), now.get(part)
        if old == new or part in (*CHANGEABLE, *GROWING):
            continue
        if part == "points" and (new or [])[: len(old or [])] == (old or []):
            continue  # they are known by their place in the list
        if isinstance(old, dict) and isinstance(new, dict):
            keys = sorted(
                key
                for key in old.keys() | new.keys()
                if old.get(key) != new.get(key) and f"{part}.{key}" not in CHANGEABLE_SETTINGS
            )
            keys = [k for k in keys if f"{part}.{k}" != MULTIPLES or not _has_all(new[k], old[k])]
            reasons += [f"{part}: {k} was {old.get(k)!r}, is {new.get(k)!r}" for k in keys]
        elif part == "trainer" and OUTSIDE in (old, new):
            reasons.append(
                "trainer: its trials were trained outside (sweep ask), not by sweep run"
                if old == OUTSIDE
                else "trainer: its trials were trained by sweep run, not outside (sweep ask)"
            )
        elif part == "trainer":
            reasons.append("trainer: the code in model/ has changed")
        else:
            reasons.append(f"{part}: was {old!r}, is {new!r}")
    otherwise = _fixed_otherwise(before, now)
    reasons += otherwise
    if otherwise or all(before.get(part) == now.get(part) for part in GROWING):
        return reasons
    if space.baseline.multiples and view.header.get("train_tokens") != space.train_tokens:
        reasons.append(
            f"search: the baseline was measured in multiples of "
            f"{view.header.get('train_tokens')} training tokens, the smallest budget is now "
            f"{space.train_tokens}"
        )
    return reasons + _without_place(space, view)


def _has_all(new: Sequence[object], old: Sequence[object]) -> bool:
    """Whether multiples were only added: no trial depends on what the baseline was measured on."""
    return set(old) <= set(new)


def place(
    hyperparameters: Sequence[Hyperparameter], settings: Mapping[str, Value]
) -> dict[str, Value]:
    """What `hyperparameters` must have chosen for a trial to be trained with `settings`.

    Raises Outside if they could not.
    """
    chosen: dict[str, Value] = {}
    for hp in hyperparameters:
        if not hp.active(chosen):
            continue
        value = settings.get(hp.setting, SETTINGS[hp.setting].default)
        chosen[hp.setting] = _in_domain(hp, value)
    return chosen


def _in_domain(hp: Hyperparameter, value: Value) -> Value:
    """`value` as the hyperparameter spells it."""
    domain = hp.domain
    if isinstance(domain, Range):
        if domain.has(value):
            return value
        raise Outside(f"{hp.setting} {value!r}, not within {domain.low:g} to {domain.high:g}")
    check = SETTINGS[hp.setting].check
    for listed in domain.values:
        if check(listed) == check(value):
            return listed
    raise Outside(f"{hp.setting} {value!r}, not one of {list(domain.values)}")


def _fixed_otherwise(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Settings that no trial varies and that have another value now."""
    old, new = before.get("fixed", {}), now["fixed"]
    searched = {_setting(parameter) for part in (before, now) for parameter in part["search"]}
    changes = []
    for name in sorted((old.keys() | new.keys()) - searched - _moved(old, new)):
        default = SETTINGS[name].default if name in SETTINGS else None
        was, is_ = old.get(name, default), new.get(name, default)
        if was != is_:
            changes.append(f"fixed: {name} was {was!r}, is {is_!r}")
    return changes


def _setting(parameter: str) -> str:
    """The setting of a hyperparameter by its name in the study."""
    return parameter.partition(" [")[0]


def _without_place(space: Space, view: View) -> list[str]:
    reasons = []
    for trial in view.searches():
        if trial.outcome is Outcome.FAILED:  # nothing was learned from it
            continue
        try:
            chosen = place(space.hyperparameters, trial.settings)
        except Outside as error:
            reasons.append(f"search: trial {trial.name} has {error}")
            continue
        name = trained_otherwise(trial.settings, {**space.fixed, **chosen})
        if name:
            reasons.append(f"search: trial {trial.name} would have another {name} now")
    more = [f"search: and {len(reasons) - TOLD} more trials"] if len(reasons) > TOLD else []
    return reasons[:TOLD] + more


def trained_otherwise(old: Mapping[str, Value], new: Mapping[str, Value]) -> str:
    """The first setting in which the trainer would see a difference, or nothing.

    Seeds do not count: a sweep that repeats its proposals counts them up.
    """
    try:
        was, is_ = Config.from_settings(old).settings(), Config.from_settings(new).settings()
    except ConfigError:  # such a trial failed before it began
        was, is_ = dict(old), dict(new)
    same = {*SEEDS, *_moved(was, is_)}
    return next((n for n in was if n not in same and was[n] != is_.get(n)), "")


def _moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """Settings that name the same files in both, wherever these lie now."""
    return {
        name
        for name, digest in DIGEST_OF.items()
        if old.get(digest) and old.get(digest) == new.get(digest)
    }
