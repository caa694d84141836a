"""What a confirmation has to say: table, intervals drawn in characters, noise, the test split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from sweep.format import finite_or_none, table
from sweep.records import Event
from sweep.results.confirmation import (
    ConfirmationPlan,
    ConfirmationState,
    clusters_of,
    losses_of,
    plan_of,
    state_of,
)
from sweep.results.sequential import means_anytime, share
from sweep.results.significance import (
    SIGNIFICANCE,
    Mean,
    detectable,
    mean,
    noise_floor,
)
from sweep.view import View

WIDTH = 48  # characters of a drawn interval


def confirmed(view: View) -> ConfirmationState | None:
    """Where the last confirmation is; None where none has a loss yet."""
    plan = plan_of(view)
    if plan is None:
        return None
    state = state_of(plan, losses_of(view), kept=clusters_of(view))
    return state if state.losses.get(state.leader) else None


def confirmation_text(view: View) -> str:
    """All of it as text; empty where nothing was confirmed."""
    now, plan = confirmed(view), plan_of(view)
    if now is None or plan is None:
        return ""
    parts = [
        _heading(now, plan),
        table_of(now),
        drawn(_means(now)),
        noise_text(now),
        _curse(view, now),
    ]
    return "\n\n".join(part for part in [*parts, sealed_line(view)] if part)


def _heading(now: ConfirmationState, plan: ConfirmationPlan) -> str:
    if now.over:
        how = f"{sum(map(len, now.losses.values()))} runs"
        if len(plan.finalists) > 1:
            how += ", some are tied" if now.tied else " told the best apart"
        state = f"Confirmed with fresh seeds: {how}"
    else:
        state = f"Confirmed in part: {len(now.wanted)} runs are left before more is decided"
    return (
        f"{state}. Finalists share seeds,\nand those that may be the best get more of them. "
        "Intervals hold at 95 % for all together,\nhowever many runs are added. Nats per token on "
        "validation:"
    )


def table_of(now: ConfirmationState) -> str:
    """Finalists, best first: with unequal seeds that need not be the order of their means."""
    rows = [["trial", "mean", "95 % interval", "runs", "worse by", "interval", ""]]
    for name, its in _means(now):
        worse_by = now.against_leader(name)
        interval = f"{its.low:.4f} to {its.high:.4f}" if math.isfinite(its.high) else "-"
        worse, between = "-", "-"
        if worse_by is not None and worse_by.seeds:
            worse = f"{worse_by.difference:+.4f}"
        if worse_by is not None and math.isfinite(worse_by.high):
            between = f"{worse_by.low:+.4f} to {worse_by.high:+.4f}"
        rows.append([name, f"{its.value:.4f}", interval, str(its.runs), worse, between])
        rows[-1].append(verdict(now, name))
    return table(rows)


def verdict(now: ConfirmationState, name: str) -> str:
    """In a word or two."""
    if name in now.diverged:
        return "diverged"
    if name == now.leader:
        return "lowest" if now.tied else "best"
    if name not in now.tied:
        return "worse"
    its = now.against_leader(name)  # one run, or runs of other seeds, are judged by nothing
    judged = its is not None and math.isfinite(its.high)
    return f"tied with {now.leader}" if judged else "open"


def lowest_line(view: View) -> str:
    """Where a confirmation stands while it runs: each finalist's mean, best first."""
    now = confirmed(view)
    if now is None:
        return "no confirming run has ended yet"
    means = [
        f"{name} {its.value:.4f} of {its.runs} ({verdict(now, name)})" for name, its in _means(now)
    ]
    return f"means over fresh seeds: {', '.join(means)}"


def _means(now: ConfirmationState) -> list[tuple[str, Mean]]:
    means = means_anytime(now.losses)
    return [(name, means[name]) for name in now.order if means[name].runs]


def drawn(means: Sequence[tuple[str, Mean]], width: int = WIDTH) -> str:
    """Means and their intervals over one scale; empty where there is no interval."""
    shown = [(name, its) for name, its in means if math.isfinite(its.high)]
    if not shown:
        return ""
    low, high = min(its.low for _, its in shown), max(its.high for _, its in shown)
    span = high - low or 1.0
    names = max(len(name) for name, _ in shown)

    def column(value: float) -> int:
        return round((value - low) / span * (width - 1))

    lines = []
    for name, its in shown:
        cells = [" "] * width
        begin, end = column(its.low), column(its.high)
        cells[begin : end + 1] = "─" * (end - begin + 1)
        cells[begin], cells[end] = "├", "┤"
        cells[column(its.value)] = "●"
        lines.append(f"{name:<{names}}  {''.join(cells).rstrip()}")
    scale = f"{low:.4f}".ljust(width - 6) + f"{high:.4f}"
    return "\n".join([*lines, f"{'':<{names}}  {scale}"])


