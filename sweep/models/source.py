"""Where the network is that a word names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from model.clusters import Clusters
from model.config import Config, ConfigError, Value
from model.pretrained import is_weights, published
from model.training.release import CHECKPOINT
from model.training.saved import is_saved
from sweep.errors import SweepError
from sweep.folder import ENSEMBLE, JOURNAL, TRIALS, latest
from sweep.journal import read_view
from sweep.records import Outcome
from sweep.results import report
from sweep.view import TrialView


@dataclass(frozen=True, eq=False)
class Source:
    """A run that has ended: a trial of a sweep, a model of `sweep train`, or one written out."""

    name: str
    folder: Path
    settings: Mapping[str, Value]
    val_loss: float  # nats per token
    error: float  # standard, of that loss alone
    clusters: Clusters | None  # the loss by stretches of text; None where that was not kept

    @property
    def config(self) -> Config:
        return Config.from_settings(self.settings)


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
    best), a folder that `sweep train` trained in, or one that a model was written into. Raises
    SweepError with all that is not found.
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
            hint="Name trials (0012 of the latest sweep, RUN/0012), run folders (their best "
            "trial), folders of sweep train or those that a model was written into.",
        )
    return _with_short_names(sources)


def network_folder(word: str, runs: Path) -> Path:
    """Where the network is that `word` names, complete or not; of an ensemble, its file.

    Beside what `find` takes it is a folder that a verb wrote a model into, the ensemble.json of
    a run folder, or weights of others: a folder, a file, or the name of a published network.
    Raises SweepError if it leads nowhere.
    """
    if published(word):
        return Path(word)
    for path in (Path(word), runs / word):
        is_ensemble = path.name == ENSEMBLE and path.is_file()
        if is_ensemble or is_saved(path) or (path / CHECKPOINT).exists():
            return path
        if is_weights(path):
            return path
    run, trial = _place(word, runs)
    if not trial:
        return _best(run).folder
    _check_trial(run, trial)
    return run / TRIALS / trial


def _find(word: str, runs: Path) -> Source:
    for path in (Path(word), runs / word):
        if is_saved(path):
            return _saved(path)
        if is_weights(path):
            raise _weights()
    if published(word):
        raise _weights()
    folder, trial = _place(word, runs)
    if trial is None:
        return _model(folder)
    return _trial(folder, trial) if trial else _best(folder)


def _weights() -> SweepError:
    return SweepError(
        "weights of others come without a validation text; `sweep evaluate MODEL TEXT` says what a "
        "text costs them"
    )


def _place(word: str, runs: Path) -> tuple[Path, str | None]:
    """A run folder and the trial of it that `word` names: "" for none of them, None: no such run.

    Raises SweepError if it leads nowhere.
    """
    for path in (Path(word), runs / word):
        if (path / JOURNAL).exists():
            return path, ""
        run = path.parent.parent if path.parent.name == TRIALS else path.parent
        if (run / JOURNAL).exists():
            return run, path.name
        if (path / CHECKPOINT).exists():
            return path, None
    if Path(word).name == word:
        return latest(runs), word
    raise SweepError("neither a trial, nor a run folder, nor a folder with a checkpoint")


def _check_trial(run: Path, name: str) -> TrialView:
    trials = read_view(run / JOURNAL).trials
    if name not in trials:
        raise SweepError(f"{run} has no trial of that name")
    return trials[name]


def _trial(run: Path, name: str) -> Source:
    return of_trial(run, _check_trial(run, name), str(run / name))


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


def _saved(folder: Path) -> Source:
    """A model that a verb wrote, of a run that ended or made smaller after it."""
    from model.training.trained import load

    try:
        its = load(folder)
    except ConfigError as error:
        raise SweepError(error.problems[0]) from None
    if its.val_loss is None or its.val_loss_error is None:
        raise SweepError("nobody noted its validation loss; sweep evaluate says what it is")
    settings = its.config.settings()
    return Source(str(folder), folder, settings, its.val_loss, its.val_loss_error, None)


def _with_short_names(sources: list[Source]) -> list[Source]:
    """0012 where all are of one run folder, else RUN/0012, else as they were found."""
    parts = [Path(source.name).parts for source in sources]
    several = len({part[:-1] for part in parts}) > 1
    short = ["/".join(part[-2:] if several else part[-1:]) for part in parts]
    if len(set(short)) < len(short):
        return sources
    return [replace(source, name=name) for source, name in zip(sources, short, strict=True)]
