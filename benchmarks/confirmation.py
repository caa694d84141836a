"""How sure a confirmation is, and how many runs it takes: simulated, with seeds, in a minute.

    python benchmarks/confirmation.py

Losses are drawn, never trained; all else is `sweep confirm` itself. Errors: the chance that in one
confirmation, at any of its looks, any finalist is called worse than one that is no better, and that
any interval of a mean misses. Beside it what plain t-tests at 5 % do, Holm-corrected, when
`--seeds` is raised after each look, as confirmations before were. Runs: how good the chosen
finalist is after so many, by equal and by optimal allocation.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from statistics import fmean

from sweep.results.confirmation import ConfirmationPlan, ConfirmationState, states_of
from sweep.results.sequential import means_anytime
from sweep.results.significance import compare

SIGMA = 0.004  # nats between seeds, as the field measures them
MOST = 64  # seeds drawn of each finalist
NAIVE_LOOKS = (3, 5, 8)
Losses = dict[str, dict[int, float]]
Noise = Callable[[random.Random, int], float]  # of finalist number so-and-so, in SIGMA


def normal(rng: random.Random, finalist: int) -> float:
    return rng.gauss(0, 1)


def unequal(rng: random.Random, finalist: int) -> float:
    """Every third finalist is twice as noisy."""
    return rng.gauss(0, 2 if finalist % 3 == 0 else 1)


def heavy(rng: random.Random, finalist: int) -> float:
    """Student's t with three degrees of freedom, scaled to a deviation of 1."""
    return rng.gauss(0, 1) / (rng.gammavariate(1.5, 2) / 3) ** 0.5 / 3**0.5


def draw(rng: random.Random, means: list[float], noise: Noise, shared: float) -> Losses:
    """Losses by finalist and seed; what seeds have in common deviates by `shared` SIGMA."""
    common = [rng.gauss(0, shared) for _ in range(MOST)]
    return {
        f"{number:04d}": {
            seed + 1: mean + SIGMA * (common[seed] + noise(rng, number)) for seed in range(MOST)
        }
        for number, mean in enumerate(means)
    }


def spread(rng: random.Random, finalists: int, gap: float) -> list[float]:
    """True losses above 3 nats with exponential gaps."""
    return [3 + rng.expovariate(1 / gap) for _ in range(finalists)]


def wrong(state: ConfirmationState, means: dict[str, float]) -> bool:
    """Whether the state calls a finalist worse than one that is no better."""
    return any(
        its.separated and (means[its.b] - means[its.a]) * its.difference <= 0
        for its in state.comparisons
    )


def missed(state: ConfirmationState, means: dict[str, float], only: str = "") -> bool:
    intervals = means_anytime(state.losses)
    return any(
        not its.low <= means[name] <= its.high
        for name, its in intervals.items()
        if not only or name == only
    )


def naive(losses: Losses, means: dict[str, float]) -> bool:
    """The same error of plain t-tests, with more seeds as long as nothing is separated."""
    for seeds in NAIVE_LOOKS:
        seen = {name: {s: its[s] for s in range(1, seeds + 1)} for name, its in losses.items()}
        pairs = [its for its in compare(seen) if its.separated]
        if pairs:
            return any((means[i.b] - means[i.a]) * i.difference <= 0 for i in pairs)
    return False


CASES: dict[str, tuple[Noise, float, float]] = {  # noise; in SIGMA: common to a seed, gaps
    "all equal": (normal, 0.0, 0.0),
    "all equal, seeds in common": (normal, 1.0, 0.0),
    "all equal, a third 2 x as noisy": (unequal, 0.0, 0.0),
    "all equal, heavy tails": (heavy, 0.0, 0.0),
    "gaps of a sigma, a third 2 x as noisy": (unequal, 0.0, 1.0),
}
FINALISTS = (3, 8)
GAPS = (0.5, 1.0, 3.0)  # sigma
SEEDS = (2, 3, 4, 5, 6, 8, 10, 12)


def errors(finalists: int, title: str, tries: int) -> str:
    """One case of errors as a line: percent of confirmations."""
    noise, shared, gap = CASES[title]
    rng, separated, mean, leader, plain = random.Random(finalists), 0, 0, 0, 0
    for _ in range(tries):
        true = spread(rng, finalists, gap * SIGMA) if gap else [3.0] * finalists
        losses = draw(rng, true, noise, shared)
        means = dict(zip(losses, true, strict=True))
        plan = ConfirmationPlan(tuple(losses), 8, until_separated=True)
        states = list(states_of(plan, losses))
        separated += any(wrong(state, means) for state in states)
        mean += not shared and any(missed(state, means) for state in states)
        leader += not shared and missed(states[-1], means, states[-1].leader)
        plain += naive(losses, means)
    counts = (separated, mean, leader, plain)
    figures = "".join(f"{100 * count / tries:10.1f}" for count in counts)
    return f"{finalists} finalists, {title:38}{figures}"


def runs_needed(finalists: int, gap: float, tries: int) -> str:
    """How far above the best finalist the chosen one is after so many runs, in sigma."""
    rng = random.Random(finalists)
    after: dict[int, list[tuple[float, float, int]]] = {finalists * seeds: [] for seeds in SEEDS}
    for _ in range(tries):
        true = spread(rng, finalists, gap * SIGMA)
        losses = draw(rng, true, normal, 0.0)
        regret = {n: (mean - min(true)) / SIGMA for n, mean in zip(losses, true, strict=True)}
        plan = ConfirmationPlan(tuple(losses), max(SEEDS), until_separated=False)
        leaders = {sum(map(len, s.losses.values())): s.leader for s in states_of(plan, losses)}
        for total, figures in after.items():
            seeds = range(1, total // finalists + 1)
            pick = min(losses, key=lambda name: sum(losses[name][seed] for seed in seeds))
            latest = max(runs for runs in leaders if runs <= total)
            figures.append((regret[pick], regret[leaders[latest]], latest))
    lines = [
        f"{finalists} finalists, gaps of {gap:g} sigma: runs, regret by equal, by optimal, used"
    ]
    for total, figures in after.items():
        equal, optimal, used = map(fmean, zip(*figures, strict=True))
        lines.append(f"{total:5}{equal:8.3f}{optimal:8.3f}{used:6.0f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=300, help="confirmations of each kind")
    tries = parser.parse_args().tries
    with ProcessPoolExecutor() as pool:
        # The longest first.
        regrets = [pool.submit(runs_needed, k, g, tries) for k in FINALISTS[::-1] for g in GAPS]
        cases = [pool.submit(errors, k, title, tries) for k in FINALISTS[::-1] for title in CASES]
        print(f"{'error in % of confirmations':51} separated a mean leader's  plain t")
        for result in (*cases[::-1], *regrets[::-1]):
            print(result.result(), flush=True)


if __name__ == "__main__":
    main()
