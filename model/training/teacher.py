"""A teacher: a trained network, or several as one, whose predictions a run learns beside the text.

Shapes: B sequences, T tokens each, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.config import Config, ConfigError
from model.data.table import TokenTable
from model.data.tokenizer import as_data
from model.network import GPT, Mixture
from model.training.checkpoint import Tree
from model.training.export import ensemble_members, open_mixture, open_run
from model.training.trained import Trained

if TYPE_CHECKING:
    from model.training.run import Run


class Teacher:
    """What `train.teacher` names, ready to predict; it learns nothing itself."""

    def __init__(self, gpt: GPT | Mixture, config: Config) -> None:
        self._gpt = gpt.eval().requires_grad_(False)
        self._weight = config.train.teacher_weight
        self._temperature = config.train.teacher_temperature

    def lesson(self, tokens_BT: Tensor) -> tuple[Tensor, float, float]:
        """What it predicts (B, T, V), the weight of that, and the temperature, for `objective`."""
        with torch.no_grad():
            return self._gpt(tokens_BT), self._weight, self._temperature


class Predecessor:
    """The network at the end of the cycle before, where `train.chain_after` lets it teach."""

    def __init__(self, run: Run) -> None:
        """Knows nothing yet. torch's random state stays."""
        config, gpt = run.config, run.gpt
        with torch.random.fork_rng(devices=[]):
            self._gpt = GPT(
                config.gpt, gpt.vocabulary, run.runtime.manual_attention, gpt.separator
            ).to(run.runtime.device)
        self._teacher = Teacher(self._gpt, config)
        self._after, self._teaches = config.train.chain_after, False

    def lesson(self, tokens_BT: Tensor) -> tuple[Tensor, float, float] | tuple[()]:
        """As a teacher's; nothing before it teaches."""
        return self._teacher.lesson(tokens_BT) if self._teaches else ()

    def succeed(self, gpt: GPT, cycle: int) -> None:
        """`gpt` as it is teaches `cycle`, counted from 0, if that is to be taught."""
        if cycle >= self._after:
            self._gpt.load_state_dict(gpt.state_dict())
            self._gpt.replaying, self._teaches = gpt.replaying, True

    def state_tree(self) -> Tree:
        """All it takes to go on, for the checkpoint; None before it teaches."""
        if not self._teaches:
            return None
        return {"gpt": self._gpt.state_dict(), "replaying": self._gpt.replaying}

    def load_state_tree(self, tree: Tree) -> None:
        """Go on from `state_tree`."""
        if tree:
            self._gpt.load_state_dict(tree["gpt"])
            self._gpt.replaying, self._teaches = tree["replaying"], True


def open_teacher(config: Config, table: TokenTable, device: torch.device) -> Teacher | None:
    """The teacher of a run on `table`; None if it has none. torch's random state stays.

    Raises ConfigError if what `train.teacher` names is not there, is damaged, knows other tokens or
    reads fewer of them at once than the run does.
    """
    if not config.train.teacher:
        return None
    path = Path(config.train.teacher)
    try:
        trained = open_mixture(ensemble_members(path)) if path.is_file() else open_run(path)
    except ConfigError as error:
        raise _unusable(path, error.problems[0]) from None
    _check(path, trained, config, table)
    return Teacher(trained.gpt.to(device), config)


def _check(path: Path, trained: Trained, config: Config, table: TokenTable) -> None:
    its, ours = as_data(trained.tokenizer), table.recorded["tokenizer"]
    if its != ours:
        raise _unusable(
            path,
            f"it knows {its['name']} tokens ({its['digest'][:8]}), this run {ours['name']} "
            f"({ours['digest'][:8]})",
        )
    if trained.gpt.config.reach < config.gpt.reach:
        raise _unusable(
            path,
            f"it reads {trained.gpt.config.reach} tokens at once, this run {config.gpt.reach}",
        )


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        [
            f"train.teacher: {path} cannot teach this run: {why}; name the folder of a trained "
            "run, or the ensemble.json that sweep ensemble wrote"
        ]
    )
