"""What a space says that its author may not have meant, though nothing is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.format import three_digits
from sweep.space import Choice, Hyperparameter, Range, Space, is_number
from sweep.space.grid import make_grid

FAR = 10.0  # x between two values, from which on they are more likely the ends of a range
LISTED = 8  # values of a grid that a note lists; of more, the number


def hints(space: Space, says_trials: bool) -> Iterator[str]:
    """A note for each.

    says_trials   whether somebody gave `budget.trials`, as opposed to its default
    """
    for hp in space.hyperparameters:
        if two := _two_ends(hp):
            yield (
                f"line {hp.line}: {hp.setting}: takes these two values and none between; for a "
                f"range write {{min: {two[0]:g}, max: {two[1]:g}, log: true}}"
            )
    if space.sampler.name == "grid":
        for line in make_grid(space.hyperparameters, space.sampler.step):
            if isinstance(line.hyperparameter.domain, Range):
                listed = ", ".join(map(three_digits, line.levels))
                count = len(line.levels)
                values = listed if count <= LISTED else f"{count} values"
                yield (
                    f"line {line.hyperparameter.line}: {line.hyperparameter.setting}: is a range, "
                    f"of which the grid tries {values}; sampler.step says how far apart, or list "
                    "the values"
                )
    spent = [name for name in ("hours", "device_hours", "flops") if getattr(space.budget, name)]
    if spent and not says_trials:
        yield (
            f"budget.trials: is {space.budget.trials}, its default, so the sweep ends then even if "
            f"{spent[0]} are left; give budget.trials as well"
        )


def _two_ends(hp: Hyperparameter) -> tuple[float, float] | None:
    """Two listed fractions that lie so far apart that a range may have been meant."""
    values = hp.domain.values if isinstance(hp.domain, Choice) else ()
    numbers = sorted(value for value in values if is_number(value))
    if len(values) != 2 or len(numbers) != 2 or not any(isinstance(n, float) for n in numbers):
        return None
    low, high = numbers
    return (low, high) if low > 0 and high >= FAR * low else None
