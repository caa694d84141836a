"""A trainer in closed form: a sweep of twenty trials takes milliseconds."""

from __future__ import annotations

import json
import math
import os
import random
import signal
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from model.config.config import Config
from model.progress import WHOLE, Progress
from sweep.replay.curves import Curve

SPACE = """
name: fake
search:
  optim.name: [adamw, muon]
  optim.lr:
    - {when: {optim.name: adamw}, min: 1e-3, max: 1e-2, log: true}
    - {when: {optim.name: muon}, min: 1e-2, max: 1e-1, log: true}
  optim.weight_decay_multiplier: {min: 1, max: 32, log: true}
  train.epochs: [1, 2, 4]
budget: {trials: 12}
sampler: {name: tpe, startup_trials: 4}
baseline: {multiples: [1, 2]}
"""


SIX_RECIPES = """
name: fake
search:
  train.epochs: [1, 2, 4]
  gpt.dropout: [0.0, 0.1]
budget: {trials: 6}
sampler: {name: random, seed: 3}
prune: {rule: none}
fixed: {train.evals: 2}
"""
NOISE = 0.006


def final_loss(config: Config) -> float:
    """Best at decay 4x, more epochs and more data; lower for Muon."""
    decay = abs(math.log2(config.optim.weight_decay_multiplier / 4))
    epochs = math.log2(config.train.epochs * config.data.train_tokens / 65_536)
    return 3.0 + 0.1 * decay - 0.2 * epochs - 0.1 * (config.optim.name == "muon")


def fake_train(config: Config, folder: Path) -> Iterator[Progress]:
    """Falls from 5 nats to `final_loss`; remembers in `folder` how far it came."""
    folder.mkdir(parents=True, exist_ok=True)
    memory = folder / "memory.json"
    done = json.loads(memory.read_text()) if memory.exists() else 0
    for mark in range(1, config.train.evals + 1):
        fraction = mark / config.train.evals
        loss = final_loss(config) + (1 - fraction) ** 2 * (5 - final_loss(config))
        if mark > done:
            memory.write_text(json.dumps(mark))
        yield Progress(
            basis_points=round(WHOLE * fraction),
            step=round(config.steps * fraction),
            epoch=config.train.epochs * fraction,
            tokens=round(config.steps * fraction) * config.train.batch_tokens,
            train_loss=loss - 0.1,
            val_loss=loss,
            val_loss_error=0.01,
            bits_per_byte=loss / math.log(2),
            raw_loss=loss + 0.02,
            ema_loss=loss if mark > 1 else None,
            lr=config.optim.lr * (1 - fraction),
            seconds=fraction,
        )


def noisy_train(config: Config, folder: Path) -> Iterator[Progress]:
    """More epochs are better, dropout changes nothing, and every seed is another run."""
    train = config.train
    rng = random.Random(f"{train.seed} {train.data_seed} {train.epochs} {config.gpt.dropout}")
    noise = rng.gauss(0, NOISE)
    for progress in fake_train(config, folder):
        yield Progress(**{**progress.to_dict(), "val_loss": progress.val_loss + noise})


def failing_train(config: Config, folder: Path) -> Iterator[Progress]:
    """Raises for Muon after its first evaluation, else trains."""
    for progress in fake_train(config, folder):
        yield progress
        if config.optim.name == "muon":
            raise RuntimeError("no Muon today")


def broken_train(config: Config, folder: Path) -> Iterator[Progress]:
    """Raises before its first evaluation, whatever the settings."""
    raise RuntimeError(f"no training of {config.train.epochs} epochs today")
    yield


def crowded_train(config: Config, folder: Path) -> Iterator[Progress]:
    """Runs out of memory where the network is wider than 64, else trains."""
    if config.gpt.width > 64:
        raise MemoryError
    yield from fake_train(config, folder)


def dying_train(config: Config, folder: Path) -> Iterator[Progress]:
    """As `failing_train`; the first trial to get far stops its process, the next kills its parent.

    Their second attempts, and all others, train on.
    """
    stopped, killed = folder.parent / "stopped", folder.parent / "killed"
    for progress in failing_train(config, folder):
        yield progress
        if progress.basis_points < WHOLE / 2:
            continue
        if not stopped.exists():
            stopped.write_text(folder.name)
            os.kill(os.getpid(), signal.SIGSTOP)
        elif not killed.exists() and stopped.read_text() != folder.name:
            killed.touch()
            os.kill(os.getppid(), signal.SIGKILL)


def diverging_train(config: Config, folder: Path) -> Iterator[Progress]:
    """The loss is not a number after the first evaluation where decay is high."""
    for progress in fake_train(config, folder):
        if config.optim.weight_decay_multiplier > 8 and progress.basis_points > 2000:
            about = {**progress.to_dict(), "val_loss": math.nan, "diverged_step": progress.step}
            yield Progress(**about)
            return
        yield progress


def fake_curves(seeds: int = 1) -> list[Curve]:
    """A recorded grid with what misleads: strong decay and many epochs look worse until the end."""
    rng, curves = random.Random(0), []
    for seed, name, epochs, decay, scale in product(
        range(seeds), ("adamw", "muon"), (1, 2, 4, 8), (1.0, 4.0, 16.0), (0.5, 1.0)
    ):
        lr = 0.004 if name == "adamw" else 0.02
        apart = math.log2(decay / (4 * epochs * scale))
        final = 3.0 + 0.03 * apart**2 - 0.1 * math.log2(epochs * scale) - 0.05 * (name == "muon")
        final += rng.gauss(0, 0.004)
        marks = tuple(range(1000, WHOLE + 1, 1000))
        left = [1 - mark / WHOLE for mark in marks]
        late = [rest**0.5 * (0.05 * math.log2(decay) + 0.05 * math.log2(epochs)) for rest in left]
        raw = tuple(final + rest**3 + behind for rest, behind in zip(left, late, strict=True))
        settings = {
            "optim.name": name,
            "optim.lr": lr,
            "train.epochs": epochs,
            "optim.weight_decay_multiplier": decay,
            "gpt.scale": scale,
            "train.seed": seed,
        }
        cost = float(epochs * scale)
        ema = (math.nan, *raw[1:])
        curves.append(Curve(settings, marks, raw, ema, raw, seconds=cost, flops=1e9 * cost))
    return curves
