"""The loss surface of a sweep, read off its journal: what the trials say of settings untried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweep.records import Outcome
from sweep.search.coordinates import Pool, flops_of, pool_of
from sweep.search.forecast import Ends, Snapshot, foreseen
from sweep.search.kernel import Array
from sweep.search.seen import Seen, learn
from sweep.search.surrogate import TALL, Surrogate, hardened
from sweep.space import Point, Space
from sweep.space.compatibility import Outside, place
from sweep.view import TrialView, View


@dataclass(frozen=True, eq=False)
class Surface:
    """What the trials of a search teach of the loss at any of its settings, whoever proposed them.

    It is what proposes with `sampler.name: surface`, with its prior on decay and epochs, but for
    earlier sweeps: what `sampler.warm_start` names informs proposals alone.
    """

    space: Space
    pool: Pool
    surrogate: Surrogate
    lowest: float  # loss of any trial, or forecast of one, in nats per token

    def predict(self, points: Sequence[Point]) -> tuple[Array, Array]:
        """Mean and standard deviation of the final loss (N,) at N points, nats per token.

        Of the loss that a recipe has on average over seeds: a single run differs from it by its
        noise besides. Raises ConfigError for a point that cannot be trained.
        """
        mean, variance, _ = self.surrogate.mean_and_variance(self.pool.place(points))
        # The surface is fitted to losses whose walls were made lower; here they stand again.
        above = np.maximum(mean - self.lowest, 0.0) / TALL
        return hardened(mean, self.lowest), np.sqrt(variance) * np.exp(above)

    @property
    def noise(self) -> float:
        """Standard deviation of a run about the surface, nats per token, as it was learned."""
        return self.surrogate.scales.noise


def surface_of(space: Space, view: View) -> Surface | None:
    """The surface through the search trials in `view`; None before any has finished.

    Trials that run or were stopped count with the loss expected of them, as for the next proposal.
    """
    return surface_through(space, seen_in(space, view))


def surface_through(space: Space, seen: Sequence[Seen]) -> Surface | None:
    """The surface through these trials; None before any has finished."""
    told = [(s.loss, s.point) for s in seen if s.loss is not None and math.isfinite(s.loss)]
    rising = sorted(told, key=lambda pair: pair[0])  # whether all can be trained takes a while
    lowest = next((loss for loss, point in rising if flops_of(space, point) > 0), None)
    if not any(s.loss is not None and not s.error for s in seen) or lowest is None:
        return None
    pool = pool_of(space)
    return Surface(space, pool, learn(space, pool, seen), lowest)


def seen_in(space: Space, view: View) -> list[Seen]:
    """The trials of a search as the surface needs them; failed ones taught nothing.

    Left out is what has no place in `space`. Of many unfinished trials some stand for all.
    """
    trials = [trial for trial in view.searches() if trial.outcome is not Outcome.FAILED]
    complete = [t for t in trials if t.outcome is Outcome.COMPLETE and math.isfinite(t.val_loss)]
    chosen = {t.name for t in foreseen([t for t in trials if t.outcome is not Outcome.COMPLETE])}
    seen, ends = [], dict[int, Ends]()
    for trial in trials:
        try:
            point = place(space.hyperparameters, trial.settings)
        except Outside:
            continue
        loss, error = None, 0.0
        if trial.outcome is Outcome.COMPLETE:
            loss = trial.val_loss
        elif trial.name in chosen and (expected := _expected(trial, complete, ends)) is not None:
            loss, error = expected
        seen.append(Seen(point, loss, trial.outcome is None, error, trial.done))
    return seen


def _expected(
    trial: TrialView, complete: Sequence[TrialView], ends: dict[int, Ends]
) -> tuple[float, float] | None:
    """The final loss to expect of a trial that has not finished, and its standard error.

    ends   what the complete ones tell by basis points, made once for all that stand there
    """
    if trial.last is None:
        return None
    at = trial.last["basis_points"]
    if at not in ends:
        marks = ((peer, _loss_at(peer, at)) for peer in complete)
        ends[at] = Ends(
            [Snapshot(p.settings, now, p.val_loss) for p, now in marks if now is not None]
        )
    forecast = ends[at].expect(Snapshot(trial.settings, trial.val_loss))
    if forecast is None or not math.isfinite(forecast.loss):
        return None
    return forecast.loss, forecast.error


def _loss_at(trial: TrialView, basis_points: int) -> float | None:
    losses = (e["val_loss"] for e in trial.observations if e["basis_points"] == basis_points)
    return next(losses, None)
