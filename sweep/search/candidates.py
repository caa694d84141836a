"""Points that a search may try next, what each costs, and where the surface sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from model.config import Value
from sweep.search.coordinates import Pool, flops_of
from sweep.search.kernel import Array, Places
from sweep.search.seen import Seen
from sweep.space import Choice, Point, Space
from sweep.space.points import drawn, share_of
from sweep.space.trunks import kept_trunks, siblings, spared

SHARING = 16  # best trials whose other epoch counts are candidates where trunks are shared
LEAST_TRAINED = 0.02  # of a schedule: an evaluation and what a trial costs beside training
WIDTHS = (0.02, 0.06, 0.2)  # of a step, as shares of the domains
MOVED = 3  # hyperparameters of many that a step moves, on average
LEAST_MOVED, MOST_MOVED = 0.25, 0.6  # of all of them


@dataclass(frozen=True)
class Candidates:
    """C points that can be trained and were not."""

    points: tuple[Point, ...]
    flops_C: Array  # of training, less what shared trunks spare
    places: Places

    def __len__(self) -> int:
        return len(self.points)

    def __add__(self, other: Candidates) -> Candidates:
        return Candidates(
            self.points + other.points,
            np.concatenate([self.flops_C, other.flops_C]),
            self.places + other.places,
        )


def _key(point: Point) -> frozenset[tuple[str, Value]]:
    """Equal for equal points; sorting those of a thousand trials would take as long as the rest."""
    return frozenset(point.items())


class Source:
    """Where candidates come from, given the trials so far."""

    def __init__(self, space: Space, pool: Pool, seen: Sequence[Seen]) -> None:
        self._space, self._pool, self._seen = space, pool, seen
        self._used = {_key(s.point) for s in seen}
        self._trunks = None
        if space.trial.share_trunks:
            self._trunks = kept_trunks(space, (({**space.fixed, **s.point}, s.done) for s in seen))

    @property
    def moves(self) -> bool:
        """Whether there are points that the pool has not."""
        return not self._pool.whole

    def pool(self) -> Candidates:
        """What is left of the pool; all of it again once a small space was tried whole."""
        pool = self._pool
        fresh = [n for n, point in enumerate(pool.points) if _key(point) not in self._used]
        if pool.whole and not fresh:
            fresh = list(range(len(pool.points)))
        points = tuple(pool.points[n] for n in fresh)
        return Candidates(points, pool.flops_N[fresh] * self._trained(points), pool.places[fresh])

    def near(self, centres: Sequence[Point], count: int, rng: np.random.Generator) -> Candidates:
        """Up to `count` steps from each of `centres`, most of them in a few hyperparameters."""
        hyperparameters = self._space.hyperparameters
        shares: list[list[float]] = []
        for centre in centres:
            at = np.array(
                [
                    share_of(hp.domain, centre[hp.setting]) if hp.active(centre) else 0.5
                    for hp in hyperparameters
                ]
            )
            size = count, len(at)
            moved = at + rng.choice(WIDTHS, size=(count, 1)) * rng.standard_normal(size)
            stays = rng.random(size) > max(LEAST_MOVED, min(MOST_MOVED, MOVED / len(at)))
            # A list's step is to any of its values: one of its share would mostly stay.
            listed = np.array([isinstance(hp.domain, Choice) for hp in hyperparameters])
            moved = np.where(listed, rng.random(size), moved)
            shares += np.clip(np.where(stays, at, moved), 0, 1 - 1e-9).tolist()
        return self._fresh(drawn(hyperparameters, share) for share in shares)

    def siblings(self, centres: Sequence[Point]) -> Candidates:
        """Other epoch counts of `centres`, of which draws alone would never come to the recipe."""
        if self._trunks is None:
            return self._fresh([])
        return self._fresh(p for c in centres[:SHARING] for p in siblings(self._space, c))

    def _fresh(self, points: Iterable[Point]) -> Candidates:
        by_key = {_key(point): point for point in points}
        space, fresh = self._space, [k for k in by_key if k not in self._used]
        flops = {k: flops_of(space, by_key[k]) for k in fresh}
        self._used |= flops.keys()
        kept = tuple(by_key[k] for k in fresh if flops[k] > 0)
        whole = np.array([f for f in flops.values() if f > 0], dtype=float)
        return Candidates(kept, whole * self._trained(kept), self._pool.place(kept))

    def _trained(self, points: Sequence[Point]) -> Array:
        """The fraction of each point's schedule that no trunk of the trials so far spares it."""
        if self._trunks is None:
            return np.ones(len(points))
        space, kept = self._space, self._trunks
        return np.array(
            [max(LEAST_TRAINED, 1 - spared(space, {**space.fixed, **p}, kept)) for p in points]
        )
