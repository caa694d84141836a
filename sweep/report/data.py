"""The report as plain data, for --json."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sweep.format import finite_or_none
from sweep.report.reading import Reading
from sweep.results.edges import edges_data


def report_data(reading: Reading) -> dict[str, Any]:
    """What the page says, without its charts."""
    facts, following = reading.facts, reading.next
    floor, source = facts.noise
    return {
        "name": facts.view.header["name"],
        "best": facts.best.name,
        "tied": facts.tied,
        "answer": {sentence.about: sentence.text for sentence in reading.answer},
        "edges": edges_data(facts.view, facts.folder),
        "expected_gain": finite_or_none(facts.surface.gain) if facts.surface else None,
        "noise": {"between_seeds": floor, "source": source},
        "known_to": {
            its.setting: {
                "value": its.value,
                "rounded": its.rounded,
                "between": [its.low, its.high] if its.low < its.high else None,
                "others": list(its.others),
            }
            for its in reading.plateaus
        },
        "importance": {
            its.setting: {"alone": its.alone, "total": its.total} for its in reading.importances
        },
        "next": asdict(following) if following else None,
    }
