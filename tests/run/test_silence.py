"""Workers that say nothing: how long they may, and who listens."""

from __future__ import annotations

import math

import pytest

from sweep.results.silence import LEAST, START, UNKNOWN, silence_limit
from sweep.run.silence import SECONDS_A_STEP, Listener
from sweep.view import View

HOUR = 3600.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def silent(listener: Listener, clock: Clock, names: list[str], seconds: float) -> dict[str, float]:
    """Who is beyond the limit after so many seconds of steps of one second each."""
    beyond: dict[str, float] = {}
    for _ in range(round(seconds)):
        clock.now += 1
        beyond = listener.beyond(names)
    return beyond


def test_a_trial_that_is_heard_is_not_silent():
    clock = Clock()
    listener = Listener(lambda name: 10.0, clock=clock)

    assert not silent(listener, clock, ["0000", "0001"], 9)
    listener.heard("0000")
    assert list(silent(listener, clock, ["0000", "0001"], 5)) == ["0001"]
    assert list(silent(listener, clock, ["0000", "0001"], 7)) == ["0000", "0001"]


def test_a_trial_that_waits_for_a_worker_is_not_silent():
    clock = Clock()
    listener = Listener(lambda name: 10.0, clock=clock)

    silent(listener, clock, ["0000"], 9)
    silent(listener, clock, [], 5)

    assert not silent(listener, clock, ["0000"], 9)


def test_a_driver_that_was_stopped_for_an_hour_blames_nobody():
    clock = Clock()
    listener = Listener(lambda name: 2 * SECONDS_A_STEP, clock=clock)
    listener.beyond(["0000"])

    clock.now += HOUR

    assert not listener.beyond(["0000"])


def test_a_limit_is_asked_for_only_when_a_trial_is_silent_for_long():
    """A limit looks at every trial of the sweep, and there are as many as there are workers."""
    clock, asked = Clock(), list[str]()

    def ask(name: str) -> float:
        asked.append(name)
        return 20.0

    listener = Listener(ask, 10.0, clock)

    assert not silent(listener, clock, ["0000", "0001"], 10)
    assert asked == []
    assert list(silent(listener, clock, ["0001"], 12)) == ["0001"]
    assert {*asked} == {"0001"}


def view(*seconds: float, flops: float = 1e12, others: tuple[float, ...] = ()) -> View:
    """A trial of 8 evaluations, evaluated at these; `others` took so long for all of theirs."""
    seen = View()
    settings = {"train.evals": 8}
    for number, at in enumerate([seconds, *([whole * n / 8 for n in (4, 8)] for whole in others)]):
        name = f"{number:04d}"
        about = {"role": "search", "searched": {}, "settings": settings, "flops": flops}
        seen.apply({"event": "trial", "time": 0, "trial": name, **about})
        for n, second in enumerate(at, 1):
            marks = {"basis_points": 1250 * n * (1 if not number else 4), "step": n}
            time = round(1000 * second)
            seen.apply({"event": "observation", "trial": name, "time": time, "seconds": 1, **marks})
    return seen


@pytest.mark.parametrize(
    ("seen", "limit"),
    [
        (view(), UNKNOWN),
        (view(1.0, 2.0), LEAST),
        (view(HOUR, 2 * HOUR), 20 * HOUR),
        (view(others=(8.0,)), LEAST + START),
        (view(others=(8 * HOUR,)), 20 * HOUR + START),
        (view(1.0, others=(8 * HOUR,)), 20 * HOUR),
    ],
    ids=["nothing known", "quick", "slow", "first, quick", "first, slow", "slower than others"],
)
def test_a_limit_is_a_multiple_of_what_is_expected_with_a_floor(seen, limit):
    assert silence_limit(seen, "0000", 20.0) == pytest.approx(limit, rel=0.15)


def test_a_multiple_of_zero_is_no_limit():
    assert silence_limit(view(1.0, 2.0), "0000", 0.0) == math.inf


def test_what_the_driver_was_away_counts_as_nobodys_silence():
    seen = view(1.0, 2.0)
    again = {"role": "search", "searched": {}, "settings": {}, "time": 10**9}
    seen.apply({"event": "trial", "trial": "0000", **again})

    assert silence_limit(seen, "0000", 20.0) == LEAST + START
