"""Laws of the loss over parameters, unique tokens, epochs and members of an ensemble.

Each goes through the best recipe that was tried at each value: at a recipe that is held fixed the
loss need not fall (Kim et al., 2509.14786, of parameters at fixed decay). Epochs have the form of
Muennighoff et al. (2305.16264): a token that is read again is worth less each time, and all repeats
together so many times the unique tokens. A power of the epochs would say that reading on pays for
ever, and could not tell what repeats are worth in fresh text. Their form costs one constant more
and takes epochs and unique tokens together. It cannot rise either: where even the best recipe
over-fits, the report says so instead.

Arrays: B curves, the measured one first and then draws, P points of a curve, Q places asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sweep.format import count_text
from sweep.results.bootstrap import Noise, drawn_deviations
from sweep.results.power_law import (
    Laws,
    PowerLaw,
    first_law,
    fit_laws,
    fit_repeats,
    fresh_tokens,
    losses_at,
)
from sweep.results.significance import CONFIDENCE

PARAMETERS, TOKENS, EPOCHS, MEMBERS = "parameters", "unique tokens", "epochs", "members"
CONSTANTS = 3  # of a power law with a floor; what repeats are worth is one more
FEWEST = CONSTANTS + 1  # different values: with fewer nothing is left over to see a misfit by
FEWEST_EPOCHS, FEWEST_CELLS = 3, CONSTANTS + 2
DRAWS, DRAWS_OF_REPEATS = 500, 200  # the latter fit takes ten times as long
SAME_MEMBERS = "all are mixed of the same members, and others would have another curve"
BEYOND = (2.0, 4.0)  # times the largest x, where the law is asked what would be


@dataclass(frozen=True)
class Measured:
    """The best recipe at one value of what a law is over."""

    x: float
    loss: float  # nats per token, the mean of its runs
    name: str
    runs: int = 1
    recipe: str = ""  # what was searched, in words
    among: int = 1  # recipes that were measured there
    tokens: float = 0.0  # unique ones


@dataclass(frozen=True)
class Constant:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Law:
    """A law through the best recipes, and as it might have come out as well."""

    quantity: str
    of: str  # what is held fixed, or whose points these are
    points: tuple[Measured, ...]  # x rising; of epochs, unique tokens rising first
    laws: Laws  # of B curves
    worth_B: np.ndarray | None  # of epochs: what endless repeats are worth
    sd: float  # nats that points were drawn with
    by: str  # where that is from
    explained: bool = False  # whether noise that is measured or stated is as large as the misfit

    @property
    def law(self) -> PowerLaw:
        """The law itself; of epochs, in fresh tokens."""
        return first_law(self.laws)

    @property
    def floor(self) -> Constant:
        """Nats per token with endless x; of epochs, with endless fresh tokens."""
        return _constant(self.laws[0])

    @property
    def exponent(self) -> Constant:
        return _constant(self.laws[2])

    @property
    def worth(self) -> Constant | None:
        """Times the unique tokens that endless repeats are worth."""
        return None if self.worth_B is None else _constant(self.worth_B)

    def at(self, x_Q: Sequence[float] | np.ndarray, tokens: float = 0.0) -> list[Constant]:
        """Loss at each x; of epochs, at so many unique `tokens`."""
        x: np.ndarray = np.asarray(x_Q, dtype=float)
        if self.worth_B is not None:
            x = fresh_tokens(np.asarray(tokens), x, self.worth_B[:, None])
        return [_constant(loss_B) for loss_B in losses_at(self.laws, x).T]

    @property
    def fitted(self) -> list[float]:
        """The law's loss at each point."""
        return [self.at([point.x], point.tokens)[0].value for point in self.points]

    @property
    def largest(self) -> Measured:
        """The point from which on all is extrapolation."""
        return self.points[-1]

    @property
    def beyond(self) -> list[tuple[float, Constant]]:
        """(x, loss) beyond the data; at endless x last."""
        x_Q = [times * self.largest.x for times in BEYOND] + [math.inf]
        return list(zip(x_Q, self.at(x_Q, self.largest.tokens), strict=True))

    @property
    def rises_after(self) -> Measured | None:
        """The point with the lowest loss, if more x gave a higher one; no such law rises."""
        last = [point for point in self.points if point.tokens == self.largest.tokens]
        best = min(last if self.quantity == EPOCHS else self.points, key=lambda p: p.loss)
        return None if best.x == self.largest.x else best


