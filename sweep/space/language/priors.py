"""What stands under `prior:` of a hyperparameter: where the user expects its best value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from model.config import SETTINGS, Value, did_you_mean, read_number
from sweep.space import Choice, Prior, Range, is_number
from sweep.space.language.wandb import Blame
from sweep.space.language.yaml_nodes import Problems, as_text, checked

KEYS = ("at", "within")
FORM = "prior: expected {at: VALUE, within: 4x}"


def read_prior(
    name: str, line: int, prior: object, domain: Choice | Range, problems: Problems
) -> Prior | None:
    """The prior of setting `name`; None, with every problem noted, if there is something wrong."""
    blame = partial(problems.add, line, name)
    if not isinstance(prior, dict) or "at" not in prior:
        blame(f"{FORM}, got {prior!r}")
        return None
    before = len(problems)
    for key in prior.keys() - set(KEYS):
        blame(f"prior: unknown key {key}{did_you_mean(str(key), KEYS)}; at and within are known")
    at = checked(SETTINGS, name, line, prior["at"], problems)
    at = None if at is None else as_text(at)
    if at is not None and not _is_inside(domain, at):
        blame(f"prior: at {at} is outside what is searched; name a value within it")
    ordered = is_number(at) if at is not None else SETTINGS[name].kind in (int, float)
    within, factor = _within(prior, ordered, domain, blame)
    return None if at is None or len(problems) > before else Prior(at, within, factor)


def _is_inside(domain: Choice | Range, at: Value) -> bool:
    """Whether `at` is a listed value, or a number between the least and the largest."""
    if isinstance(domain, Choice) and (domain.has(at) or not is_number(at)):
        return domain.has(at)
    numbers = _numbers(domain)
    return is_number(at) and bool(numbers) and min(numbers) <= at <= max(numbers)


def _numbers(domain: Choice | Range) -> list[float]:
    if isinstance(domain, Range):
        return [domain.low, domain.high]
    return [value for value in domain.values if is_number(value)]


def _within(
    prior: Mapping[str, object], ordered: bool, domain: Choice | Range, blame: Blame
) -> tuple[float, bool]:
    """The factor or distance that `within` gives, and whether it is a factor."""
    if not ordered:
        if "within" in prior:
            blame("prior: its values have no order; leave out within")
        return 0.0, False
    text = str(prior.get("within", "")).strip()
    factor = text.endswith("x")
    try:
        within = read_number(text.removesuffix("x"))
    except ValueError:
        within = math.nan
    least, logarithmic = min(_numbers(domain), default=0.0), _is_log(domain)
    above_0 = least > 0
    forms = ["a factor above 1x (such as 4x)"] * above_0 + ["a distance above 0"] * (
        not logarithmic
    )
    right = above_0 and within > 1 if factor else not logarithmic and within > 0
    if not right or within == math.inf or isinstance(prior.get("within"), bool):
        shown = repr(prior["within"]) if "within" in prior else "nothing"
        blame(f"prior: within must be {' or '.join(forms)}, got {shown}")
    return within, factor


def _is_log(domain: Choice | Range) -> bool:
    return isinstance(domain, Range) and domain.log
