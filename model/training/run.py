"""A run in memory: its network, optimizers and averages, new or as a checkpoint left them.

Shapes: B sequences, T tokens each, N targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model.config import Config, ConfigError
from model.data.table import SPLITS, TokenTable
from model.files import cache_folder
from model.network import GPT
from model.optim import load_state_tree, make_optimizers, state_tree
from model.training import checkpoint
from model.training.averages import Averages
from model.training.checkpoint import Tree
from model.training.device import (
    Runtime,
    has_bf16_instructions,
    keep_freed_memory,
    share_compiled_code,
)
from model.training.evaluate import TOKENS_AT_ONCE, Evaluation, HeldOut, evaluate, score
from model.training.meta_step import gradients_apart, meta_length, meta_matrices, stepped
from model.training.ranks import ALONE, Ranks, pieces
from model.training.release import OPTIMIZERS, PREDECESSOR, is_needed_to_evaluate
from model.training.trained import NO_SEPARATOR

if TYPE_CHECKING:
    from model.training.teacher import Predecessor, Teacher


@dataclass(frozen=True)
class Run:
    """What training changes, and what it is measured on."""

    config: Config
    table: TokenTable
    runtime: Runtime
    gpt: GPT
    optimizers: list[Optimizer]
    averages: Averages
    meta_matrices: list[nn.Parameter] = field(default_factory=list)  # see train.meta_step
    teacher: Teacher | None = None
    predecessor: Predecessor | None = None  # of the cycle, where train.chain_after has it teach
    ranks: Ranks = ALONE  # the processes that train it together
    # Of each step so far, nats per token, while runs of other epochs may go on from here.
    trunk_losses: list[float] = field(default_factory=list)

    @property
    def held_out(self) -> HeldOut:
        return HeldOut.of(self.table, "val", self.config.gpt.reach)

    def evaluate(self) -> Evaluation:
        """Of the weights that are in the network, on the validation split."""
        return self.evaluate_on(self.held_out)

    def evaluate_on(self, held_out: HeldOut) -> Evaluation:
        """Of the weights that are in the network. No more at once than memory was said to hold."""
        at_once = min(TOKENS_AT_ONCE, self.config.train.micro_batch_tokens or TOKENS_AT_ONCE)
        return evaluate(self.gpt, held_out, self.runtime, at_once, self.ranks)

    def score(self, log_probs_N: np.ndarray) -> Evaluation:
        return score(log_probs_N, self.held_out)

    def state_tree(self, ended: bool = False) -> Tree:
        """All it takes to go on, for the checkpoint; once it has `ended`, only to be evaluated."""
        kept = not ended or is_needed_to_evaluate(self.config.settings())
        return {
            "gpt": self.gpt.state_dict(),
            OPTIMIZERS: state_tree(self.optimizers) if kept else None,
            "averages": self.averages.state_tree(),
            PREDECESSOR: self.predecessor.state_tree() if self.predecessor and not ended else None,
            "trunk_losses": torch.tensor(self.trunk_losses, dtype=torch.float64),
        }

    def restore(self, folder: Path) -> None:
        """Go on from the checkpoint in `folder`; torch's random state becomes what it was there.

        One that has given up its optimizers' state comes back to be evaluated, not to go on.
        Raises RuntimeError if its tensors are of other shapes.
        """
        self.load(checkpoint.restore(folder))

    def load(self, tree: Tree) -> None:
        """Go on from `state_tree`. Raises RuntimeError if its tensors are of other shapes."""
        self.gpt.load_state_dict(tree["gpt"])
        if tree[OPTIMIZERS] is not None:
            load_state_tree(self.optimizers, tree[OPTIMIZERS])
        self.averages.load_state_tree(tree["averages"])
        if self.predecessor:
            self.predecessor.load_state_tree(tree[PREDECESSOR])
        self.trunk_losses[:] = tree["trunk_losses"].tolist() if "trunk_losses" in tree else []


def make_run(
    config: Config,
    table: TokenTable,
    where: Runtime,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> Run:
    """The run as it starts, from `weights` if there are any. Sets torch's random state from
    `train.seed`.

    Raises ConfigError if documents must not mix and the tokens do not tell where one begins.
    """
    if where.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(config.train.seed)
    separator = _separator(table) if config.gpt.document_mask else None
    gpt = GPT(config.gpt, table.vocabulary, where.manual_attention, separator).to(where.device)
    if weights is not None:
        gpt.load_state_dict(weights)
    # Asked for on a CPU without the instructions, bf16 would take Muon there ten times as long.
    bf16 = where.precision == torch.bfloat16 and has_bf16_instructions()
    optimizers = make_optimizers(gpt, config.optim, bf16)
    averages = Averages(gpt, config.train, config.steps_per_epoch, config.averaged_epochs)
    if where.compile:
        share_compiled_code(str(cache_folder() / "compiled"))
        # Set on this network alone: its parameters keep their names. Of a sequence of windows one
        # is compiled, not all that follow each other.
        for part in ("window", "logits") if gpt.config.context_vector else ("objective", "losses"):
            setattr(gpt, part, torch.compile(getattr(gpt, part)))
    return Run(config, table, where, gpt, optimizers, averages, meta_matrices(gpt, config))


def _separator(table: TokenTable) -> int:
    """The token that begins each document; one that never comes if splits are of one document."""
    separator: int | None = table.recorded["tokenizer"]["separator"]
    if separator is not None:
        return separator
    documents = max(len(table.documents[split]) - 1 for split in SPLITS)
    if documents > 1:
        raise ConfigError(
            [
                f"gpt.document_mask: the table's {documents:,} documents have no separator between "
                "them, so a network cannot tell where one begins; set it to false"
            ]
        )
    return NO_SEPARATOR


def add_gradients(run: Run, x_BT: np.ndarray, y_BT: np.ndarray, done: float) -> float:
    """Add up the gradients of a step's micro-batches; the mean plain loss, nats per token.

    done   fraction of the run before this step
    With `train.meta_step`, half of them where a temporary step along the others leads. Each of
    several ranks reads its share; then all have the gradients of the whole batch and its loss.
    Returns once the device is done.
    """
    length, parts, ranks = meta_length(run.config, done), run.config.train.meta_parts, run.ranks
    if not length:
        total = float(_add(run, x_BT, y_BT, ranks.share(range(len(x_BT))), done))
    else:
        half, total = len(x_BT) // (2 * parts), 0.0
        # Ranks read whole parts, each with a direction of its own, or agree on those of all.
        apart = parts % ranks.width == 0
        for part in ranks.share(range(parts)) if apart else range(parts):
            halves = [range(at * half, (at + 1) * half) for at in (2 * part, 2 * part + 1)]
            own = halves if apart else [ranks.share(sequences) for sequences in halves]
            with gradients_apart(run.meta_matrices):
                first = _add(run, x_BT, y_BT, own[0], done)
                with stepped(run.meta_matrices, length, ALONE if apart else ranks):
                    second = _add(run, x_BT, y_BT, own[1], done)
                total += float(first + second)
    ranks.add_up(p.grad for p in run.gpt.parameters() if p.grad is not None)
    return ranks.total(total)


def _add(run: Run, x_BT: np.ndarray, y_BT: np.ndarray, sequences: range, done: float) -> Tensor:
    """Add the gradients of some `sequences` of a step; their part of its loss."""
    config, device = run.config, run.runtime.device
    at_once = (config.train.micro_batch_tokens or config.train.batch_tokens) // config.gpt.reach
    total, step = torch.zeros((), device=device), round(done * config.steps)
    for piece in pieces(sequences, at_once):
        x, y = x_BT[piece.start : piece.stop], y_BT[piece.start : piece.stop]
        parts = len(x_BT) / len(x)  # of the step, were all as large
        run.ranks.draw(config.train.seed, step, piece.start)
        with run.runtime.autocast():
            tokens_BT, targets_BT = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
            taught_by = run.teacher or run.predecessor
            lesson = taught_by.lesson(tokens_BT) if taught_by else ()
            loss, plain = run.gpt.objective(tokens_BT, targets_BT, *lesson)
        (loss / parts).backward()  # type: ignore[no-untyped-call]
        total += plain.detach() / parts
    return total
