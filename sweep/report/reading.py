"""A run folder read and worked out: what the page, the table and the sentences are written from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sweep.report.answer import Sentence, answer
from sweep.report.facts import Facts, facts_of
from sweep.report.importance import Importance, importances
from sweep.report.next_space import NextSpace, next_space
from sweep.report.slices import Plateau, Slice, plateaus, slices_of
from sweep.view import View


@dataclass(frozen=True, eq=False)
class Reading:
    """What a report says."""

    facts: Facts
    slices: list[Slice]
    plateaus: list[Plateau]
    importances: list[Importance]
    next: NextSpace | None
    answer: list[Sentence]


def reading_of(folder: Path, view: View) -> Reading:
    """The reading of the sweep in `folder`. Raises SweepError if no trial has finished."""
    facts = facts_of(folder, view)
    slices = slices_of(facts)
    flat = plateaus(facts, slices)
    shares = importances(facts.surface) if facts.surface else []
    following = next_space(facts)
    sentences = answer(facts, slices, flat, shares, following)
    return Reading(facts, slices, flat, shares, following, sentences)
