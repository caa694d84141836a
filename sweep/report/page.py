"""The report as one HTML file that needs no server, no network and no other file."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path

from sweep.format import three_digits
from sweep.records import SEEDS
from sweep.report import tables
from sweep.report.answer import Sentence
from sweep.report.next_space import UNCHANGED
from sweep.report.progress_charts import compute, curves, data, progress
from sweep.report.reading import Reading
from sweep.report.setting_charts import importance, panels, parallel
from sweep.report.svg import SHAPES
from sweep.results.confirmation_report import confirmation_text
from sweep.results.efficiency_report import efficiency_text, noise_of
from sweep.results.external import external_text
from sweep.results.ranking import judged_by
from sweep.space.language import space_text
from sweep.view import TrialView

HERE = Path(__file__).parent
LEGEND = ("best", "tied", "complete", "pruned", "diverged", "failed")


def page(reading: Reading) -> str:
    """The whole file."""
    facts = reading.facts
    view, name = facts.view, escape(facts.view.header["name"])
    ended = f"; {view.end}" if view.end else ""
    under = f"{len(view.searches())} trials, {len(facts.complete)} complete{ended}"
    charts = [*progress(facts), compute(facts)]
    sections = [
        _fewer(reading) + f'<div class="answer">{_answer(reading.answer)}</div>',
        _section("The best", _best(reading)),
        _section("Next run", _next(reading)),
        _section("How the search went", _legend() + _grid(charts) + _grid([*curves(facts)])),
        _section("Settings", _settings(reading)),
        _section("Data efficiency", _data(reading)),
        _section("Pruned, diverged and failed", tables.lost(facts)),
        _section("How much is noise", _noise(reading)),
        _section("Every trial", tables.every_trial(facts)),
        _section("Where it comes from", _provenance(reading)),
    ]
    told = json.dumps({t.name: tooltip(t) for t in facts.shown}).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: sweep report</title><style>{_file('page.css')}</style></head><body>"
        f'<h1>{name}</h1><p class="under">{escape(under)}</p>{"".join(sections)}'
        f'<div id="tip"></div><script type="application/json" id="trials">{told}</script>'
        f"<script>{_file('page.js')}</script></body></html>\n"
    )


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{title}</h2>{inside}</section>" if inside else ""


def _fewer(reading: Reading) -> str:
    """What is left out where there are too many trials to be seen; else empty."""
    facts = reading.facts
    searches = len(facts.view.searches())
    if len(facts.shown) == searches:
        return ""
    return (
        f"<p>Charts and tables show {len(facts.shown):,} of {searches:,} trials: the best, each "
        "that was the best when it ended, and an even choice of the others. Sentences and counts "
        f"are of all; sweep status {escape(str(facts.folder))} --json has every one.</p>"
    )


def _grid(charts: list[str]) -> str:
    shown = "".join(charts)
    return f'<div class="charts">{shown}</div>' if shown else ""


def _answer(sentences: list[Sentence]) -> str:
    first, *rest = sentences
    lead = first.text.partition("\n")
    parts = [f"<b>{escape(lead[0])}</b>\n{escape(lead[2])}"]
    parts += [escape(sentence.text) for sentence in rest]
    about = (escape(sentence.about) for sentence in sentences)
    said = "".join(f"<dt>{a}</dt><dd>{text}</dd>" for a, text in zip(about, parts, strict=True))
    return f"<dl>{said}</dl>"


def _legend() -> str:
    marks = "".join(
        f'<span><svg viewBox="-8 -8 16 16"><path class="m {kind}" d="{SHAPES[kind]}"/></svg>{kind}'
        "</span>"
        for kind in LEGEND
    )
    hint = '<span class="hint">hover for a trial, click to follow it, Escape to let go</span>'
    return f'<div class="legend">{marks}{hint}</div>'


def _best(reading: Reading) -> str:
    facts = reading.facts
    parts = []
    if text := confirmation_text(facts.view):
        parts.append(f"<p>With fresh seeds:</p><pre>{escape(text)}</pre><p>In the search:</p>")
    parts.append(tables.table(*tables.best_rows(facts)))
    if others := external_text(facts.folder):
        parts.append(f"<pre>{escape(others)}</pre>")
    if facts.behind:
        parts.append(f"<p>Judged by {escape(judged_by(facts.view, facts.behind))}.</p>")
    parts.append(f"<p>To train it again:</p><pre>{escape(tables.command(facts))}</pre>")
    return "".join(parts)


def _next(reading: Reading) -> str:
    its = reading.next
    if its is None:
        return ""
    goes = (
        "<p>It does not continue this folder:</p><pre>" + escape("\n".join(its.problems)) + "</pre>"
        if its.problems
        else f"<p>It continues this folder, {UNCHANGED}: every trial so far counts.</p>"
    )
    return f"<p>{escape(its.why)}</p>{goes}<pre>{escape(its.text)}</pre>"


def _settings(reading: Reading) -> str:
    facts = reading.facts
    note = (
        "<p>Every trial by its value, and the loss surface fitted through all of them: what it "
        "expects there with the best trial's other settings, and its 95 % band.</p>"
        if reading.slices
        else ""
    )
    charts = [importance(reading.importances), *panels(facts, reading.slices)]
    return note + _legend() + _grid(charts) + parallel(facts)


def _data(reading: Reading) -> str:
    figures = reading.facts.figures
    if figures is None:
        return "<p>No baseline was measured, so what the trials are worth in data is not known.</p>"
    beside = f"<pre>{escape(efficiency_text(figures))}</pre>"
    return f'<div class="beside">{data(reading.facts)}{beside}</div>'


def _noise(reading: Reading) -> str:
    facts = reading.facts
    floor, source = facts.noise
    noise = noise_of(facts.view)
    return tables.pairs(
        {
            "between seeds, near the best": f"{floor:.4f} nats, {source}",
            "in data efficiency": str(noise),
            "of one evaluation": _evaluation(facts.best),
            "gaps judged by": judged_by(facts.view, facts.behind) if facts.behind else "",
        }
    )


def _evaluation(trial: TrialView) -> str:
    error = trial.last["val_loss_error"] if trial.last else math.nan
    if not math.isfinite(error):
        return ""
    return f"{error:.4f} nats, the standard error of the best trial's loss over its text"


def _provenance(reading: Reading) -> str:
    facts = reading.facts
    known, name = tables.pairs(tables.provenance(facts)), f"{facts.folder.name}-again"
    if facts.space is None:
        return known
    run = f"sweep run {facts.space.name}.yaml --name {name}"
    text = space_text(
        facts.space, f"As it was searched, with all that the command line set.\n\n  {run}"
    )
    return f"{known}<p>The same search again:</p><pre>{escape(text)}</pre>"


def tooltip(trial: TrialView) -> str:
    """What hovering says of a trial."""
    loss = f"{trial.val_loss:.4f}" if math.isfinite(trial.val_loss) else "no loss"
    head = f"{trial.name}  {loss}  {trial.ending or 'running'}"
    chosen = [f"{n} {three_digits(v)}" for n, v in trial.searched.items() if n not in SEEDS]
    return "\n".join([head, *chosen])