def noise_text(now: ConfirmationState) -> str:
    """The noise floor of this setup and what it lets one see."""
    sound = {n: its for n, its in now.losses.items() if its and n not in now.diverged}
    floor = noise_floor([list(its.values()) for its in sound.values()])
    if floor is None:
        return ""
    text = (
        f"Noise floor of this setup: {floor.deviation:.4f}, the standard deviation over seeds "
        f"(95 %: {floor.low:.4f} to {floor.high:.4f}, {floor.freedom} degrees of freedom)."
    )
    seeds, noise = len(now.losses[now.leader]), now.effects.noise
    if noise.freedom and seeds > 1:
        # Holm's first and strictest step.
        level = SIGNIFICANCE * share(seeds) / max(1, math.comb(len(sound), 2))
        paired = math.sqrt(2) * noise.deviation
        text_alone = _text_alone(now)
        least, likely = (
            math.hypot(detectable(paired, seeds, noise.freedom, p, level), text_alone)
            for p in (0.5, 0.8)
        )
        text += (
            f"\n{seeds} shared seeds show a difference of {least:.4f} half the time, of "
            f"{likely:.4f} four times in five.\nThe difference of two runs that share a seed has "
            f"a deviation of {paired:.4f}; without sharing it would have "
            f"{math.sqrt(2) * floor.deviation:.4f}."
        )
        if text_alone:
            text += (
                f"\nOn other text like it a difference may be off by {text_alone:.4f} besides, "
                "however many seeds: its interval has that too."
            )
        if now.by_text:
            names = ", ".join(now.by_text)
            text += f" So no seed will tell {names} from {now.leader}; more validation text may."
    return text


def _text_alone(now: ConfirmationState) -> float:
    """The least that the text leaves of an interval between the leader and another."""
    pairs = (now.against_leader(name) for name in now.order[1:])
    return min((pair.text for pair in pairs if pair is not None and pair.text), default=0.0)


def _curse(view: View, now: ConfirmationState) -> str:
    trial = view.trials.get(now.leader)
    if trial is None or now.leader in now.diverged:
        return ""
    flattered = fmean(now.losses[now.leader].values()) - trial.val_loss
    how = f"{abs(flattered):.4f} {'below' if flattered >= 0 else 'above'}"
    curse = "; the lowest of many losses flatters itself" if flattered > 0 else ""
    return (
        f"The search's own loss of {now.leader}, {trial.val_loss:.4f}, is {how} that mean and has "
        f"no part in it{curse}."
    )


def sealed_line(view: View) -> str:
    """What the test split said, and how often it was looked at; empty while it is sealed."""
    if not view.sealed:
        return ""
    looks, last = len(view.sealed), view.sealed[-1]
    text = f"Test split: {sealed_text(last)}.\nIt is other text, so that it may differ from "
    text += "validation by more than seeds do: compare it with test losses alone."
    if looks > 1:
        text += (
            f"\nIt was looked at {looks} times; the first, {sealed_text(view.sealed[0])}, is the "
            "one that nothing was chosen by."
        )
    if last.get("elsewhere"):
        text += f"\nOther sweeps have looked at the same split: {', '.join(last['elsewhere'])}."
    return text


def sealed_text(look: Event) -> str:
    """One look at the test split."""
    its = mean(look["losses"])
    between = f" ({its.low:.4f} to {its.high:.4f})" if math.isfinite(its.high) else ""
    when = datetime.fromtimestamp(look["time"] / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{its.value:.4f}{between} nats per token, mean of {its.runs} seeds of {look['trial']}, "
        f"± {look['error']:.4f} for the text, seen {when}"
    )


def confirmation_data(view: View) -> dict[str, Any] | None:
    """The confirmation as plain data; None where there is none."""
    now, plan = confirmed(view), plan_of(view)
    if now is None or plan is None:
        return None
    sound = [list(its.values()) for n, its in now.losses.items() if its and n not in now.diverged]
    floor = noise_floor(sound)
    return {
        "winner": now.leader,
        "tied": list(now.tied),
        "over": now.over,
        "level": SIGNIFICANCE,
        "noise_floor": vars(floor) if floor else None,
        "finalists": [_finalist_data(now, name, its) for name, its in _means(now)],
        "test": [{k: v for k, v in look.items() if k != "event"} for look in view.sealed],
    }


def _finalist_data(now: ConfirmationState, name: str, its: Mean) -> dict[str, Any]:
    worse_by = now.against_leader(name)
    return {
        "trial": name,
        "runs": its.runs,
        "mean": finite_or_none(its.value),
        "low": finite_or_none(its.low),
        "high": finite_or_none(its.high),
        "worse_by": finite_or_none(worse_by.difference) if worse_by else None,
        "text": finite_or_none(worse_by.text) if worse_by else None,
        "verdict": verdict(now, name),
        "losses": {str(seed): finite_or_none(loss) for seed, loss in now.losses[name].items()},
    }