Fit = Callable[[np.ndarray], tuple[Laws, np.ndarray | None]]


def law_over(
    quantity: str, of: str, points: Sequence[Measured], noise: Noise, draws: int = DRAWS
) -> Law | str:
    """The law through `points`, x rising; or in words why there is none."""
    what = f"{quantity}, {of}" if of else quantity
    if len(points) < FEWEST:
        values = ", ".join(count_text(point.x) for point in points) or "none"
        return f"{what}: needs {FEWEST} different values, has {len(points)}: {values}"
    if not _falls(points):
        losses = ", ".join(f"{point.loss:.4f} at {count_text(point.x)}" for point in points)
        return f"{what}: no such law, the loss does not fall: {losses}"
    x_P = np.array([point.x for point in points])
    return _drawn(quantity, of, points, noise, lambda losses: (fit_laws(x_P, losses), None), draws)


def law_over_epochs(
    cells: Sequence[Measured], noise: Noise, draws: int = DRAWS_OF_REPEATS
) -> Law | str:
    """The law through `cells`, x epochs, by unique tokens and then x rising; or why none."""
    epochs = sorted({cell.x for cell in cells})
    budgets = sorted({cell.tokens for cell in cells})
    if len(epochs) < FEWEST_EPOCHS or len(cells) < FEWEST_CELLS:
        values = ", ".join(f"{x:g}" for x in epochs) or "none"
        return (
            f"{EPOCHS}: needs {FEWEST_EPOCHS} different values, and {FEWEST_CELLS} with those at "
            f"other unique tokens, has {len(epochs)} and {len(cells)}: {values}"
        )
    if not any(_falls([cell for cell in cells if cell.tokens == tokens]) for tokens in budgets):
        losses = ", ".join(f"{cell.loss:.4f} at {cell.x:g}" for cell in cells)
        return f"{EPOCHS}: no such law, the loss does not fall: {losses}"
    tokens_P, epochs_P = np.array([(cell.tokens, cell.x) for cell in cells]).T
    of = f"{' and '.join(f'{tokens:,.0f}' for tokens in budgets)} unique tokens"
    fit: Fit = lambda losses: fit_repeats(tokens_P, epochs_P, losses)  # noqa: E731
    return _drawn(EPOCHS, of, cells, noise, fit, draws)


def _falls(points: Sequence[Measured]) -> bool:
    return len(points) > 1 and points[-1].loss < points[0].loss


def _drawn(
    quantity: str,
    of: str,
    points: Sequence[Measured],
    noise: Noise,
    fit: Fit,
    draws: int,
) -> Law:
    """The law with its draws: every point again with noise, or with what the law is off if more."""
    losses_P = np.array([point.loss for point in points])
    law = Law(quantity, of, tuple(points), *fit(losses_P[None]), sd=0.0, by="")
    fitted_P = np.array(law.fitted)
    free = len(points) - CONSTANTS - (law.worth_B is not None)
    off = math.sqrt(float(((fitted_P - losses_P) ** 2).sum()) / free)
    runs_P = np.array([point.runs for point in points])
    random = np.random.default_rng(0)
    by, explained = str(noise), noise.sd is not None and off <= noise.sd
    if not explained:
        runs_P = np.ones(len(points))
        unknown = SAME_MEMBERS if quantity == MEMBERS else "the noise between seeds is not measured"
        why = unknown if noise.sd is None else "more than the noise between seeds"
        noise = Noise(off, free)
        by = f"{off:.4f} nats that points are off the law, by {free} degrees of freedom: {why}"
    sd_B = drawn_deviations(noise, draws, random)
    drawn_BP = sd_B[:, None] * random.standard_normal((draws, len(points))) / np.sqrt(runs_P)
    curves_BP = np.maximum(np.vstack([losses_P, losses_P + drawn_BP]), 1e-6)
    return Law(
        quantity, of, tuple(points), *fit(curves_BP), sd=noise.sd or 0.0, by=by, explained=explained
    )


def _constant(value_B: np.ndarray) -> Constant:
    """The first of `value_B` with the range that holds CONFIDENCE of the others, and it."""
    value, tail = float(value_B[0]), (1 - CONFIDENCE) / 2
    low, high = np.quantile(value_B[1:] if len(value_B) > 1 else value_B, [tail, 1 - tail])
    return Constant(value, min(float(low), value), max(float(high), value))
