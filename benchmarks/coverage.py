"""How often a multiplier's 95 % interval holds the truth: simulated, with seeds, in ten minutes.

    nice python benchmarks/coverage.py

A plain baseline follows a curve that we know, at sparse token counts; its runs and the trial's get
noise. The multiplier told is that of `sweep efficiency`: read off straight lines, off the fitted
law, and off lines with the interval widened to hold the law's. Coverage is the share of baselines
whose interval holds the true multiplier; told is the median. Two truths are no laws with a floor:
one steepens on the way, one bends as two laws joined.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from sweep.noise import pooled_deviation
from sweep.records import BaselineRun
from sweep.results.bootstrap import Estimate, Noise, by_law, by_lines, draw, widened

TRUE = (1.2, 1.5, 3.0, 5.7)  # multipliers of the trials
Curve = Callable[[float], float]  # tokens, 1 is what trials read -> nats per token


@dataclass(frozen=True)
class Case:
    """A curve, where the baseline measures it, and its noise."""

    name: str
    curve: Curve
    multiples: tuple[float, ...]
    sd: float  # nats between seeds
    seeds: int = 1  # with several, the noise is measured


def kim(tokens: float) -> float:
    """Through Kim et al.'s standard recipe (2509.14786), 1 is their 210M tokens."""
    return float(1.92 + 1.83 * tokens**-0.232)


def steep(tokens: float) -> float:
    """Falls faster than any published law."""
    return float(2.0 + 1.2 * tokens**-0.8)


def steepening(tokens: float) -> float:
    """By more with each doubling, as a small network's loss at few steps."""
    return float(3.15 - 0.2 * np.log2(tokens) ** 1.2)


def joined(tokens: float) -> float:
    """Two laws, the second of them with twice the exponent from 3 on."""
    return kim(tokens) if tokens < 3 else float(kim(3) - 1.4 * (1 - (3 / tokens) ** 0.46))


CASES = [
    Case("Kim et al.'s law, 1 2 4 8x", kim, (1, 2, 4, 8), 0.004),
    Case("the same, 2 seeds, noise measured", kim, (1, 2, 4, 8), 0.004, 2),
    Case("the same, noise 0.03", kim, (1, 2, 4, 8), 0.03),
    Case("the same, 1 4 16x", kim, (1, 4, 16), 0.004),
    Case("a steep law, 1 2 4 8x", steep, (1, 2, 4, 8), 0.004),
    Case("the same, 1 4 16x", steep, (1, 4, 16), 0.004),
    Case("a curve that steepens, 1 2 4 8x", steepening, (1, 2, 4, 8), 0.004),
    Case("two laws joined at 3x, 1 2 4 8x", joined, (1, 2, 4, 8), 0.004),
]


def simulate(case: Case, seed: int) -> list[tuple[float, dict[str, Estimate]]]:
    """One baseline, and what it tells of a trial at each true multiplier."""
    random = np.random.default_rng([seed, len(case.name)])
    losses = [
        [case.curve(m) + case.sd * random.standard_normal() for _ in range(case.seeds)]
        for m in case.multiples
    ]
    runs = [BaselineRun(m, x) for m, its in zip(case.multiples, losses, strict=True) for x in its]
    noise = Noise(case.sd)
    if case.seeds > 1:
        noise = Noise(*pooled_deviation(losses))
    baseline = draw(runs, noise, seed)
    told = []
    for true in TRUE:
        loss = case.curve(true) + case.sd * random.standard_normal()
        lines, law = by_lines(loss, baseline, 1), by_law(loss, baseline, 1)
        estimates = {"lines": lines, "widened": widened(lines, law)}
        told.append((true, estimates | ({"law": law} if law else {})))
    return told


def holds(estimate: Estimate, true: float) -> bool:
    low, high = estimate.low, estimate.high
    return (low.value <= true or low.side == "<") and (true <= high.value or high.side == ">")


def width(estimate: Estimate) -> float:
    return estimate.high.value / estimate.low.value - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baselines", type=int, default=100, help="of each kind")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    print("| baseline | true | told by lines, law | lines hold it | law | widened | widths |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with ProcessPoolExecutor(arguments.workers) as pool:
        for case in CASES:
            told = list(pool.map(partial(simulate, case), range(arguments.baselines)))
            for at, true in enumerate(TRUE):
                print(row(case, true, [one[at][1] for one in told]), flush=True)


def row(case: Case, true: float, told: list[dict[str, Estimate]]) -> str:
    """Coverage in percent, width as the median of high / low - 1 in percent."""
    kinds = {
        kind: [one[kind] for one in told if kind in one] for kind in ("lines", "law", "widened")
    }
    points = ", ".join(f"{median(e.point.value for e in kinds[k]):.2f}" for k in ("lines", "law"))
    held = [f"{100 * np.mean([holds(e, true) for e in its]):.0f}" for its in kinds.values()]
    widths = ", ".join(f"{100 * median(map(width, its)):.0f}" for its in kinds.values())
    return " | ".join([f"| {case.name}", f"{true:g}", points, *held, f"{widths} |"])


if __name__ == "__main__":
    main()
