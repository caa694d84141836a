"""What a search never tried: listed values, parts of ranges and pairs of kinds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

from model.config import Value
from sweep.format import three_digits
from sweep.results.edges import is_of
from sweep.space import Choice, Hyperparameter, Range, Space, is_number
from sweep.space.points import at_share, share_of
from sweep.view import TrialView

PARTS = 4  # of a range: trials should have been in each
MANY = 8  # trials of a hyperparameter, below which gaps in a range are no news


def untried(space: Space, trials: Sequence[TrialView]) -> list[str]:
    """What no trial had, whatever became of it."""
    hps = space.hyperparameters
    return [text for hp in hps for text in _of(hp, trials)] + list(_pairs(hps, trials))


def _of(hp: Hyperparameter, trials: Sequence[TrialView]) -> Iterator[str]:
    values = [trial.searched[hp.setting] for trial in trials if is_of(hp, trial)]
    if isinstance(hp.domain, Choice):
        missing = [value for value in hp.domain.values if value not in values]
        if missing:
            yield f"{hp.parameter} {' or '.join(map(three_digits, missing))}"
        return
    if not values:
        yield f"{hp.parameter} at all"
    elif len(values) >= MANY:
        yield from _gaps(hp, hp.domain, [share_of(hp.domain, value) for value in values])


def _gaps(hp: Hyperparameter, domain: Range, shares: Sequence[float]) -> Iterator[str]:
    """Parts of the range, of equal share, that no value is in; neighbours as one."""
    empty = [not any(n <= share * PARTS < n + 1 for share in shares) for n in range(PARTS)]
    empty[-1] &= not any(share >= 1 for share in shares)
    start = None
    for n, is_empty in enumerate([*empty, False]):
        if is_empty and start is None:
            start = n
        elif not is_empty and start is not None:
            low, high = (at_share(domain, min(at / PARTS, 1 - 1e-9)) for at in (start, n))
            yield f"{hp.parameter} between {_two(low)} and {_two(high)}"
            start = None


def _two(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _pairs(hps: Sequence[Hyperparameter], trials: Sequence[TrialView]) -> Iterator[str]:
    """Two kinds without order, each tried, never together."""
    for a, b in combinations([hp for hp in hps if not hp.when and _is_kind(hp)], 2):
        had = {(t.searched.get(a.setting), t.searched.get(b.setting)) for t in trials}
        first, second = {x for x, _ in had}, {y for _, y in had}
        for x, y in product(listed(a), listed(b)):
            if x in first and y in second and (x, y) not in had:
                yield f"{a.setting} {x} with {b.setting} {y}"


def listed(hp: Hyperparameter) -> tuple[Value, ...]:
    """The values of a hyperparameter without order."""
    return hp.domain.values if isinstance(hp.domain, Choice) else ()


def _is_kind(hp: Hyperparameter) -> bool:
    return isinstance(hp.domain, Choice) and not all(map(is_number, hp.domain.values))
