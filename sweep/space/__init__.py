"""What is searched, what may be spent on it, and what that would cost."""

from sweep.space.constraint import Constraint
from sweep.space.hyperparameter import Choice, Hyperparameter, Prior, Range, is_number
from sweep.space.overrides import read_overrides
from sweep.space.plan import Plan
from sweep.space.points import Point
from sweep.space.settings import (
    RENAMED,
    SECTIONS,
    SWEEP_SETTINGS,
    BudgetConfig,
    KeepConfig,
    PruneConfig,
    SamplerConfig,
    TrialConfig,
    renamed,
)
from sweep.space.space import Space
from sweep.space.speed import Speed

__all__ = [
    "RENAMED",
    "SECTIONS",
    "SWEEP_SETTINGS",
    "BudgetConfig",
    "Choice",
    "Constraint",
    "Hyperparameter",
    "KeepConfig",
    "Plan",
    "Point",
    "Prior",
    "PruneConfig",
    "Range",
    "SamplerConfig",
    "Space",
    "Speed",
    "TrialConfig",
    "baseline",
    "compatibility",
    "constraint",
    "corpus",
    "grid",
    "is_number",
    "plan",
    "points",
    "read_overrides",
    "renamed",
    "space",
    "speed",
    "trunks",
]
