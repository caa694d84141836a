"""The tables of a report: the best, what was lost, every trial, and where it all comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sweep.format import three_digits, time_text
from sweep.records import SEEDS, Outcome
from sweep.report.answer import text_of
from sweep.report.facts import Facts
from sweep.results.budget import SEARCHING, spent
from sweep.results.report import efficiency_of, train_command
from sweep.view import TrialView

LEADERS = 10
OPEN = 15  # rows of lost trials that are shown without asking
Row = Sequence[str]


def searched_names(facts: Facts) -> list[str]:
    """Searched settings in the order of the space, seeds left out."""
    names = dict.fromkeys(n for t in facts.view.searches() for n in t.searched)
    in_space = [n for n in (facts.space.searched if facts.space else names) if n in names]
    return [name for name in in_space if name not in SEEDS]


def best_rows(facts: Facts) -> tuple[Row, list[tuple[str, Row]]]:
    """The head and the rows of the best recipes, each with its trial."""
    names = searched_names(facts)
    behind = {gap.name: gap for gap in facts.behind}
    head = ["trial", "val loss", "± s.e.", "behind", "± s.e.", "", "data", *names]
    rows: list[tuple[str, Row]] = []
    for recipe in facts.ranked[:LEADERS]:
        trial, gap = recipe.trials[0], behind.get(recipe.name)
        runs = f"{len(recipe.trials)} runs" if len(recipe.trials) > 1 else ""
        tie = "best" if gap is None else "tied" if gap.tied else ""
        cells = [
            trial.name,
            f"{recipe.loss:.4f}",
            _four(recipe.error),
            _four(gap.difference) if gap else "-",
            _four(gap.error) if gap else "-",
            " ".join(filter(None, [tie, runs])),
            str(efficiency_of(facts.view, trial) or "-"),
        ]
        rows.append((trial.name, [*cells, *(_setting(trial, name) for name in names)]))
    return head, rows


def _four(number: float) -> str:
    return f"{number:.4f}" if math.isfinite(number) else "-"


def _setting(trial: TrialView, name: str) -> str:
    return three_digits(trial.searched.get(name, "-"))


def table(head: Row, rows: Sequence[tuple[str, Row]], kind: str = "") -> str:
    """An HTML table whose rows are of trials; its first cells are their names."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f'<tr data-t="{escape(trial)}">{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for trial, cells in rows
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def lost(facts: Facts) -> str:
    """Trials that were pruned, diverged or failed, with reasons."""
    if not facts.lost:
        return "<p>None: every trial that ended finished its schedule.</p>"
    counts: dict[str, int] = {}
    for trial in facts.lost:
        counts[str(trial.ending)] = counts.get(str(trial.ending), 0) + 1
    said = ", ".join(f"{number} {ending}" for ending, number in counts.items())
    names = searched_names(facts)
    rows = [
        (trial.name, _lost_row(trial, names))
        for trial in facts.lost
        if trial.name in facts.shown_names
    ]
    shown = table(["trial", "ended", "why", "at", "val loss then", *names], rows)
    if len(rows) > OPEN:
        shown = _folded(rows, len(facts.lost), shown)
    return f"<p>{escape(said)}.</p>{shown}"


def _folded(rows: Sequence[object], of: int, shown: str) -> str:
    """A long table that opens when it is asked for."""
    count = f"all {of}" if len(rows) == of else f"{len(rows)} of {of}"
    return f"<details><summary>Show {count}</summary>{shown}</details>"


def _lost_row(trial: TrialView, names: Sequence[str]) -> Row:
    done = f"{trial.last['basis_points'] / 100:.0f} %" if trial.last else "-"
    loss = _four(trial.val_loss)
    reason = trial.reason.strip().splitlines()[-1][:200] if trial.reason.strip() else ""
    return [trial.name, str(trial.ending), reason, done, loss, *(_setting(trial, n) for n in names)]


def every_trial(facts: Facts) -> str:
    """All search trials that are shown, in the order they began."""
    names = searched_names(facts)
    rows = []
    for trial in facts.shown:
        loss = _four(trial.val_loss)
        state = str(trial.ending or "running")
        worth = efficiency_of(facts.view, trial) if trial.outcome is Outcome.COMPLETE else None
        cells = [trial.name, state, loss, str(worth or "-"), time_text(trial.seconds)]
        rows.append((trial.name, [*cells, *(_setting(trial, name) for name in names)]))
    head = ["trial", "ended", "val loss", "data", "time", *names]
    return _folded(rows, len(facts.view.searches()), table(head, rows))


def pairs(rows: Mapping[str, str]) -> str:
    """A list of names with what is known of each; what is not known is left out."""
    cells = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows.items() if text
    )
    return f"<dl>{cells}</dl>"


def provenance(facts: Facts) -> dict[str, str]:
    """What to know to repeat the sweep, by name."""
    view, about = facts.view, facts.environment
    packages: Any = about.get("packages") or {}
    used = spent(view, SEARCHING)
    settings = facts.best.settings
    return {
        "sweep": f"{view.header['name']}, id {view.header.get('id', '-')}",
        "trials": f"{len(view.searches())} begun, {len(facts.complete)} complete",
        "searching took": f"{time_text(used.device_seconds)} of training, {used.flops:.3g} FLOPs",
        "text": text_of(facts),
        "tokens": f"{view.train_tokens(facts.best):,} unique training tokens of it",
        "digest of data": str(view.header.get("data", "")),
        "tokenizer": str(settings.get("data.tokenizer", "")),
        "commit": str(about.get("commit") or ""),
        "Python": str(about.get("python", "")).partition(" (")[0],
        "platform": str(about.get("platform", "")),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }


def command(facts: Facts) -> str:
    """The command that trains the best again."""
    return train_command(facts.best.settings)
