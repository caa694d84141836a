"""Shared trunks: trials that differ in epochs alone begin alike, and train that part once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from model.config import (
    Config,
    ConfigError,
    Value,
    branch_steps,
    recipe_digest,
    trunk_problems,
    trunk_steps,
)
from sweep.space.hyperparameter import Choice, Range, as_number
from sweep.space.points import Key, corners, key
from sweep.space.space import Space

EPOCHS = "train.epochs"
# What says how the rate goes over a run. Trials that differ in it have no trunk in common, and are
# not compared in one table.
SCHEDULE = (
    "optim.schedule",
    "optim.warmup",
    "optim.warmup_epochs",
    "optim.warmdown",
    "optim.final_rate",
    "optim.cycle_epochs",
    "optim.cycles",
)
LISTED = 8  # epoch counts of a range that are all kept a trunk for; of a longer one powers of two
COMBINATIONS_CHECKED = 256
Kept = Mapping[str, tuple[int, ...]]  # steps at which there are trunks, rising, by recipe


def epoch_counts(space: Space) -> tuple[int, ...]:
    """The epoch counts that trunks are kept for, rising; of a long range its ends and doublings."""
    counts: set[int] = set()
    for hp in space.hyperparameters:
        if hp.setting != EPOCHS:
            continue
        if isinstance(hp.domain, Choice):
            counts |= {int(as_number(value)) for value in hp.domain.values}
            continue
        low, high = int(hp.domain.low), int(hp.domain.high)
        every = [n for n in range(low, high + 1) if hp.domain.has(n)]
        doubled = [n for n in every if n & (n - 1) == 0]
        counts |= set(every if len(every) <= LISTED else [every[0], *doubled, every[-1]])
    return tuple(sorted(counts))


def sharing_problems(space: Space) -> list[str]:
    """Why trials of `space` cannot share trunks, every reason at once; empty if they can."""
    problems = []
    if len(epoch_counts(space)) < 2:
        problems.append(f"{EPOCHS}: only trials that differ in it share any; search it")
    for name in SCHEDULE:
        if name in space.searched:
            problems.append(f"{name}: is searched, but all trials need one schedule; fix it")
    names, fallen = set(), dict[str, None]()
    for chosen in islice(corners(space.hyperparameters), COMBINATIONS_CHECKED):
        try:
            config = Config.from_settings({**space.fixed, **chosen})
        except ConfigError:  # a problem of its own
            continue
        names.add(config.optim.name)
        fallen |= dict.fromkeys(trunk_problems(config))
    if "schedule_free" in names and len(names) > 1:
        problems.append(
            "optim.name: schedule_free has no schedule and the others have one; search them apart"
        )
    # A searched schedule has said so above.
    said = {problem.partition(":")[0] for problem in problems}
    return problems + [text for text in fallen if text.partition(":")[0] not in said]


def kept_trunks(space: Space, trials: Iterable[tuple[Mapping[str, Value], float]]) -> Kept:
    """The trunks that trials leave behind, by what each has done.

    trials   settings, and the fraction of the schedule that was trained
    """
    counts, steps = epoch_counts(space), dict[str, set[int]]()
    for settings, done in trials:
        recipe = _recipe(settings, counts)
        if recipe is not None:
            passed = {step for step in recipe.branches if step <= done * recipe.steps}
            steps.setdefault(recipe.digest, set()).update(passed)
    return {digest: tuple(sorted(its)) for digest, its in steps.items()}


def spared(space: Space, settings: Mapping[str, Value], kept: Kept) -> float:
    """The fraction of its schedule that a new trial of `settings` need not train."""
    recipe = _recipe(settings, epoch_counts(space))
    if recipe is None:
        return 0.0
    usable = [step for step in kept.get(recipe.digest, ()) if step <= recipe.trunk]
    return max(usable, default=0) / recipe.steps


def useless_trunks(
    space: Space, ended: Iterable[Mapping[str, Value]], kept: Mapping[str, Iterable[int]]
) -> dict[str, set[int]]:
    """By recipe, the trunks among `kept` that no epoch count left to try would begin from.

    ended   settings of the trials that need none any more
    Of a range of epoch counts there is always one more; of a recipe that none of `ended` has,
    nothing is known.
    """
    if any(hp.setting == EPOCHS and isinstance(hp.domain, Range) for hp in space.hyperparameters):
        return {}
    tried: dict[str, dict[int, _Recipe]] = {}
    for settings in ended:
        recipe = _recipe(settings, epoch_counts(space))
        if recipe is not None:
            tried.setdefault(recipe.digest, {})[recipe.epochs] = recipe
    useless = {}
    for digest in kept.keys() & tried.keys():
        ends = next(iter(tried[digest].values())).ends
        left = [end for epochs, end in ends if epochs not in tried[digest]]
        steps = set(kept[digest])
        best = {max((step for step in steps if step <= end), default=0) for end in left}
        useless[digest] = steps - best
    return useless


def siblings(space: Space, point: Mapping[str, Value]) -> Iterator[dict[str, Value]]:
    """`point` with each other epoch count that trunks are kept for: what a trunk makes cheap."""
    domains = [
        hp.domain for hp in space.hyperparameters if hp.setting == EPOCHS and hp.active(point)
    ]
    for count in epoch_counts(space):
        if count != point.get(EPOCHS) and any(domain.has(count) for domain in domains):
            yield {**point, EPOCHS: count}


def ladder_gain(space: Space) -> float:
    """How many times less training sharing takes where a recipe is tried at every epoch count."""
    counts = epoch_counts(space)
    chosen = next(corners(space.hyperparameters))
    configs = [Config.from_settings({**space.fixed, **chosen, EPOCHS: n}) for n in counts]
    steps = [config.steps for config in configs]
    trunks = [trunk_steps(config) for config in configs]
    return sum(steps) / (max(trunks) + sum(n - t for n, t in zip(steps, trunks, strict=True)))


@dataclass(frozen=True)
class _Recipe:
    """What sharing needs to know of a trial's settings."""

    digest: str  # the same for every epoch count
    epochs: int
    steps: int
    trunk: int  # how many of the steps
    branches: tuple[int, ...]  # steps at which the trial keeps its trunk
    ends: tuple[tuple[int, int], ...]  # of the trunk, in steps, at each epoch count of the space


def _recipe(settings: Mapping[str, Value], counts: tuple[int, ...]) -> _Recipe | None:
    """None for settings that cannot be trained."""
    # What a journal gives back are lists.
    hashable = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    return _recipe_of(key(hashable), counts)


@lru_cache(maxsize=1 << 16)
def _recipe_of(settings: Key, counts: tuple[int, ...]) -> _Recipe | None:
    try:
        config = Config.from_settings(dict(settings))
    except ConfigError:
        return None
    return _Recipe(
        recipe_digest(config),
        config.train.epochs,
        config.steps,
        trunk_steps(config),
        branch_steps(config, counts),
        tuple((n, trunk_steps(config.with_epochs(n))) for n in counts),
    )
