"""How often 95 % intervals of multipliers and laws hold the truth: simulated, with seeds.

    nice python benchmarks/coverage.py multipliers    # five minutes of one core
    nice python benchmarks/coverage.py laws           # four

A plain baseline follows a curve that we know, at sparse token counts; its runs and the trial's get
noise. The multiplier told is that of `sweep efficiency`: read off straight lines, off the fitted
law, and off lines with the interval widened to hold the law's. Coverage is the share of baselines
whose interval holds the true multiplier; told is the median. Two truths are no laws with a floor:
one steepens on the way, one bends as two laws joined.

Laws are those that Kim et al. (2509.14786) and Muennighoff et al. (2305.16264) publish, at points
like theirs with noise of 0.004 nats, fitted by what `sweep laws` fits with: once with the noise
stated, once without, where what points are off the law has to stand for it.
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
from sweep.results.laws import MEMBERS, PARAMETERS, TOKENS, Law, Measured, law_over, law_over_epochs
from sweep.results.power_law import PowerLaw, fresh_tokens

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
    assert low is not None
    assert high is not None
    return (low.value <= true or low.side == "<") and (true <= high.value or high.side == ">")


def width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high.value / estimate.low.value - 1


@dataclass(frozen=True)
class Published:
    """A law, where it is measured, and what repeats are worth where it is over epochs too."""

    name: str
    law: PowerLaw
    quantity: str
    x: tuple[float, ...]
    tokens: tuple[float, ...] = (0.0,)
    worth: float = 0.0

    def loss(self, x: float, tokens: float) -> float:
        if self.worth:
            x = float(fresh_tokens(np.array(tokens), np.array(x), np.array(self.worth)))
        return self.law.loss(x)

    def fit(self, seed: int, noise: Noise) -> Law:
        random = np.random.default_rng([seed, len(self.name)])
        points = [
            Measured(x, self.loss(x, tokens) + SD * random.standard_normal(), "", tokens=tokens)
            for tokens in self.tokens
            for x in self.x
        ]
        fitted = (
            law_over_epochs(points, noise)
            if self.worth
            else law_over(self.quantity, "", points, noise)
        )
        assert isinstance(fitted, Law), fitted
        return fitted

    def held(self, seed: int, noise: Noise) -> list[bool]:
        """Whether floor, exponent, the loss at four times the largest x, and worth are held."""
        law = self.fit(seed, noise)
        four, loss = law.beyond[1]
        pairs = [
            (law.floor, self.law.floor),
            (law.exponent, self.law.exponent),
            (loss, self.loss(four, self.tokens[-1])),
        ]
        if law.worth is not None:
            pairs.append((law.worth, self.worth))
        return [constant.low <= true <= constant.high for constant, true in pairs]


SD = 0.004
PUBLISHED = [
    Published("Kim, parameters", PowerLaw(3.43, 0.05, 1.02), PARAMETERS, (0.15, 0.3, 0.6, 1.4)),
    Published("Kim, members", PowerLaw(3.34, 0.25, 1.02), MEMBERS, (1, 2, 3, 4, 5, 8)),
    Published("Kim, unique tokens", PowerLaw(1.92, 1.27, 0.232), TOKENS, (0.2, 0.4, 0.8, 1.6)),
    Published(
        "Muennighoff, epochs",
        PowerLaw(2.66, 0.996, 0.353),
        "",
        (1, 4, 16, 64),
        (4.0, 16.0),
        15.39,
    ),
    Published(
        "the same, to 8 epochs", PowerLaw(2.66, 0.996, 0.353), "", (1, 2, 4, 8), (4.0, 16.0), 15.39
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["multipliers", "laws"])
    parser.add_argument("--baselines", type=int, default=100, help="of each kind")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    seeds = range(arguments.baselines)
    with ProcessPoolExecutor(arguments.workers) as pool:
        if arguments.what == "multipliers":
            multipliers(pool, seeds)
        else:
            laws(pool, seeds)


def multipliers(pool: ProcessPoolExecutor, seeds: range) -> None:
    print("| baseline | true | told by lines, law | lines hold it | law | widened | widths |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for case in CASES:
        told = list(pool.map(partial(simulate, case), seeds))
        for at, true in enumerate(TRUE):
            print(row(case, true, [one[at][1] for one in told]), flush=True)


def laws(pool: ProcessPoolExecutor, seeds: range) -> None:
    """Coverage in percent, with the noise stated and without."""
    print("| law | floor | exponent | loss at 4 times the largest | worth of repeats |")
    print("|---|---|---|---|---|", flush=True)
    for published in PUBLISHED:
        kinds = [
            100 * np.mean(list(pool.map(partial(published.held, noise=noise), seeds)), axis=0)
            for noise in (Noise(SD), Noise(None))
        ]
        cells = [", ".join(f"{value:.0f}" for value in pair) for pair in zip(*kinds, strict=True)]
        print(
            " | ".join([f"| {published.name}", *cells, *["-"] * (4 - len(cells))]), "|", flush=True
        )


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
