"""Torch's AdamW and optimizers without its compiler, whose import takes a second of every worker.

Importing torch._dynamo loads 700 modules more, sympy among them. Torch does so in the first call of
what it has to hide from its compiler: adding parameters, zeroing gradients, AdamW's step. Nothing
of ours compiles an optimizer, so that there is nobody to hide it from. The numbers are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Adam, Optimizer

# torch/_compile.py looks here for the hidden form of a function before it imports the compiler.
HIDDEN = "__dynamo_disable"
CALLED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def _open(function: Any) -> Any:
    """What torch wrapped; the wrapper itself if another version of torch has none."""
    return getattr(function, "__wrapped__", function)


for name in CALLED:
    inside = _open(getattr(Optimizer, name))
    if not hasattr(inside, HIDDEN):
        setattr(inside, HIDDEN, inside)


class AdamW(torch.optim.AdamW):
    """Torch's own; its step knows that nothing is differentiated through it."""

    step = torch.no_grad()(_open(Adam.step))
