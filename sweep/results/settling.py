"""Whether a search has settled: nothing it could try is expected to gain more than chance would.

Each proposal of the loss surface notes how much any trial was expected to gain at most by then. A
handbook of the field stops a campaign where the next round's gain is below its cost (the-art-of-
tuning, chapter 3); here the measure is what two runs of one recipe differ by.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweep.format import ordinal
from sweep.results.bootstrap import ASSUMED_SD
from sweep.results.ranking import gaps, ranking, repeats_of, tied
from sweep.view import View

PATIENCE = 8  # proposals in a row
SHARE = 0.25  # of the deviation between seeds: less was expected to be gained


MUCH = 0.1  # nats: no deviation between seeds is four times that
EARLY = 0.75  # of all trials: where the best is later than that, a search was still finding better
FEW = 4  # recipes, below which one of them is late by chance
REPEATS = 4  # degrees of freedom with which a deviation is taken as measured


@dataclass(frozen=True)
class Settled:
    """What the latest proposals in a row expected, all of them next to nothing."""

    proposals: int
    gain: float  # nats, the most that was expected of any trial
    floor: float  # nats, the standard deviation between seeds
    source: str  # of the floor
    first: str  # the trial that was proposed first among them

    def __str__(self) -> str:
        return (
            f"settled: no trial since {self.first} was expected to gain more than "
            f"{self.gain:.2g} nats; seeds differ by {self.floor:.4f} ({self.source})"
        )


def settled(view: View) -> Settled | None:
    """The end of a search, if it has come to it; None if not, or where nothing was expected."""
    judged = [(t.name, t.expected_gain) for t in view.searches() if t.expected_gain is not None]
    # First what is cheap: a noise floor is read off all trials.
    if len(judged) < PATIENCE or max(gain for _, gain in judged[-PATIENCE:]) > MUCH:
        return None
    floor, source = noise_floor_of(view)
    few = next(
        (n for n, (_, gain) in enumerate(reversed(judged)) if gain > SHARE * floor), len(judged)
    )
    if few < PATIENCE:
        return None
    latest = judged[-few:]
    return Settled(few, max(gain for _, gain in latest), floor, source, latest[0][0])


def noise_floor_of(view: View) -> tuple[float, str]:
    """The standard deviation between seeds in nats, and how it is known."""
    floor = repeats_of(view, ranking(view)).floor
    if floor is None or floor.freedom < REPEATS:
        return ASSUMED_SD, "assumed: little was repeated"
    told = "told by baseline.noise" if view.header.get("noise") == floor.deviation else "measured"
    return floor.deviation, told


def settling_text(view: View) -> str:
    """What was last expected of another trial, and whether the best came late; empty if neither.

    Where no trial is complete there is nothing that another could be better than.
    """
    if not ranking(view):
        return ""
    gains = [t.expected_gain for t in view.searches() if t.expected_gain is not None]
    its = settled(view)
    if its is not None:
        names = [trial.name for trial in view.searches()]
        best = ranking(view)[0].name
        return (
            f"The search has {its}.\nIts best, {best}, was the {ordinal(names.index(best) + 1)} of "
            f"{len(names)} trials. More are unlikely to find better."
        )
    parts = []
    if gains:
        floor, source = noise_floor_of(view)
        little = next(
            (n for n, gain in enumerate(reversed(gains)) if gain > SHARE * floor), len(gains)
        )
        yet = (
            f": {PATIENCE} proposals in a row that expect so little would settle it, so far there "
            f"{'is' if little == 1 else 'are'} {little}"
        )
        parts.append(
            f"The latest proposal was expected to gain up to {gains[-1]:.2g} nats; seeds differ "
            f"by {floor:.4f} ({source}). The search has not settled{yet if little else ''}."
        )
    if late := lateness(view):
        parts.append(late)
    return "\n".join(parts)


def lateness(view: View) -> str:
    """That the best trial was among the last, and nothing earlier is tied with it; else empty."""
    ranked = ranking(view)
    places = {trial.name: place for place, trial in enumerate(view.searches(), 1)}
    if len(ranked) < FEW:
        return ""
    best = ranked[0].name
    place = places[best]
    same = [places[name] for name in tied(gaps(view))]
    if min([place, *same]) <= EARLY * len(places):
        return ""
    which = "the very last" if place == len(places) else f"the {ordinal(place)}"
    return f"Its best, {best}, was {which} of {len(places)} trials: more trials may find better."
