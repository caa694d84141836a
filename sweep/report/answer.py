"""The answer of a search, in sentences that a person can act on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model.config import SETTINGS
from sweep.format import count_text, three_digits
from sweep.records import SEEDS
from sweep.report.facts import Facts
from sweep.report.importance import Importance
from sweep.report.next_space import NextSpace
from sweep.report.slices import Plateau, Slice
from sweep.report.untried import untried
from sweep.results.confirmation_report import confirmed
from sweep.results.edges import edge_sentences
from sweep.results.ranking import judged_by
from sweep.results.report import efficiency_of, text_read, winner_line, worth
from sweep.results.settling import lateness, settled

NAMED = 6  # trials or values named in a sentence


@dataclass(frozen=True)
class Sentence:
    """One thing to know, under a word that says what it is about."""

    about: str
    text: str


def answer(
    facts: Facts,
    slices: Sequence[Slice],
    flat: Sequence[Plateau],
    shares: Sequence[Importance],
    following: NextSpace | None,
) -> list[Sentence]:
    """What won, how sure that is, what is at an edge, what was never tried, what to do next."""
    said = [
        Sentence("Winner", _winner(facts)),
        Sentence("How sure", _sure(facts)),
        Sentence("Edges", _edges(facts)),
        Sentence("Settled", settledness(facts)),
        Sentence("Known to", "; ".join(map(str, flat)) + "." if flat else ""),
        Sentence("What mattered", _mattered(slices, shares)),
        Sentence("Never tried", _untried(facts)),
        Sentence("Data", _data(facts)),
        Sentence("Next", "\n".join(_next(facts, following))),
    ]
    return [sentence for sentence in said if sentence.text]


def _winner(facts: Facts) -> str:
    view, best = facts.view, facts.best
    chosen = ", ".join(f"{n} {three_digits(v)}" for n, v in best.searched.items() if n not in SEEDS)
    line = winner_line(view).partition("; tied")[0].replace(" ± nan", "")
    text = f"{_capital(line)}.\nIt has {chosen}."
    measured = facts.figures.trials if facts.figures else []
    its = next((its for its in measured if its.name == best.name and not its.confirmed), None)
    if its and its.lines.low and its.lines.high and its.lines.low != its.lines.high:
        text += f" Its worth in data lies between {its.lines.low} and {its.lines.high} (95 %)."
    if view.baseline:
        points = [(tokens, loss) for tokens, loss in view.baseline if math.isfinite(loss)]
        own = view.train_tokens(best)
        plain = next((loss for tokens, loss in points if tokens == own), None)
        if plain is not None:
            loss, _ = worth(view, best)
            worse = "more" if plain > loss else "less"
            text += (
                f" The plain baseline reaches {plain:.4f} on the same {count_text(own)} tokens, "
                f"{abs(plain - loss):.4f} nats {worse}."
            )
    return text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sure(facts: Facts) -> str:
    now = confirmed(facts.view)
    if now is not None and now.over:
        runs = len(now.losses[now.leader])
        same = f"tied with {_named(now.tied)}" if now.tied else "no other finalist is tied with it"
        return f"Confirmed with {runs} fresh seeds; {same}."
    behind, tied = facts.behind, facts.tied
    by = judged_by(facts.view, behind)
    if not behind:
        text = "No other recipe has finished, so there is nothing to compare it with."
    elif tied:
        text = f"Tied with {_named(tied)}, which cannot be told from it, by {by}."
    else:
        next_best = behind[0]
        text = (
            f"No other is tied with it: the next, {next_best.name}, is {next_best.difference:.4f}"
            f"{_error(next_best.error)} behind, by {by}."
        )
    runs = len(facts.ranked[0].trials)
    chosen = "one run, chosen for its loss" if runs == 1 else f"{runs} runs, chosen for their loss"
    return f"{text} Not confirmed: it is {chosen}, which flatters it."


def _error(error: float) -> str:
    """A standard error, where it is known."""
    return f" ± {error:.4f}" if math.isfinite(error) else ""


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _edges(facts: Facts) -> str:
    if facts.space is None:
        return "The space of this sweep cannot be read by this version, so edges are not known."
    return edge_sentences(facts.edges) or "No setting of the best is at an end of its range."


def settledness(facts: Facts) -> str:
    """Whether more trials of the same space would find better, as far as is known."""
    its = settled(facts.view)
    parts = [f"The search has {its}."] if its else []
    surface = facts.surface
    if surface is not None and math.isfinite(surface.gain):
        floor, source = facts.noise
        less = ", less than that: no further trial would show it" * (surface.gain < floor)
        parts.append(
            f"With all trials in, the surface expects any other trial of this space to gain at "
            f"most {surface.gain:.2g} nats; seeds differ by {floor:.4f} ({source}){less}."
        )
    if late := lateness(facts.view):
        parts.append(late)
    return " ".join(parts)


def _mattered(slices: Sequence[Slice], shares: Sequence[Importance]) -> str:
    """The settings by their share, with what their worst value costs at the best."""
    if not shares:
        return ""
    costs: dict[str, float] = {}
    for cut in slices:
        costs.setdefault(cut.hp.setting, cut.span)
    told = [
        f"{its.setting} {its.total[1]:.0%}"
        + (f" (worst value {costs[its.setting]:+.2f} nats)" if its.setting in costs else "")
        for its in shares[:NAMED]
    ]
    return (
        f"{', '.join(told)}: the share of the loss's variance over the space that a setting is "
        "part of, and what its worst value costs the best recipe."
    )


def _untried(facts: Facts) -> str:
    if facts.space is None:
        return ""
    missing = untried(facts.space, facts.view.searches())
    more = f"; and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return "; ".join(missing[:NAMED]) + more + "." if missing else ""


def text_of(facts: Facts) -> str:
    """Which text, and how much of it; of older sweeps its name, as far as settings say."""
    if noted := text_read(facts.view):
        return noted.removeprefix("text: ")
    path = facts.best.settings.get("data.path", SETTINGS["data.path"].default)
    return str(path) if path else "the embedded corpus (source text of Python's standard library)"


def _data(facts: Facts) -> str:
    view = facts.view
    tokens = view.train_tokens(facts.best)
    epochs = facts.best.settings.get("train.epochs", SETTINGS["train.epochs"].default)
    reads = "once" if epochs == 1 else f"{epochs} times"
    text = f"{_capital(text_of(facts))}. The winner reads its {tokens:,} tokens {reads}."
    times = efficiency_of(view, facts.best)
    if times is not None and times.side == ">":
        text += (
            " The baseline ends before its loss: how much more than "
            f"{times.value:.3g}x it is worth is not known."
        )
    return text


def _next(facts: Facts, following: NextSpace | None) -> Iterator[str]:
    folder, now = facts.folder, confirmed(facts.view)
    if following is not None:
        goes = "in the same folder" if not following.problems else "as a search of its own"
        yield f"Search on, {goes}, with the space below: {following.why}"
    if now is None or not now.over:
        first = "Then confirm the best" if following else "Confirm it"
        yield f"{first} with fresh seeds: sweep confirm {folder}"
    elif following is None and not now.tied:
        yield "Nothing more is expected of this space, and its best is confirmed: train that."
    elif following is None:
        yield "Nothing more is expected of this space. Train the cheapest of those that are tied."
    if now is not None and now.over and set(now.tied) - set(now.by_text):
        yield f"More fresh seeds may tell the best apart: sweep confirm {folder} --until-separated"
