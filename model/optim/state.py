"""The state of optimizers as a tree that can be written without pickle.

Dicts with text keys and lists of these, with tensors, numbers, text and None for leaves.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

Tree = Any

# Marks a matrix that lies in memory by columns, as those that SOAP gets from LAPACK do: a product
# with a copy that lies by rows may round otherwise, and files keep rows only.
BY_COLUMNS = "by columns"


def state_tree(optimizers: list[Optimizer]) -> list[Tree]:
    """All that `load_state_tree` needs for `optimizers` made in the same way."""
    return [_tree(optimizer.state_dict()) for optimizer in optimizers]


def load_state_tree(optimizers: list[Optimizer], trees: list[Tree]) -> None:
    """Put the state back; training then goes on bit for bit."""
    for optimizer, tree in zip(optimizers, trees, strict=True):
        optimizer.load_state_dict(_state(tree))


def _tree(state: Any) -> Tree:
    """Numbers and tuples as keys become text; tuples become lists; columns are marked."""
    if isinstance(state, Tensor) and state.dim() == 2 and not state.is_contiguous():
        return {BY_COLUMNS: state.mT} if state.mT.is_contiguous() else state
    if isinstance(state, dict):
        return {_key(key): _tree(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_tree(value) for value in state]
    return state


def _key(key: Any) -> str:
    """Text for a parameter's number, or for Magma's pair of group and parameter."""
    return ",".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _state(tree: Tree) -> Any:
    """What `_tree` changed, changed back, at the places where optimizers have it.

    Tensors are copied: one that was read from a file may start at any address, and how a product
    rounds may depend on that too.
    """
    if isinstance(tree, Tensor):
        return tree.clone()
    if isinstance(tree, dict) and BY_COLUMNS in tree:
        return tree[BY_COLUMNS].clone().mT
    if isinstance(tree, list):
        return [_state(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    state = {_number(key): _state(value) for key, value in tree.items()}
    return {key: tuple(value) if key == "betas" else value for key, value in state.items()}


def _number(key: str) -> Any:
    parts = key.split(",")
    if not all(part.isdigit() for part in parts):
        return key
    return int(key) if len(parts) == 1 else tuple(map(int, parts))
