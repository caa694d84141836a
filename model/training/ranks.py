"""Processes that train one network together, each with a share of every batch: its ranks.

Gradients are added up once the share of a step is done, so that every rank takes the same step and
has the same weights to the last bit. Not by torch's DistributedDataParallel: that adds up within
the backward pass of a module's forward, while ours has micro-batches, temporary steps and compiled
methods. What overlap would save is little: the fp32 gradients of 317M parameters take 2 x 7/8 x
1.27 GB over each link of eight GPUs, some 6 ms at 400 GB/s, in a step of half a million tokens that
computes for a quarter of a second there.

Files are read and written by the first rank alone; the others hear from it. B sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from model.config import Config, ConfigError, width_problems
from model.training import checkpoint
from model.training.checkpoint import Tree
from model.training.ranks_failed import RanksFailed

# For what another rank does alone: the first writes a checkpoint, each compiles its first step.
SECONDS_TO_HEAR = 600.0
BUCKET = 32 * 2**20  # numbers that are added up at once: what they are copied into is bounded
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train the network; nothing is sent while it is alone."""

    rank: int = 0
    width: int = 1  # ranks in all
    joined: bool = False  # whether there is a group of them, if only of one

    @property
    def first(self) -> bool:
        """Whether this is the one that reads and writes files."""
        return self.rank == 0

    def first_only(self, manager: AbstractContextManager[None]) -> AbstractContextManager[None]:
        """`manager` on the first rank, nothing on the others."""
        return manager if self.first else nullcontext()

    def share(self, things: range) -> range:
        """This rank's part of `things`: all parts follow each other, none is longer by two."""
        begin, end = (len(things) * at // self.width for at in (self.rank, self.rank + 1))
        return things[begin:end]

    def draw(self, seed: int, step: int, sequence: int) -> None:
        """Set torch's random state for the micro-batch that begins with `sequence` of a step.

        So what dropout leaves out does not depend on who reads the micro-batch, and every width
        that cuts a batch into the same ones draws the same. A process without a group goes on from
        the draws before instead, as checkpoints of earlier versions need it.
        """
        if self.joined:
            state = np.random.SeedSequence([seed, step, sequence]).generate_state(1, np.uint64)
            torch.manual_seed(int(state[0]))

    @torch.no_grad()
    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Put into each tensor its sum over all ranks, to the same bits on each."""
        if not self.joined:
            return
        for bucket in buckets(tensors, BUCKET):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self._all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums over all ranks of tensors that stay as they are."""
        sums = [tensor.clone() for tensor in tensors] if self.joined else list(tensors)
        self.add_up(sums)
        return sums

    def total(self, number: float) -> float:
        """The sum of each rank's number."""
        if not self.joined:
            return number
        sum_ = torch.tensor(number, dtype=torch.float64)
        self._all_reduce(sum_)
        return float(sum_)

    def same(self, compute: Callable[[], T]) -> T:
        """What `compute` gives on the first rank, where alone it is called; ConfigErrors too."""
        if not self.joined:
            return compute()
        result: list[Any] = [None]
        if self.first:
            try:
                result = [(compute(), None)]
            except ConfigError as error:
                result = [(None, error.problems)]
        self._broadcast_objects(result)
        value: T
        value, problems = result[0]
        if problems is not None:
            raise ConfigError(problems)
        return value

    def same_tree(self, tree: Callable[[], Tree]) -> Tree:
        """The tree of tensors that the first rank has, on the CPU."""
        skeleton, tensors = checkpoint.take_apart(tree()) if self.first else (None, {})
        shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
        skeleton, shapes = self.same(lambda: (skeleton, shapes))
        for name, (shape, dtype) in shapes.items():
            if not self.first:
                tensors[name] = torch.empty(shape, dtype=dtype)
            if tensors[name].numel():
                self._broadcast(tensors[name].reshape(-1).view(torch.uint8))
        return checkpoint.put_together(skeleton, tensors)

    def require_same(self, weights: Iterable[Tensor]) -> None:
        """Raise RuntimeError if ranks have other weights: GPUs of two kinds may round otherwise."""
        if self.width == 1:
            return
        sums = [weight.detach().view(torch.int32).sum(dtype=torch.int64) for weight in weights]
        own = int(torch.stack(sums).sum())
        theirs = torch.zeros(self.width, dtype=torch.int64)
        theirs[self.rank] = own
        self._all_reduce(theirs)
        others = [rank for rank, its in enumerate(theirs.tolist()) if its != theirs[0]]
        if others:
            raise RuntimeError(
                f"ranks {others} of {self.width} have other weights than the first; give a trial "
                "devices of one kind"
            )

    def _all_reduce(self, tensor: Tensor) -> None:
        import torch.distributed as dist

        with _losses_named():
            dist.all_reduce(tensor)

    def _broadcast(self, tensor: Tensor) -> None:
        import torch.distributed as dist

        with _losses_named():
            dist.broadcast(tensor, 0)

    def _broadcast_objects(self, objects: list[Any]) -> None:
        import torch.distributed as dist

        with _losses_named():
            dist.broadcast_object_list(objects, 0, device=torch.device("cpu"))


ALONE = Ranks()


def buckets(tensors: Iterable[Tensor], most: int) -> Iterator[list[Tensor]]:
    """`tensors` in order, as many at a time as have at most `most` numbers, or a larger one."""
    bucket: list[Tensor] = []
    filled = 0
    for tensor in tensors:
        if bucket and filled + tensor.numel() > most:
            yield bucket
            bucket, filled = [], 0
        bucket.append(tensor)
        filled += tensor.numel()
    if bucket:
        yield bucket


def pieces(sequences: range, most: int) -> list[range]:
    """`sequences` in as few micro-batches of at most `most` as there can be, none longer by two."""
    count = -(-len(sequences) // most)
    return [Ranks(at, count).share(sequences) for at in range(count)]


@contextmanager
def joined(
    config: Config, rank: int, width: int, local: int, meeting: Path | None = None
) -> Iterator[Ranks]:
    """Inside, this process is one of the ranks, by NCCL where it trains on GPUs, else by gloo.

    local     its number on this machine, and so its GPU
    meeting   a file that is not there yet, by which they find each other; None: as torchrun says
    Raises ConfigError if there is no device or no part of a batch for it.
    """
    import torch.distributed as dist

    if problems := width_problems(config, width):
        raise ConfigError(problems)
    on_gpu = torch.cuda.is_available() and config.train.device != "cpu"
    if on_gpu and local >= (there := torch.cuda.device_count()):
        raise ConfigError(
            [f"trial.gpus: {width} asked, but torch sees {there} on this machine; lower it"]
        )
    if on_gpu:
        torch.cuda.set_device(local)
    patience = timedelta(seconds=SECONDS_TO_HEAR)
    store = None
    if meeting is not None:  # a URL of it would do only without blanks: torch takes it as it stands
        store = dist.FileStore(str(meeting), width)  # type: ignore[attr-defined]
        store.set_timeout(patience)
    with _losses_named():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=store,
            rank=rank,
            world_size=width,
            timeout=patience,
        )
    yield Ranks(rank, width, joined=True)
    # Not after an error: NCCL would wait here for those who wait for us. As the process ends its
    # sockets close, and the others hear at once that it is gone.
    dist.destroy_process_group()


@contextmanager
def _losses_named() -> Iterator[None]:
    """Turn what a backend says of a lost peer, each in words of its own, into RanksFailed."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise RanksFailed(f"another rank ended or is not heard of: {error}") from error
