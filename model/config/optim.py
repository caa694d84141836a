"""Settings of the optimizers, their rates, decay and schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.config.setting import setting

MULTIPLIER = "optim.weight_decay_multiplier"
# Optimizers that take every parameter; the others take the blocks' matrices, beside an AdamW.
FOR_ALL = ("adamw", "lion", "schedule_free")
# Kinds of parameters beside the blocks' matrices; betas can be given for each.
KINDS = (
    "embedding",
    "head",
    "scalars",
    "residual",
    "x0",
    "value_gates",
    "head_gates",
    "exclusions",
    "mixes",
)
USUAL_WEIGHT_DECAY = 0.1  # the value most recipes leave untouched; multipliers are relative to it


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    name: str = setting(
        "adamw",
        "",
        "muon, soap, shampoo and magma take the blocks' matrices and leave the rest to AdamW",
        choices=("adamw", "muon", "soap", "shampoo", "lion", "magma", "schedule_free"),
    )
    lr: float = setting(
        0.004,
        "",
        "peak rate; beside an AdamW for the rest, of the blocks' matrices",
        low=1e-12,
        high=10,
    )
    rest_lr: float = setting(
        0.004,
        "",
        "peak AdamW rate of all but the blocks' matrices, where those have their own",
        above=0,
        high=10,
    )
    embedding_lr: float = setting(
        0.0, "", "peak rate of embedding tables; 0: as the rest", low=0, high=10
    )
    head_lr: float = setting(0.0, "", "peak rate of the head; 0: as the rest", low=0, high=10)
    scalar_lr: float = setting(
        0.0, "", "peak rate of gains, biases, gates and scalars; 0: as the rest", low=0, high=10
    )
    residual_lr: float = setting(
        0.0, "", "peak rate of input scales and skips; 0: as scalars", low=0, high=10
    )
    mix_lr: float = setting(0.0, "", "peak rate of mixes of heads; 0: as scalars", low=0, high=10)
    gates_as_matrices: str = setting(
        "no",
        "",
        "gates that are trained and decayed as the blocks' matrices are: of value residuals, or "
        "of heads too; the others are scalars without decay",
        choices=("no", "value", "all"),
    )
    weight_decay_multiplier: float = setting(
        1.0, "x 0.1", "decoupled decay: each step shrinks weights by lr x 0.1 x this", low=0
    )
    decay_timescale: float = setting(
        0.0,
        "epochs",
        "how long weights remember, 1 / (lr x decay x steps per epoch) (2405.13698): sets the "
        "multiplier; 0: follows from it",
        low=0,
    )
    decay_schedule: str = setting(
        "constant",
        "",
        "decay over the run: constant, by decay_points, or rising as the rate falls (slowrun #90)",
        choices=("constant", "piecewise", "rising"),
    )
    decay_points: tuple[str, ...] = setting(
        (),
        "of run:x",
        "decay multiples at fractions of the run, joined by lines: 0:1, 0.4:0.1, 1:1",
    )
    decay_low: float = setting(
        0.7, "x", "decay at the peak rate, with decay_schedule rising", low=0, high=1
    )
    embedding_decay: float = setting(
        1.0, "x", "decay of embedding tables, as a multiple of that of the blocks' matrices", low=0
    )
    cautious_decay: str = setting(
        "no",
        "",
        "decay only weights that the update shrinks too (2510.12402): of the blocks' matrices "
        "alone (slowrun), or of all that decays",
        choices=("no", "matrices", "all"),
    )
    momentum: float = setting(0.95, "", "Muon's momentum", low=0, high=0.999)
    momentum_start: float = setting(0.85, "", "Muon's momentum at first", low=0, high=0.999)
    momentum_warmup: float = setting(
        0.0, "of run", "fraction in which momentum rises from its start", low=0, high=1
    )
    muon_scale: str = setting(
        "rms",
        "",
        "match AdamW's update size (2502.16982), or sqrt(rows / columns) on rate and so decay",
        choices=("rms", "shape"),
    )
    muon_iteration: str = setting(
        "quintic",
        "",
        "coefficients of Newton-Schulz: Jordan's, or Polar Express (2505.16932)",
        choices=("quintic", "polar_express"),
    )
    row_normalised: bool = setting(
        False, "", "Muon: rows of the update to unit length first (MuonEq-R, slowrun #71)"
    )
    normuon: bool = setting(False, "", "Muon: even out updates by row afterwards (2510.05491)")
    beta1: float = setting(
        0.9,
        "",
        "mean of gradients, also in the AdamW beside muon and shampoo, which have none",
        low=0,
        high=0.999,
    )
    beta2: float = setting(0.95, "", "mean of squared gradients, as beta1", low=0, high=0.9999)
    group_betas: tuple[str, ...] = setting(
        (),
        "kind:beta1:beta2",
        "kinds of parameters with betas of their own, as x0:0.96:0.95; kinds: " + ", ".join(KINDS),
    )
    eps: float = setting(
        1e-8,
        "",
        "added to the root of that mean; of gradients, which are small for rare tokens",
        above=0,
        high=1,
    )
    schedule: str = setting(
        "cosine",
        "",
        "how the rate falls: whole run, anew in each of optim.cycles, or in the last warmdown "
        "(1 - sqrt: 2405.18392); schedule_free has none",
        choices=(
            "cosine",
            "linear",
            "cyclic",
            "constant",
            "constant_linear",
            "constant_1-sqrt",
            "constant_sqrt",
        ),
    )
    warmup: float = setting(0.05, "of run", "fraction with a rising rate", low=0, high=0.9)
    warmup_epochs: float = setting(
        0.0, "epochs", "in place of warmup: a rise of the same length in runs of any epochs", low=0
    )
    warmdown: float = setting(
        0.4, "of run", "last fraction, in which a constant rate falls", above=0, high=1
    )
    final_rate: float = setting(0.0, "of peak", "the rate at the end", low=0, high=1)
    cycle_epochs: int = setting(
        0,
        "epochs",
        "last epochs, each of which lets the rate fall anew (slowrun #56); not schedule_free",
        low=0,
    )
    cycles: int = setting(
        1,
        "",
        "of the run, all as long, with schedule cyclic: in each the rate falls linearly from its "
        "peak to final_rate (2606.03938)",
        low=1,
        high=10_000,
    )
    cycle_noise: float = setting(
        0.0,
        "x std",
        "normal noise on each tensor of weights after the first cycle, as a multiple of its "
        "standard deviation (slowrun #90)",
        low=0,
        high=10,
    )
    cycle_noise_last: float = setting(
        0.0,
        "x std",
        "that noise before the last cycle; between them half a cosine",
        low=0,
        high=10,
    )
    grad_clip: float = setting(1.0, "", "largest gradient norm; 0: no clipping", low=0)

    @property
    def weight_decay(self) -> float:
        """Decoupled weight decay: a step shrinks weights by lr x this."""
        return USUAL_WEIGHT_DECAY * self.weight_decay_multiplier

    @property
    def decay_curve(self) -> tuple[tuple[float, float], ...]:
        """`decay_points` as (fraction of the run, multiple) pairs; raises ValueError."""
        points = [str(point).split(":") for point in self.decay_points]
        if any(len(point) != 2 for point in points):
            raise ValueError("a point is a fraction, a colon and a multiple")
        curve = tuple((float(at), float(multiple)) for at, multiple in points)
        fractions = [at for at, _ in curve]
        if fractions != sorted(fractions) or not all(0 <= at <= 1 for at in fractions):
            raise ValueError("fractions must rise from 0 to 1")
        if not all(0 <= multiple < math.inf for _, multiple in curve):
            raise ValueError("multiples must be 0 or above")
        return curve

    @property
    def betas(self) -> dict[str, tuple[float, float]]:
        """`group_betas` by kind of parameter; raises ValueError."""
        betas = {}
        for entry in map(str, self.group_betas):
            kind, *numbers = entry.split(":")
            if kind not in KINDS:
                raise ValueError(f"there is no kind {kind!r}, only {', '.join(KINDS)}")
            if kind in betas:
                raise ValueError(f"{kind} is there twice")
            if len(numbers) != 2 or not all(0 <= float(number) < 1 for number in numbers):
                raise ValueError("an entry is a kind and two numbers from 0 to below 1")
            betas[kind] = (float(numbers[0]), float(numbers[1]))
        return betas

    def rise(self, epochs: int) -> float:
        """The fraction of a run of so many epochs in which the rate rises."""
        return self.warmup_epochs / epochs if self.warmup_epochs else self.warmup

    def problems(self, epochs: int) -> list[str]:
        """What is possible alone but not together, nor in a run of so many epochs."""
        problems = []
        try:
            if not self.decay_curve and self.decay_schedule == "piecewise":
                problems.append("optim.decay_points: decay_schedule piecewise needs at least one")
        except ValueError as error:
            problems.append(
                f"optim.decay_points: {error}, as in 0:1, 0.4:0.1, 1:1; got "
                f"{', '.join(map(str, self.decay_points))}"
            )
        try:
            _ = self.betas
        except ValueError as error:
            problems.append(
                f"optim.group_betas: {error}, as in x0:0.96:0.95; got "
                f"{', '.join(map(str, self.group_betas))}"
            )
        rise, falls = self.rise(epochs), self.schedule.startswith("constant_")
        if rise + self.warmdown > 1 and falls and not self.warmup_epochs:
            problems.append(
                f"optim.warmdown: with optim.warmup ({self.warmup:g}) more than the whole run, "
                f"got {self.warmdown:g}"
            )
        if rise + (self.warmdown if falls else 0.1) > 1 and self.warmup_epochs:
            room = (1 - self.warmdown if falls else 0.9) * epochs
            problems.append(
                f"optim.warmup_epochs: a run of {epochs} epochs has room for {room:g} of them, got "
                f"{self.warmup_epochs:g}"
            )
        problems += self._problems_of_cycles(epochs) if self.schedule == "cyclic" else []
        if self.name == "schedule_free" and self.beta1 == 0:
            problems.append("optim.beta1: schedule_free needs it above 0")
        if self.name == "schedule_free" and self.cautious_decay != "no":
            problems.append("optim.cautious_decay: schedule_free decays on its own; set it to no")
        return problems

    def _problems_of_cycles(self, epochs: int) -> list[str]:
        problems = []
        if epochs % self.cycles:
            problems.append(
                f"optim.cycles: must divide train.epochs ({epochs}), as cycles are whole epochs, "
                f"got {self.cycles}"
            )
        if self.rise(epochs) * self.cycles >= 1:
            problems.append(
                f"optim.warmup: {self.rise(epochs):g} of the run is no shorter than the first of "
                f"its {self.cycles} cycles"
            )
        if self.cycle_epochs:
            problems.append(
                "optim.cycle_epochs: its last epochs have cycles of their own; set it to 0 with "
                f"schedule cyclic, got {self.cycle_epochs}"
            )
        if self.name == "schedule_free":
            problems.append("optim.schedule: schedule_free has no rate that cycles; choose another")
        return problems
