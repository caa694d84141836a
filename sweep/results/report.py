"""What a finished or running sweep has to say, as text."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from model.config import Value
from sweep.format import clock_text, finite_or_none, short_names, table, three_digits
from sweep.records import OUTSIDE, SEEDS, Ending, Outcome, Role, TrialEnding
from sweep.results.budget import SEARCHING, spending, spent, spent_data
from sweep.results.confirmation_report import confirmation_data, confirmation_text, confirmed
from sweep.results.edges import edges_text
from sweep.results.efficiency import Multiplier, multiplier
from sweep.results.efficiency_report import worth_of_winner
from sweep.results.ranking import Gap, gaps, judged_by, ranking, tied
from sweep.results.sequential import means_anytime
from sweep.results.settling import settled, settling_text
from sweep.results.time_left import baseline_counts, confirm_counts
from sweep.space import BudgetConfig
from sweep.space.corpus import Corpus
from sweep.view import TrialView, View

LEADERS = 10
# What --json gives of a trial's last observation.
MEASURED = (
    "val_loss",
    "val_loss_error",
    "bits_per_byte",
    "train_loss",
    "gap",
    "raw_loss",
    "ema_loss",
    "weights_loss",
    "probabilities_loss",
    "diverged_step",
)


def efficiency_of(view: View, trial: TrialView, loss: float | None = None) -> Multiplier | None:
    """The trial's data-efficiency multiplier, once the baseline is measured.

    loss   nats per token, where more is known than the trial's own
    """
    if not view.baseline or trial.last is None:
        return None
    loss = trial.val_loss if loss is None else loss
    return multiplier(loss, view.baseline, view.train_tokens(trial))


def leaderboard(view: View, width: int | None = None) -> str:
    """The best recipes as a table, lowest validation loss first, and which of them are tied.

    width   of the terminal, where settings get short names; None for a pipe or a file
    """
    ranked = ranking(view)[:LEADERS]
    if not ranked:
        return "No trial is complete yet."
    behind = {gap.name: gap for gap in gaps(view)}
    same = tied(behind.values())
    names = dict.fromkeys(name for recipe in ranked for name in recipe.trials[0].searched)
    searched = [name for name in names if name not in SEEDS]
    rows = [["trial", "val loss", "± s.e.", "worse by", "± s.e.", "", "bits/byte", "data"]]
    rows[0] += searched if width is None else short_names(searched).values()
    for recipe in ranked:
        trial = recipe.trials[0]
        assert trial.last is not None
        runs = f"{len(recipe.trials)} runs" if len(recipe.trials) > 1 else ""
        rows.append(
            [
                trial.name,
                f"{recipe.loss:.4f}",
                _or_dash(recipe.error),
                *(_worse_by(behind[recipe.name]) if recipe.name in behind else ("-", "-")),
                " ".join(filter(None, ["tied" if recipe.name in same else "", runs])),
                _or_dash(trial.last["bits_per_byte"]),
                str(efficiency_of(view, trial) or "-"),
                *(three_digits(trial.searched.get(name, "-")) for name in searched),
            ]
        )
    more = len(set(same) - {recipe.name for recipe in ranked})
    also = f" and {more} more" if more else ""
    note = ""
    if behind:
        best, by = ranked[0].name, judged_by(view, list(behind.values()))
        alone = f"no other is tied with {best}"
        note = f"{f'tied: cannot be told from {best}{also}' if same else alone}, by {by}"
    return "\n".join(filter(None, [table(rows, width), note]))


def _or_dash(number: float) -> str:
    """A loss, or a dash for what a loop outside did not tell."""
    return f"{number:.4f}" if math.isfinite(number) else "-"


def _worse_by(gap: Gap) -> tuple[str, str]:
    return f"{gap.difference:+.4f}", f"{gap.error:.4f}"


def counts(view: View) -> str:
    """How the search trials stand and what they have spent, in a line."""
    if view.role is Role.CONFIRM and view.end is None:
        return "; ".join(filter(None, [confirm_counts(view), _spending(view, Role.CONFIRM)]))
    unfinished = sum(t.outcome is None for t in view.searches())
    outcomes = ", ".join(f"{view.count(outcome)} {outcome}" for outcome in Outcome)
    outcomes += _failures(view)
    line = f"{progress(view)} trials: {outcomes}, {unfinished} unfinished"
    spent_so_far = _spending(view, Role.SEARCH)
    parts = [baseline_counts(view), line, _workers_lost(view), _sparing(view), spent_so_far]
    return "; ".join(filter(None, parts))


def _failures(view: View) -> str:
    """How many of those that failed did so by no exception of their own; empty if none did."""
    kinds = (TrialEnding.OUT_OF_MEMORY, TrialEnding.LOST)
    counted = [(sum(t.ending is kind for t in view.searches()), kind) for kind in kinds]
    said = ", ".join(f"{number} {kind}" for number, kind in counted if number)
    return f" ({said})" if said else ""


def _workers_lost(view: View) -> str:
    """How often trials lost a worker and went on; empty if none did."""
    times = sum(trial.workers_lost for trial in view.trials.values())
    return f"workers died {times} times" if times > 1 else "a worker died once" * times


def progress(view: View) -> str:
    """Search trials that count, of those in the budget: one that was lowered is none to end in."""
    done = view.count(Outcome.COMPLETE) + view.count(Outcome.PRUNED)
    asked = view.header["trials"]
    return f"{done}/{asked}" if done <= asked else f"{done}"


def text_read(view: View) -> str:
    """Which text is read, and how much of it; empty of sweeps that did not note it."""
    text = view.header.get("text")
    return str(Corpus(**text)) if text else ""


def _sparing(view: View) -> str:
    """What shared trunks made unnecessary; empty if none did."""
    used = spent(view, SEARCHING)
    share = used.spared_flops / (used.flops + used.spared_flops) if used.spared_flops else 0.0
    return f"shared trunks spared {share:.0%} of FLOPs" if share else ""


def _spending(view: View, role: Role) -> str:
    """What is spent of the budgets that were given, beside the count of trials."""
    roles = SEARCHING if role is Role.SEARCH else (role,)
    return spending(BudgetConfig(**view.budgets.get(role, {})), spent(view, roles))


def train_command(settings: Mapping[str, Value]) -> str:
    """A `sweep train` command that trains these settings again."""
    parts = [f"--set {shlex.quote(f'{name}={value}')}" for name, value in settings.items()]
    return " \\\n    ".join(["sweep train", *parts])


def baseline_line(view: View) -> str:
    """The measured baseline in a line."""
    if not view.baseline:
        return "No baseline was measured."
    points = ", ".join(f"{int(tokens):,}: {loss:.4f}" for tokens, loss in view.baseline)
    return f"Plain baseline, val loss by training tokens: {points}"


def winner(view: View) -> TrialView | None:
    """The trial to train again: the confirmed one, else the search's best; None if there is none.

    A confirmation that is not over has no winner yet.
    """
    now = confirmed(view)
    if now is not None and now.over:
        return view.trials[now.leader]
    ranked = ranking(view)
    return ranked[0].trials[0] if ranked else None


def winner_line(view: View) -> str:
    """What is known of the winner, in a line: never its lowest loss alone."""
    best = winner(view)
    if best is None:
        return "no trial is complete yet"
    efficiency = data_efficiency_text(view, best)
    worth = f", {efficiency} data" if efficiency else ""
    now = confirmed(view)
    if now is not None and now.over:
        its = means_anytime(now.losses)[best.name]
        between = f" ({its.low:.4f} to {its.high:.4f})" if math.isfinite(its.high) else ""
        loss, names, by = f"mean {its.value:.4f}{between} of {its.runs} fresh seeds", now.tied, ""
    else:
        recipe, behind = ranking(view)[0], gaps(view)
        error = f" ± {recipe.error:.4f}" if math.isfinite(recipe.error) else ""
        loss, names = f"{recipe.loss:.4f}{error}", tuple(tied(behind))
        by = f", by {judged_by(view, behind)}"
    shown = ", ".join(names[:LEADERS]) + " and more" * (len(names) > LEADERS)
    return f"trial {best.name}: val loss {loss}{worth}" + f"; tied with {shown}{by}" * bool(names)


def _loss(view: View) -> float:
    """The winner's: the mean over fresh seeds, else over the search's own."""
    now = confirmed(view)
    if now is not None and now.over:
        return fmean(now.losses[now.leader].values())
    return ranking(view)[0].loss


def worth(view: View, best: TrialView) -> tuple[float, Multiplier | None]:
    """Loss of the winner, nats per token, and its multiplier, if there is a baseline."""
    loss = _loss(view)
    return loss, efficiency_of(view, best, loss)


def trial_line(view: View, trial: TrialView) -> str:
    """How any trial went, in a line: how it ended, its loss and how far behind the best that is."""
    ended = f"{trial.outcome or 'unfinished'}{f' ({trial.reason})' * bool(trial.reason)}"
    loss = f", val loss {trial.val_loss:.4f}" if trial.last else ""
    behind = next((gap for gap in gaps(view) if gap.name == trial.name), None)
    by, tie = _worse_by(behind) if behind else ("", ""), " (tied)" * bool(behind and behind.tied)
    worse = f", {by[0]} ± {by[1]} behind the best{tie}" if behind else ""
    return f"trial {trial.name}: {ended}{loss}{worse}"


def data_efficiency_text(view: View, best: TrialView) -> str:
    """The winner's multiplier, with its interval once fresh seeds have confirmed it; else empty."""
    worth = worth_of_winner(view)
    if worth is not None and worth.name == best.name:
        return str(worth.lines)
    return str(efficiency_of(view, best, _loss(view)) or "")


