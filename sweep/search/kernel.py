"""How alike the losses of two points are expected to be: a bowl for all, kinds, and a smooth rest.

The sum of a quadratic in log coordinates, of an offset and a tilt for each kind (optimizers, ...),
and of a smooth residual for what no quadratic has. Every coordinate and every group of kinds has a
relevance of its own, which the data decide ("automatic relevance determination": Neal 1996): what
hardly matters then costs no evidence. Written as a kernel, because trials are fewer than
coefficients (Rasmussen & Williams 2006, 2.7).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Prior standard deviations of the bowl's coefficients, as shares of the height.
LINEAR, SQUARE, CROSS = 1.0, 0.75, 0.35
TILT = 0.5  # of a kind, as a share of its offset
LEVEL = 0.5  # nats: by how much an earlier sweep's losses may all lie higher or lower


@dataclass(frozen=True)
class Places:
    """N points as a surrogate sees them."""

    x_ND: Array  # coordinates with an order, scaled to about [-1, 1]
    kinds_NG: NDArray[np.int64]  # of what has no order: which value, by group
    expected_N: Array  # nats above the best that are expected before any trial
    doubt_NB: Array  # nats by which that may be off, together, in B independent ways
    # Which earlier sweep each was tried in, from 1; 0: in this one, as all are where it is empty.
    sweeps: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def sweeps_N(self) -> NDArray[np.int64]:
        return self.sweeps if len(self.sweeps) else np.zeros(len(self), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.x_ND)

    def __add__(self, other: Places) -> Places:
        return Places(
            np.concatenate([self.x_ND, other.x_ND]),
            np.concatenate([self.kinds_NG, other.kinds_NG]),
            np.concatenate([self.expected_N, other.expected_N]),
            np.concatenate([self.doubt_NB, other.doubt_NB]),
            np.concatenate([self.sweeps_N, other.sweeps_N]),
        )

    def __getitem__(self, rows: slice | list[int] | NDArray[np.int64]) -> Places:
        return Places(
            self.x_ND[rows],
            self.kinds_NG[rows],
            self.expected_N[rows],
            self.doubt_NB[rows],
            self.sweeps_N[rows],
        )


@dataclass(frozen=True)
class Scales:
    """What the data decide: sizes in nats, a share of the height, and relevances."""

    height: float  # nats
    residual: float  # share of the height
    noise: float  # nats
    reach: float  # of the residual, where a coordinate of relevance 1 spans 2
    axes_D: Array
    groups_G: Array
    # Of each earlier sweep: how unlike this one its surface is, and its own noise in nats.
    unlike_S: Array = field(default_factory=lambda: np.zeros(0))
    noises_S: Array = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def from_logs(cls, logs: Array, axes: int, earlier: int = 0) -> Scales:
        height, residual, noise, reach, *rest = np.exp(logs).tolist()
        ends = np.cumsum([axes, len(rest) - axes - 2 * earlier, earlier])
        return cls(height, residual, noise, reach, *np.split(np.array(rest), ends))

    def noise_of(self, sweeps_N: NDArray[np.int64]) -> Array:
        """The noise of trials by the sweep that each was tried in: (N,)."""
        return np.concatenate([[self.noise], self.noises_S])[sweeps_N]


def covariance(scales: Scales, a: Places, b: Places) -> Array:
    """Prior covariance (A, B) of the losses at two sets of points, nats squared, without noise."""
    alike = Kernel(scales, a, b).covariance + a.doubt_NB @ b.doubt_NB.T
    if not len(scales.unlike_S):
        return alike
    return alike * likeness(scales, a, b) + level(a, b)


def likeness(scales: Scales, a: Places, b: Places) -> Array:
    """How alike the surfaces are that two sets of points were tried on, 0 to 1: (A, B).

    A sweep is like another as far as both are like this one: exp(-(unlike + unlike)).
    """
    unlike = np.concatenate([[0.0], scales.unlike_S])
    both = np.exp(-unlike[a.sweeps_N][:, None] - unlike[b.sweeps_N])
    return np.where(a.sweeps_N[:, None] == b.sweeps_N, 1.0, both)


def level(a: Places, b: Places) -> Array:
    """What trials of one earlier sweep have in common beside its surface: (A, B), nats squared."""
    same = (a.sweeps_N[:, None] == b.sweeps_N) & (b.sweeps_N > 0)
    return np.asarray(LEVEL**2 * same)


def variance(scales: Scales, at: Places) -> Array:
    """The diagonal of `covariance(scales, at, at)`: (N,)."""
    squares_ND = (at.x_ND * scales.axes_D) ** 2
    dot, fourth = squares_ND.sum(axis=1), (squares_ND**2).sum(axis=1)
    bowl = 1 + LINEAR**2 * dot + SQUARE**2 * fourth + CROSS**2 * (dot**2 - fourth) / 2
    kind = (scales.groups_G**2).sum() * (1 + TILT**2 * dot)
    unit = bowl + kind + scales.residual**2
    apart = LEVEL**2 * (at.sweeps_N > 0)
    return np.asarray(scales.height**2 * unit + (at.doubt_NB**2).sum(axis=1) + apart)


class Kernel:
    """The kernel between two sets of points, without what both may be off in expectation."""

    def __init__(self, scales: Scales, a: Places, b: Places) -> None:
        self.scales, self.z_AD, self.z_BD = scales, a.x_ND * scales.axes_D, b.x_ND * scales.axes_D
        self.dot = self.z_AD @ self.z_BD.T
        squares_AD, squares_BD = self.z_AD**2, self.z_BD**2
        fourth = squares_AD @ squares_BD.T
        self.bowl = 1 + LINEAR**2 * self.dot + CROSS**2 / 2 * self.dot**2
        self.bowl += (SQUARE**2 - CROSS**2 / 2) * fourth
        self.same = [
            (a.kinds_NG[:, [g]] == b.kinds_NG[:, g]).astype(float)
            for g in range(a.kinds_NG.shape[1])
        ]
        weights = scales.groups_G**2
        self.alike = np.zeros_like(self.dot)  # sum over groups of weight where kinds are the same
        for weight, same in zip(weights, self.same, strict=True):
            self.alike += weight * same
        apart = squares_AD.sum(axis=1)[:, None] + squares_BD.sum(axis=1) - 2 * self.dot
        unlike = weights.sum() - self.alike
        self.steps2 = 5 * np.maximum(apart, 0.0) / scales.reach**2
        steps = np.sqrt(self.steps2)
        decayed = scales.residual**2 * np.exp(-steps - unlike)
        # Matern 5/2 (Rasmussen & Williams 4.17), and its fall with half the squared distance.
        self.smooth = decayed * (1 + steps + self.steps2 / 3)
        self.fall = decayed * (1 + steps) * 5 / (3 * scales.reach**2)

    @property
    def covariance(self) -> Array:
        kind = self.alike * (1 + TILT**2 * self.dot)
        return np.asarray(self.scales.height**2 * (self.bowl + kind + self.smooth))

    def slopes(self, weight: Array) -> Array:
        """Sum of `weight` times the covariance's slope by the logs of height, residual, reach and
        each relevance, of one set of points with itself; `weight` (N, N) is symmetric."""
        scales, z, dot = self.scales, self.z_AD, self.dot
        g = scales.height**2 * weight
        fall = g * self.fall
        tilted = g * (2 * LINEAR**2 + 2 * CROSS**2 * dot + 2 * TILT**2 * self.alike)
        axes = np.einsum("nd,nd->d", z, (tilted + 2 * fall) @ z)
        axes += (4 * SQUARE**2 - 2 * CROSS**2) * np.einsum("nd,nd->d", z**2, g @ z**2)
        axes -= 2 * (fall.sum(axis=1) @ z**2)
        smooth = g * self.smooth
        reach = float((fall * self.steps2).sum()) * scales.reach**2 / 5
        offset = g * (1 + TILT**2 * dot)
        groups = [
            2 * w**2 * float((offset * same).sum() - (smooth * (1 - same)).sum())
            for w, same in zip(scales.groups_G, self.same, strict=True)
        ]
        height = 2 * float((weight * self.covariance).sum())
        return np.array([height, 2 * float(smooth.sum()), reach, *axes, *groups])
