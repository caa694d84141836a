"""What each of several devices has of a batch that they share."""

from __future__ import annotations

import math

from model.config.config import Config


def width_problems(config: Config, width: int) -> list[str]:
    """Why so many devices cannot share the batches of `config`; empty if they can."""
    train, sequences = config.train, config.train.batch_tokens // config.gpt.reach
    if width <= 1:
        return []
    if not train.meta_step:
        if width <= sequences:
            return []
        return [
            f"train.batch_tokens: {train.batch_tokens} are {sequences} sequences, too few for "
            f"{width} devices; raise it or lower trial.gpus"
        ]
    half = sequences // (2 * train.meta_parts)
    if train.meta_parts % width == 0 or width <= half:
        return []
    return [
        f"train.meta_parts: {width} devices can share neither {train.meta_parts} parts nor halves "
        f"of {half} sequences; make it a multiple of {width}, or lower trial.gpus"
    ]


def tokens_at_once(config: Config, width: int = 1) -> int:
    """Tokens that a device has in memory at most, of `width` that share each batch."""
    train, reach = config.train, config.gpt.reach
    batch = train.batch_tokens
    if train.meta_step:  # a batch is read in halves, however much fits
        batch //= 2 * train.meta_parts
        width = 1 if train.meta_parts % width == 0 else width
    share = math.ceil(batch // reach / width) * reach
    return min(train.micro_batch_tokens or share, share)
