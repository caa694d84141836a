"""Which optimizer moves which parameter, and at what rate."""

from model.optim.optimizers import (
    Group,
    make_optimizers,
    matrices,
    outline,
    step,
    swap_in_averages,
)
from model.optim.schedule import rate
from model.optim.state import load_state_tree, state_tree

__all__ = [
    "Group",
    "load_state_tree",
    "make_optimizers",
    "matrices",
    "outline",
    "rate",
    "state_tree",
    "step",
    "swap_in_averages",
]
