"""The final loss to expect of a trial: from its loss now, and from trials that have finished.

A loss in mid-run misleads where trials differ in weight decay, epochs or schedule: strong decay
looks worse until the rate has fallen, and a longer schedule is behind at every fraction but the
last. What is learned here is the drop that remains, from every setting in which trials differ and
from the loss now (`drop.py`). Learning-curve prediction usually extrapolates the curve itself
(LC-PFN, 2310.20447); after a schedule's end there is nothing left to extrapolate, and finished
trials know the drop. Where none of them was like the trial there is no forecast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from model.config import Value
from sweep.search.drop import Drops, Examples, Kernel, learn, likeliest
from sweep.search.terms import Terms, make_terms

FEWEST = 2  # finished trials, beyond one for each coordinate, before anything is expected
KEPT = 64  # finished trials that a forecast rests on: the best of them, and some of the others
BEST = 40  # of those
GROWTH = 1.25  # relevances are learned anew when there are so many times more finished trials
ANEW = 16  # up to here they always are
FORESEEN = 256  # unfinished trials that a surface goes through at most
T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """A trial at one fraction of its schedule; nats per token."""

    settings: Mapping[str, Value]
    now: float
    final: float = math.nan  # of a finished trial


@dataclass(frozen=True)
class Forecast:
    loss: float  # expected final loss, nats per token
    error: float  # standard deviation of the observed final loss about it, nats per token


def foreseen(unfinished: Sequence[T]) -> list[T]:
    """FORESEEN of the unfinished trials at most, chosen evenly.

    A surface goes through each forecast: its cost grows with the cube of their number.
    """
    most = min(FORESEEN, len(unfinished))
    return [unfinished[n * len(unfinished) // most] for n in range(most)]


def cycles_of(settings: Mapping[str, Value]) -> int | None:
    """In how many cycles the rate of a trial falls; None where it falls once.

    Only trials that agree in it are compared before their ends: a loss at the end of a cycle is
    of a low rate, one beside it of a high one, which a trial of another schedule has at no such
    fraction. Where the number is fixed, not searched, settings do not tell it: then it is 0 for all
    that have cycles.
    """
    if settings.get("optim.schedule", "cyclic") != "cyclic":
        return None
    cycles = settings.get("optim.cycles", 0)
    assert isinstance(cycles, int)
    return cycles


def expected_final(trial: Snapshot, finished: Sequence[Snapshot]) -> Forecast | None:
    """What `trial` would end at; None if too few of the finished were like it.

    finished  others at the same fraction of their schedules, with what they ended at
    """
    return Ends(finished).expect(trial)


class Ends:
    """What finished trials tell of the ends of others at one fraction; made once for many trials.

    Their settings are told apart by identity: those of one trial must never change.
    """

    def __init__(self, finished: Sequence[Snapshot]) -> None:
        self._finished = finished
        self._usable: dict[int | None, tuple[_Key, ...]] = {}
        self._terms: dict[int | None, Terms] = {}
        self._drops: dict[int | None, Drops] = {}

    def expect(self, trial: Snapshot) -> Forecast | None:
        """What `trial` would end at; None if too few of the finished were like it."""
        if not math.isfinite(trial.now):
            return Forecast(math.inf, 0.0)
        cycles = cycles_of(trial.settings)
        if cycles not in self._usable:
            self._usable[cycles] = self._like(cycles)
        usable = self._usable[cycles]
        if len(usable) <= FEWEST:
            return None
        if cycles not in self._terms:
            self._terms[cycles] = _terms(usable)
        terms = self._terms[cycles]
        coordinates = terms.place(trial.settings)
        if not terms.know(trial.settings) or len(usable) < FEWEST + len(coordinates):
            return None
        if cycles not in self._drops:
            self._drops[cycles] = _learned(usable)
        drop, error = self._drops[cycles].expect(np.array(coordinates), trial.now)
        return Forecast(trial.now + drop, error)

    def _like(self, cycles: int | None) -> tuple[_Key, ...]:
        """The finished trials whose rate falls in so many cycles."""
        return tuple(
            _Key(one)
            for one in self._finished
            if math.isfinite(one.now + one.final) and cycles_of(one.settings) == cycles
        )


class _Key:
    """A finished trial as a key of caches: its settings are told from others by identity."""

    __slots__ = ("_key", "trial")

    def __init__(self, trial: Snapshot) -> None:
        self.trial = trial
        self._key = (id(trial.settings), trial.now, trial.final)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._key == other._key


@lru_cache(maxsize=64)
def _terms(finished: tuple[_Key, ...]) -> Terms:
    return make_terms([key.trial.settings for key in finished])


@lru_cache(maxsize=64)
def _learned(finished: tuple[_Key, ...]) -> Drops:
    """What finished trials teach; the same for every trial at this fraction of its schedule."""
    terms = _terms(finished)
    kernel = _kernel(finished[: _count_of_relevance(len(finished))], terms)
    return learn(_examples(finished, terms), kernel)


@lru_cache(maxsize=64)
def _kernel(finished: tuple[_Key, ...], terms: Terms) -> Kernel:
    return likeliest(_examples(finished, terms))


def _count_of_relevance(count: int) -> int:
    """How many of the first finished trials decide what is relevant: few counts, so few fits."""
    if count <= ANEW:
        return count
    steps = int(math.log(count / ANEW) / math.log(GROWTH) + 1e-9)
    return int(ANEW * GROWTH**steps)


def _examples(finished: Sequence[_Key], terms: Terms) -> Examples:
    """The best of them and an even choice of the others, in an order of their own."""
    trials = sorted((key.trial for key in finished), key=lambda trial: (trial.final, trial.now))
    if len(trials) > KEPT:
        others = np.linspace(BEST, len(trials) - 1, KEPT - BEST).round().astype(int)
        trials = [*trials[:BEST], *(trials[number] for number in others)]
    return Examples(
        np.array([terms.place(trial.settings) for trial in trials], dtype=float),
        np.array([trial.now for trial in trials]),
        np.array([trial.final for trial in trials]),
    )