def took_text(view: View) -> str:
    """How long the search took by the clock, over all its drivers; empty where nothing tells."""
    seconds = view.wall_seconds(Role.SEARCH)
    return f"; it took {clock_text(seconds)}" if seconds else ""


def confirmed_worth_line(view: View) -> str:
    """What the confirmed best is worth in data; empty without a confirmation or a baseline."""
    worth = worth_of_winner(view)
    if worth is None:
        return ""
    return f"Data efficiency of {worth.name}, by the mean of its fresh seeds: {worth.lines}."


def result(view: View, folder: Path, width: int | None = None) -> str:
    """The end of a sweep: what was confirmed, the leaderboard, what the best is worth, how on.

    width   of the terminal; None for a pipe or a file
    """
    confirmed_text = confirmation_text(view)
    title = "What the search saw, which chose what was confirmed:\n" if confirmed_text else ""
    usual = view.end is None or view.end.ending in (
        Ending.TRIALS_SPENT,
        Ending.SETTLED,
        Ending.CONFIRMED,
        Ending.MEMBERS_TRAINED,
        Ending.DISTILLED,
    )
    ended = "" if usual else f" ({view.end})"
    parts = [
        confirmed_text,
        f"{counts(view)}{took_text(view)}{ended}",
        text_read(view),
        title + leaderboard(view, width),
    ]
    parts += [settling_text(view), edges_text(view, folder)]
    best = winner(view)
    if best is not None:
        if efficiency := data_efficiency_text(view, best):
            parts.append(
                f"{baseline_line(view)}\nTrial {best.name} does with 1x what the plain baseline "
                f"needs {efficiency} the data for. How sure that is: sweep efficiency {folder}"
            )
        if not confirmed_text:
            parts.append(
                "The lowest of several validation losses flatters itself, and one seed is one "
                f"seed.\nTo run the best again with fresh seeds:\n\n  sweep confirm {folder}"
            )
        parts.append(f"To train the best settings again:\n\n  {train_command(best.settings)}")
        parts.append(f"What to do next, with charts, in one file: sweep report {folder}")
    parts.append(f"Curves: sweep ui --runs {folder.parent}    Everything else: {folder}")
    return "\n\n".join(filter(None, parts))


