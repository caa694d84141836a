"""What runs predicted of the validation tokens, and where each is found. N targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.clusters import Clusters
from model.config import Config, ConfigError, Value
from model.training import log_probs
from model.training.release import CHECKPOINT
from sweep.errors import SweepError
from sweep.folder import JOURNAL, TRIALS, latest
from sweep.journal import read_view
from sweep.records import Outcome
from sweep.results import report
from sweep.view import TrialView

if TYPE_CHECKING:
    from model.data.table import TokenTable

AGAIN = "Delete that file: they are made again from the checkpoint beside it."
ABOVE = 0.01  # nats: a certain token's log-probability is 0, or as far above as float32 rounds
KEPT, SCORED = "kept", "scored again from its checkpoint"


@dataclass(frozen=True, eq=False)
class Source:
    """A run that has ended: a trial of a sweep, or a model that `sweep train` made."""

    name: str
    folder: Path
    settings: Mapping[str, Value]
    val_loss: float  # nats per token
    error: float  # standard, of that loss alone
    clusters: Clusters | None  # the loss by stretches of text; None where that was not kept

    @property
    def config(self) -> Config:
        return Config.from_settings(self.settings)


@dataclass(frozen=True, eq=False)
class Predicted:
    """A run with what it predicted."""

    source: Source
    log_probs_N: np.ndarray | None  # nats, float32; None: neither kept nor to be made again
    how: str = KEPT  # or why there are none

    @property
    def name(self) -> str:
        return self.source.name


def of_trial(folder: Path, trial: TrialView, name: str = "") -> Source:
    """A trial of the run folder `folder`. Raises SweepError if it did not end complete."""
    if trial.outcome is not Outcome.COMPLETE or trial.last is None:
        raise SweepError(f"it is {trial.outcome or 'unfinished'}, so it has no final predictions")
    return Source(
        name or trial.name,
        folder / TRIALS / trial.name,
        trial.settings,
        trial.val_loss,
        float(trial.last["val_loss_error"]),
        trial.clusters,
    )


def find(words: Sequence[str], runs: Path) -> list[Source]:
    """The runs that the user named.

    Each is a trial (0012: of the latest run folder under `runs`; RUN/0012), a run folder (its
    best), or a folder that `sweep train` trained in. Raises SweepError with all that is not found.
    """
    sources, problems = [], []
    for word in words:
        try:
            sources.append(_find(word, runs))
        except SweepError as error:
            problems.append(f"{word}: {str(error).splitlines()[0]}")
    if problems:
        raise SweepError(
            "not everything that was named can be compared",
            problems,
            hint="Name trials (0012 of the latest sweep, RUN/0012), run folders (their best trial) "
            "or folders of sweep train.",
        )
    return _with_short_names(sources)


def _find(word: str, runs: Path) -> Source:
    for path in (Path(word), runs / word):
        if (path / JOURNAL).exists():
            return _best(path)
        run = path.parent.parent if path.parent.name == TRIALS else path.parent
        if (run / JOURNAL).exists():
            return _trial(run, path.name)
        if (path / CHECKPOINT).exists():
            return _model(path)
    if Path(word).name == word:
        return _trial(latest(runs), word)
    raise SweepError("neither a trial, nor a run folder, nor a folder with a checkpoint")


def _trial(run: Path, name: str) -> Source:
    trials = read_view(run / JOURNAL).trials
    if name not in trials:
        raise SweepError(f"{run} has no trial of that name")
    return of_trial(run, trials[name], str(run / name))


def _best(run: Path) -> Source:
    winner = report.winner(read_view(run / JOURNAL))
    if winner is None:
        raise SweepError(f"no trial in {run} is complete yet")
    return of_trial(run, winner, str(run / winner.name))


def _model(folder: Path) -> Source:
    from model.training import checkpoint  # torch, which trials of a sweep need not

    try:
        state = checkpoint.read_state(folder)
    except ConfigError as error:
        raise SweepError(error.problems[0]) from None
    if state is None or not state.history or not state.history[-1].done:
        raise SweepError("its training has not ended")
    last = state.history[-1]
    return Source(
        str(folder), folder, state.settings, last.val_loss, last.val_loss_error, last.clusters
    )


def _with_short_names(sources: list[Source]) -> list[Source]:
    """0012 where all are of one run folder, else RUN/0012, else as they were found."""
    parts = [Path(source.name).parts for source in sources]
    several = len({part[:-1] for part in parts}) > 1
    short = ["/".join(part[-2:] if several else part[-1:]) for part in parts]
    if len(set(short)) < len(short):
        return sources
    return [replace(source, name=name) for source, name in zip(sources, short, strict=True)]


def shared_table(sources: Sequence[Source]) -> TokenTable:
    """The tokens that all of them were evaluated on.

    Raises SweepError if these are not the same for all, or cannot be read.
    """
    from model.data.batches import open_table

    tables: dict[str, TokenTable] = {}  # by the digest of their validation tokens
    who: dict[str, list[str]] = {}
    opened: dict[str, TokenTable] = {}
    for source in sources:
        data = source.config.data
        key = data.digest or repr(data)
        try:
            table = opened.setdefault(key, opened.get(key) or open_table(data))
        except ConfigError as error:
            raise SweepError(
                f"the tokens that {source.name} predicted cannot be read", error.problems
            ) from None
        digest = table.recorded.get("digests", {}).get("val", table.digest)
        tables.setdefault(digest, table)
        who.setdefault(digest, []).append(source.name)
    if len(tables) > 1:
        raise SweepError(
            "these runs predicted different validation tokens, so no difference between them is "
            "of the runs alone",
            [f"{', '.join(names)}: {digest}" for digest, names in who.items()],
            hint="Compare runs of one data.path, data.tokenizer, data.splits and data.val_tokens.",
        )
    return next(iter(tables.values()))


def predicted(source: Source, table: TokenTable, key: str = log_probs.FINAL) -> Predicted:
    """What `source` predicted: as it was kept, or else made again from its checkpoint.

    Raises SweepError if what was kept is damaged, not log-probabilities, or of another number of
    tokens.
    """
    targets = len(table.val) - 1
    try:
        kept = log_probs.read(source.folder).get(key)
    except ConfigError as error:
        raise SweepError(
            f"the predictions of {source.name} cannot be read",
            [error.problems[0].partition(";")[0]],
            hint=AGAIN,
        ) from None
    if kept is not None and len(kept) != targets:
        raise SweepError(
            f"the predictions of {source.name} are not of these tokens",
            [
                f"{source.folder / log_probs.NAME} has {len(kept):,} log-probabilities, the "
                f"validation split {targets:,} targets"
            ],
            hint=AGAIN,
        )
    if kept is not None and not bool(np.all(kept <= ABOVE)):  # nor is NaN
        raise SweepError(
            f"the predictions of {source.name} cannot be read",
            [
                f"{source.folder / log_probs.NAME} has {np.sum(~(kept <= ABOVE)):,} values of "
                f"{targets:,} that are no log-probabilities"
            ],
            hint=AGAIN,
        )
    if kept is not None:
        return Predicted(source, kept)
    if not (source.folder / CHECKPOINT).exists():
        return Predicted(source, None, "neither its predictions nor its checkpoint were kept")
    from model.training.predictions import predictions

    try:
        return Predicted(source, predictions(source.folder, table), SCORED)
    except ConfigError as error:
        return Predicted(source, None, error.problems[0])
