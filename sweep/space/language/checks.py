"""What is wrong with a space though each of its lines is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, islice

from model.config import SETTINGS, Config, ConfigError, Value, width_problems
from model.config.presets import SAME
from model.secrets import has_secret
from sweep.records import SEED
from sweep.space import Choice, Hyperparameter, Space
from sweep.space.baseline import baseline_points, baseline_settings
from sweep.space.constraint import violations
from sweep.space.language.yaml_nodes import Problems
from sweep.space.points import corners, draws
from sweep.space.space import BUDGET
from sweep.space.trunks import sharing_problems

COMBINATIONS_CHECKED = 256
DRAWS_CHECKED = 200
POINT_DRAWS = 50


def check_alternatives(hyperparameters: Sequence[Hyperparameter], problems: Problems) -> None:
    """Alternatives of one setting must not apply together."""
    for a, b in combinations(hyperparameters, 2):
        conditions = dict(b.when)
        apart = any(not set(v) & set(conditions.get(name, v)) for name, v in a.when)
        if a.setting == b.setting and not apart:
            problems.add(b.line, b.setting, f"may apply together with that of line {a.line}")


def check_fixed(
    hyperparameters: Sequence[Hyperparameter], fixed: dict[str, Value], problems: Problems
) -> None:
    """Add a problem for each setting that is both searched and fixed.

    One that is searched under a condition may be fixed for all other trials, as a preset fixes it.
    What follows from another fixed setting is also taken out of `fixed`, so that no later check
    adds a second problem for it.
    """
    for hp in hyperparameters:
        same = SAME.get(hp.setting)
        if hp.setting in fixed and not hp.when:
            problems.add(hp.line, hp.setting, "is both searched and fixed; keep one")
        elif same in fixed:
            problems.add(hp.line, hp.setting, f"follows from {same}, which is fixed")
            del fixed[same]


def check_secrets(fixed: Mapping[str, Value], problems: Problems) -> None:
    """Settings are kept in the run folder and shown in MLflow, so a secret is none of them."""
    for name, value in fixed.items():
        if isinstance(value, str) and has_secret(value):
            what = "has a password or a key, which would be written into the run folder and MLflow"
            where = "leave it to the environment (AWS_SECRET_ACCESS_KEY, HF_TOKEN, ...)"
            problems.add(problems.place.get(name, 0), name, f"{what}; {where}")


def ordered(hyperparameters: Sequence[Hyperparameter], problems: Problems) -> list[Hyperparameter]:
    """Parents before children; conditions in a circle or on nothing searched are problems."""
    choices: dict[str, set[Value]] = {}
    for hp in hyperparameters:
        if isinstance(hp.domain, Choice):
            choices.setdefault(hp.setting, set()).update(hp.domain.values)
    for hp in hyperparameters:
        for parent, values in hp.when:
            if parent not in SETTINGS:
                continue  # reported where the value was checked
            if parent not in choices:
                what = f"when: {parent} is not searched by values"
                problems.add(hp.line, hp.setting, what)
            elif missing := [v for v in values if v not in choices[parent]]:
                problems.add(
                    hp.line,
                    hp.setting,
                    f"when: {parent} is never {missing[0]} here",
                )
    in_order: list[Hyperparameter] = []
    waiting = list(hyperparameters)
    while waiting:
        pending = {hp.setting for hp in waiting}
        ready = [hp for hp in waiting if not pending & {name for name, _ in hp.when}]
        if not ready:
            first = waiting[0]
            problems.add(first.line, first.setting, "its conditions go in a circle")
            return in_order
        in_order += ready
        waiting = [hp for hp in waiting if hp not in ready]
    return in_order


def check_together(space: Space, problems: Problems) -> None:
    """Try combinations of extreme values, so that impossible ones surface before any GPU."""
    if not space.hyperparameters and not problems:
        problems.add(0, "search", "nothing is left to search; `sweep train` trains one model")
    if BUDGET in space.searched and space.prune.rule != "none" and BUDGET not in space.prune.peers:
        problems.add(0, "prune.peers", f"must name {BUDGET}, which is searched, or rule be none")
    if space.sampler.name != "surface":
        for hp in filter(lambda hp: hp.prior, space.hyperparameters):
            what = f"prior: sampler.name {space.sampler.name} has no use for it; "
            problems.add(hp.line, hp.setting, what + "write surface there, or leave out prior")
        if space.sampler.warm_start:
            what = f"sampler.name {space.sampler.name} has no use for it; write surface there"
            problems.add(0, "sampler.warm_start", what)
    if space.repeat > 1 and SEED in space.searched:
        problems.add(0, "repeat", f"counts {SEED} up, which is searched; keep one")
    if space.trial.share_trunks:
        for text in sharing_problems(space):
            problems.add(0, "trial.share_trunks", text)
    if (gpus := space.trial.gpus) > 1 and gpus != space.trial.width:
        text = f"above 1 a trial has whole GPUs of its own, got {gpus:g}"
        problems.add(0, "trial.gpus", text)
    impossible: dict[str, None] = {}
    for chosen in islice(corners(space.hyperparameters), COMBINATIONS_CHECKED):
        impossible |= dict.fromkeys(_impossible({**space.fixed, **chosen}, space.trial.width))
    if space.baseline.multiples and space.baseline.table:
        problems.add(0, "baseline", "measure multiples, or give a table; not both")
    for point in baseline_points(space):
        impossible |= dict.fromkeys(_impossible(baseline_settings(space, point), space.trial.width))
    for text in impossible:
        problems.add_of_settings(text)
    if not problems:
        _check_feasible(space, problems)


def _check_feasible(space: Space, problems: Problems) -> None:
    """Some point must keep every constraint that is known before training."""
    broken: dict[str, int] = {}
    tried = [
        *islice(corners(space.hyperparameters), COMBINATIONS_CHECKED),
        *draws(space.hyperparameters, DRAWS_CHECKED),
    ]
    for chosen in tried:
        beyond = violations({**space.fixed, **chosen}, space.constraints)
        names = [name for name, violation in beyond.items() if violation > 0]
        if not names:
            break
        for name in names:
            broken[name] = broken.get(name, 0) + 1
    else:
        _tell_infeasible(broken, len(tried), problems)
        return
    drawn = draws(space.hyperparameters, POINT_DRAWS) if space.constraints else []
    for point in space.points if drawn else ():
        settings = [{**space.fixed, **others, **point} for others in drawn]
        beyonds = [violations(one, space.constraints) for one in settings]
        for name in beyonds[0]:
            if all(beyond.get(name, 0) > 0 for beyond in beyonds):
                problems.add(0, "points", f"{dict(point)} breaks {name} whatever else is drawn")


def _tell_infeasible(broken: Mapping[str, int], tried: int, problems: Problems) -> None:
    for name, times in broken.items():
        what = f"{name} is broken by {times} of {tried} points tried, and none keeps them all"
        problems.add(0, "constraints", what)


def _impossible(settings: Mapping[str, object], width: int) -> tuple[str, ...]:
    try:
        return tuple(width_problems(Config.from_settings(settings), width))
    except ConfigError as error:
        return error.problems
