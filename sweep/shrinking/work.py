"""One shrinking from a trained network to a run folder: plan, cut, fine-tune, outcome."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.config import Config, ConfigError, block_parameters, parameters
from model.data.table import TokenTable
from model.trained.kept import Kept
from model.trained.retrain import (
    is_begun,
    loss_on,
    standing,
    tuning,
    where_to_compute,
    write_finished,
    write_start,
)
from model.trained.shrink import one_network, shrunk
from model.trained.speed import forward_speeds
from model.training.export import open_run
from model.training.trained import Trained
from sweep.shrinking import outcome as outcomes
from sweep.shrinking.outcome import CUT, ORIGINAL, TUNED, Outcome, Row
from sweep.shrinking.request import Request
from sweep.shrinking.search import Say, find, prepare


def unigram_loss(table: TokenTable, train_tokens: int) -> float:
    """Nats a validation token by the frequencies of the training tokens, one added to each."""
    counts_V = np.bincount(table.train[:train_tokens], minlength=table.vocabulary) + 1
    log_probs_V = np.log(counts_V / counts_V.sum())
    return float(-log_probs_V[table.val[1:]].mean())


def plan(name: str, trained: Trained, table: TokenTable, request: Request, say: Say) -> Outcome:
    """What to take out of `trained`, with the losses before and after, not yet fine-tuned.

    Raises ConfigError for what cannot be done.
    """
    if request.epochs:
        tuning(trained, request.epochs, request.rate)  # refused before the search, not after
    material = prepare(trained, table, say)
    tried = find(material, request, say)
    best = tried[0].plan
    say("loss and speed of the original and of what is left of it")
    unigram = unigram_loss(table, trained.config.data.train_tokens)
    held_back_loss = loss_on(trained, material.held_back_N).loss
    cut = material.cut(best)
    original = _row(ORIGINAL, trained, trained, loss_on(trained, table.val).loss)
    as_cut = _row(CUT, cut, trained, loss_on(cut, table.val).loss)
    where = where_to_compute(trained.config)
    speeds = forward_speeds([trained, cut], table.val, where)
    before = original.val_loss
    rows = tuple(
        replace(
            row,
            tokens_per_second=speed,
            quality=outcomes.quality(row.val_loss, before, unigram),
        )
        for row, speed in zip((original, as_cut), speeds, strict=True)
    )
    kept = {"heads": best.kept.heads, "units": best.kept.units}
    return Outcome(
        model=name,
        request=request.to_dict(),
        strategy=best.strategy or "nothing",
        left=best.in_words,
        kept=json.loads(json.dumps(kept)),
        unigram_loss=unigram,
        held_back_loss=held_back_loss,
        rows=rows,
        attempts=outcomes.attempts_of(tried),
        ended=False,
    )


def _row(stage: str, its: Trained, original: Trained, val_loss: float) -> Row:
    """A row of the table, but for its speed and quality."""
    (every, blocks), (all_before, blocks_before) = _counts(its), _counts(original)
    return Row(
        stage=stage,
        parameters=every,
        share=every / all_before,
        block_share=blocks / blocks_before,
        tokens_per_second=0.0,
        val_loss=val_loss,
        quality=1.0,
    )


def _counts(its: Trained) -> tuple[int, int]:
    """Parameters, and those outside embeddings and head."""
    gpt = one_network(its)
    return parameters(gpt.config, gpt.vocabulary), block_parameters(gpt.config)


def begin(
    outcome: Outcome, trained: Trained, table: TokenTable, request: Request, folder: Path
) -> Config:
    """Cut `trained` as `outcome` says, as a run in `folder` that can be trained on, or has ended.

    Nothing is cut where the run has begun already. Returns the settings of that run.
    """
    kept = Kept(*(tuple(map(tuple, outcome.kept[part])) for part in ("heads", "units")))
    cut = shrunk(trained, kept)
    config = tuning(cut, request.epochs, request.rate) if request.epochs else standing(cut)
    outcomes.write(outcome, folder)
    if is_begun(folder):
        return config
    if request.epochs:
        write_start(cut, config, table, folder)
    else:
        read = min(trained.config.data.train_tokens, len(table.val))
        train_loss = loss_on(cut, np.asarray(table.train[:read])).loss
        write_finished(cut, table, train_loss, folder)
    return config


def finish(outcome: Outcome, table: TokenTable, folder: Path) -> Outcome:
    """The outcome with what the fine-tune in `folder` came to, if there was one; written there."""
    rows = outcome.rows
    if outcome.request["epochs"]:
        its = open_run(folder)
        original, cut = rows[:2]
        loss = loss_on(its, table.val).loss
        quality = outcomes.quality(loss, original.val_loss, outcome.unigram_loss)
        rows = (*rows[:2], replace(cut, stage=TUNED, val_loss=loss, quality=quality))
    ended = replace(outcome, rows=rows, ended=True)
    outcomes.write(ended, folder)
    from sweep.shrinking.plot import draw  # matplotlib takes a while

    draw(ended, folder / outcomes.FOLDER / "shrink.svg")
    return ended


def with_settings(trained: Trained, settings: dict[str, object]) -> Trained:
    """`trained` as if its run had had other settings of data, rates and schedule."""
    if not settings:
        return trained
    refused = [
        f"{name}: is of the network, which is trained" for name in settings if "gpt." in name
    ]
    if refused:
        raise ConfigError(refused)
    before: dict[str, object] = dict(trained.config.settings())
    del before["optim.decay_timescale"]
    return replace(trained, config=Config.from_settings({**before, **settings}))
