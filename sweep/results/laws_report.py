"""The laws of runs as text and as plain data."""

from __future__ import annotations

import math
from typing import Any

from sweep.format import count_text, finite_or_none, table
from sweep.results.laws import EPOCHS, MEMBERS, PARAMETERS, TOKENS, Constant, Law
from sweep.results.laws_of_runs import LawsOfRuns
from sweep.results.power_law import EXPONENTS, WORTH

FAR = 0.03  # of what the losses span
SYMBOLS = {PARAMETERS: "N", TOKENS: "D", EPOCHS: "D'", MEMBERS: "K"}
HEADS = {
    PARAMETERS: "Loss by parameters (all of the network)",
    TOKENS: "Loss by unique tokens",
    EPOCHS: "Loss by epochs",
    MEMBERS: "Loss by members of an ensemble",
}


def laws_text(laws: LawsOfRuns) -> str:
    """What `sweep laws` prints."""
    parts = [law_text(law) for law in laws.laws]
    if laws.refused:
        parts.append("\n".join(["No law of:", *(f"  {line}" for line in laws.refused)]))
    parts.append(
        "Losses in nats per token, 95 % intervals of noise; what is extrapolated\n"
        "lies beyond the data, where nobody has looked. The best of many trials flatters itself:\n"
        "intervals do not cover choosing it."
    )
    return "\n\n".join(parts)


def law_text(law: Law) -> str:
    """One law: its constants, the points with what they are off, and what lies beyond."""
    lines = [f"{title(law)}:", f"  loss = {formula(law)}", f"  {_constants(law)}"]
    if law.worth is not None:
        lines += [f"  {line}" for line in worth_text(law.worth)]
    lines.append(f"  noise: {law.by}")
    lines += [f"  {line}" for line in _misfit(law)]
    if (best := law.rises_after) is not None:
        lines.append(
            f"  The loss is lowest at {_x(law, best.x)} and rises beyond, which no such law does: "
            "do not extrapolate."
        )
    return "\n".join([*lines, table(_rows(law))])


def title(law: Law) -> str:
    """What the law is of."""
    return f"{HEADS[law.quantity]}{f', {law.of}' if law.of else ''}"


def formula(law: Law) -> str:
    """The law in a round unit near the middle of what was measured."""
    middle = math.sqrt(law.points[0].x * law.points[-1].x)
    if law.quantity == EPOCHS:
        middle = law.largest.tokens
    unit = 1000.0 ** max(0, math.floor(math.log(middle, 1000)))
    return law.law.text(SYMBOLS[law.quantity], unit, count_text(unit) if unit > 1 else "")


def _misfit(law: Law) -> list[str]:
    """Whether points are so far off that the law may not be theirs; intervals know only noise."""
    losses = [point.loss for point in law.points]
    off = max(abs(loss - fitted) for loss, fitted in zip(losses, law.fitted, strict=True))
    share = off / (max(losses) - min(losses))
    if share < FAR or law.explained:
        return []
    return [
        f"Points are up to {off:.4f} nats off, {100 * share:.0f} % of what they span: they do not "
        "follow this law, or are noisy. Do not trust what lies beyond them."
    ]


def _constants(law: Law) -> str:
    floor, exponent = law.floor, law.exponent
    text = f"floor {_interval(floor, '.3f')}, exponent {_interval(exponent, '.3g')}"
    if floor.value == 0:
        return f"{text}; a floor of 0 says that these points do not show one"
    if exponent.low <= 1.1 * EXPONENTS[0] or exponent.high >= EXPONENTS[1] / 1.1:
        return f"{text}; these points hardly say"
    return text


def worth_text(worth: Constant) -> list[str]:
    """Muennighoff's constant, and what it says."""
    nothing, endless = worth.low < 1.1 * WORTH[0], worth.high > WORTH[1] / 1.1
    says = f"all repeats together are worth {worth.value:.3g} times the text"
    if nothing and endless:
        says = "these points do not say what repeats are worth"
    elif endless:
        says = "no end of what repeats are worth is in sight"
    elif nothing:
        says = "repeats may be worth next to nothing"
    return [
        "D' = U + U R* (1 - exp(-(epochs - 1) / R*)), U the unique tokens (2305.16264)",
        f"R* {_interval(worth, '.3g')}: {says}",
    ]


def _interval(constant: Constant, form: str) -> str:
    return f"{constant.value:{form}} ({constant.low:{form}} to {constant.high:{form}})"


def _x(law: Law, x: float) -> str:
    if math.isinf(x):
        return "endless"
    return f"{x:g}" if law.quantity in (EPOCHS, MEMBERS) else count_text(x)


def _rows(law: Law) -> list[list[str]]:
    many = law.quantity == EPOCHS and len({point.tokens for point in law.points}) > 1
    rows = [["unique tokens"] * many + [law.quantity, "trial", "val loss", "by law", "off"]]
    chosen = any(point.recipe for point in law.points)
    rows[0] += ["best of", "recipe"] if chosen else []
    for point, fitted in zip(law.points, law.fitted, strict=True):
        row = [f"{point.tokens:,.0f}"] * many + [_x(law, point.x), point.name]
        row += [f"{point.loss:.4f}", f"{fitted:.4f}", f"{point.loss - fitted:+.4f}"]
        rows.append(row + ([str(point.among), point.recipe] if chosen else []))
    for x, loss in law.beyond:
        row = [f"{law.largest.tokens:,.0f}"] * many + [_x(law, x), "-", "-"]
        rows.append([*row, _interval(loss, ".3f"), "extrapolated", *[""] * (2 * chosen)])
    return rows


def laws_data(laws: LawsOfRuns) -> dict[str, Any]:
    """Everything as plain data, for --json. Losses in nats per token; endless x is null."""
    return {
        "runs": list(laws.names),
        "laws": [_data(law) for law in laws.laws],
        "refused": list(laws.refused),
    }


def _data(law: Law) -> dict[str, Any]:
    return {
        "over": law.quantity,
        "of": law.of,
        "form": "floor + scale / x^exponent"
        + ("; x = U (1 + R (1 - exp(-(epochs - 1) / R)))" if law.worth else ""),
        "floor": vars(law.floor),
        "scale": law.law.scale,
        "exponent": vars(law.exponent),
        "worth_of_repeats": vars(law.worth) if law.worth else None,
        "noise": {"sd": law.sd, "by": law.by},
        "rises_after": law.rises_after.x if law.rises_after else None,
        "points": [
            {**vars(point), "fitted": fitted, "off": point.loss - fitted}
            for point, fitted in zip(law.points, law.fitted, strict=True)
        ],
        "extrapolated": [
            {"x": finite_or_none(x), "tokens": law.largest.tokens, **vars(loss)}
            for x, loss in law.beyond
        ],
    }