def state(view: View, driven: bool) -> str:
    """What the sweep does now, or why it stopped."""
    if driven:
        return "running"
    if view.end is None and view.header.get("driver") == OUTSIDE:
        return f"asked and told, {len(view.running())} out"
    return "its driver vanished" if view.end is None else str(view.end)


def sweep_data(view: View, driven: bool) -> dict[str, Any]:
    """The sweep as plain data, for --json."""
    return {
        "name": view.header["name"],
        "state": state(view, driven),
        "budget": view.header["trials"],
        "data": view.header["data"],
        "text": view.header.get("text"),
        "baseline": view.baseline,
        "spent": spent_data(spent(view, SEARCHING)),
        "settled": vars(its) if (its := settled(view)) else None,
        "confirmed": confirmation_data(view),
        "trials": [_trial_data(view, trial) for trial in view.trials.values()],
        "ranking": _ranking_data(view),
    }


def _ranking_data(view: View) -> dict[str, Any]:
    """Which trial is lowest, how far the others are behind, and what that was judged by."""
    judged = gaps(view)
    behind = [
        {
            "trial": its.name,
            "worse_by": its.difference,
            "error": finite_or_none(its.error),
            "tied": its.tied,
        }
        for its in judged
    ]
    best = ranking(view)[0].name if judged else None
    return {"best": best, "behind": behind, "judged_by": judged_by(view, judged)}


def _trial_data(view: View, trial: TrialView) -> dict[str, Any]:
    last = trial.last or {}
    worth = efficiency_of(view, trial) if trial.role is Role.SEARCH else None
    return {
        "trial": trial.name,
        "role": trial.role,
        "outcome": trial.outcome,
        "ending": trial.ending,
        "workers_lost": trial.workers_lost,
        "reason": trial.reason,
        "settings": trial.settings,
        "expected_gain": trial.expected_gain,
        "progress": last.get("basis_points", 0) / 10_000,
        **({"trunk": trial.trunk, "trained": trial.trained} if trial.trunk else {}),
        **{key: finite_or_none(last.get(key)) for key in MEASURED},
        "data_efficiency": str(worth) if worth else None,
    }
