"""What `sweep train` and `sweep presets` say of a network and its training, without building it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from model.config.config import Config
from model.config.presets import Preset
from model.config.size import block_parameters, parameters, scaled
from model.progress import Progress
from sweep.format import count

if TYPE_CHECKING:
    from model.optim.optimizers import Group  # which would import torch

EVERY_RUN = ("done", "epoch", "train loss", "val loss", "bits/byte")
AVERAGES = ("ema", "weights", "probabilities")


def describe(config: Config) -> list[str]:
    """The network and the schedule that `config` comes to, a line each."""
    shape, optim = scaled(config.gpt), config.optim
    blocks = block_parameters(shape)
    total = parameters(shape, config.data.token_kinds)
    lines = [
        f"{shape.layers} layers, width {shape.width}, {shape.heads} heads: "
        f"{count(total)} parameters, {count(blocks)} of them in blocks"
    ]
    if config.gpt.scale != 1:
        asked = config.gpt.scale * block_parameters(config.gpt)
        lines.append(
            f"gpt.scale {config.gpt.scale:g} asks for {count(asked)} in blocks: "
            f"{100 * (blocks / asked - 1):+.1f} % off"
        )
    lines.append(
        f"{config.steps:,} steps of {config.train.batch_tokens:,} tokens in {config.train.epochs} "
        f"epoch{'s' * (config.train.epochs > 1)} of {count(config.data.train_tokens)}"
    )
    decay = f"weight decay {optim.weight_decay:.3g}, {optim.weight_decay_multiplier:.3g} times 0.1"
    if optim.decay_timescale:
        decay += f": a timescale of {optim.decay_timescale:.3g} epochs at the peak rate"
    return [*lines, decay]


def group_rows(groups: Sequence[Group]) -> list[list[str]]:
    """What the optimizers do to which parameters, as a table, its heading first.

    Rates are peaks, and a step at the peak shrinks weights by the decay, before its schedule.
    """
    rows = [["group", "optimizer", "parameters", "peak rate", "decay a step"]]
    for group in groups:
        rate, decay = f"{group.lr:.3g}", f"{group.decay_per_step:.3g}"
        rows.append([group.name, group.optimizer, count(group.parameters), rate, decay])
    return rows


def columns(config: Config) -> list[str]:
    """Headings of a run's evaluations: those of averages where it has them."""
    train = config.train
    has = {"ema": train.ema_epochs > 0, "weights": train.average_last > 0}
    has["probabilities"] = has["weights"]
    averages = [name for name in AVERAGES if has[name]]
    return [*EVERY_RUN, *(["raw", *averages] if averages else []), "seconds"]


def row(progress: Progress, shown: list[str]) -> str:
    """One evaluation under the headings `shown`; a dash for an average not there yet."""
    cells = {
        "done": f"{progress.basis_points / 100:.1f} %",
        "epoch": f"{progress.epoch:.2f}",
        "bits/byte": f"{progress.bits_per_byte:.4f}",
        "seconds": f"{progress.seconds:.1f}",
    }
    losses = {
        "train loss": progress.train_loss,
        "val loss": progress.val_loss,
        "raw": progress.raw_loss,
        "ema": progress.ema_loss,
        "weights": progress.weights_loss,
        "probabilities": progress.probabilities_loss,
    }
    cells |= {name: "-" if loss is None else f"{loss:.4f}" for name, loss in losses.items()}
    return _line([cells[name] for name in shown], shown)


def heading(shown: list[str]) -> str:
    """The headings themselves, as wide as what comes below."""
    return _line(shown, shown)


def _line(cells: list[str], shown: list[str]) -> str:
    padded = [cell.rjust(max(7, len(name))) for cell, name in zip(cells, shown, strict=True)]
    return "  ".join(padded)


def preset_as_data(name: str, about: Preset) -> dict[str, Any]:
    """One preset for --json; the size is that of the published run, with its vocabulary."""
    config = Config.from_settings(about.settings)
    return {
        "name": name,
        "parameters": parameters(config.gpt, about.vocabulary),
        "block_parameters": block_parameters(config.gpt),
        "published": about.published,
        "layers": config.gpt.layers,
        "width": config.gpt.width,
        "heads": config.gpt.heads,
        "vocabulary": about.vocabulary,
        "train_tokens": config.data.train_tokens,
        "epochs": config.train.epochs,
        "reproduces": about.reproduces,
        "source": about.source,
        "notes": about.notes,
        "settings": dict(about.settings),
    }


def preset_rows(presets: dict[str, Preset]) -> list[list[str]]:
    """`sweep presets` as a table, its heading first."""
    rows = [["preset", "parameters", "layers x width", "tokens", "reproduces", "source"]]
    for name, about in presets.items():
        data = preset_as_data(name, about)
        rows.append(
            [
                name,
                count(data["parameters"]),
                f"{data['layers']} x {data['width']}",
                f"{data['epochs']} x {count(data['train_tokens'])}",
                data["reproduces"],
                data["source"],
            ]
        )
    return rows
