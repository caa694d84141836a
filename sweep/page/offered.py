"""Which networks a page offers: those that words name, of a run folder its best."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from model.config import ConfigError
from model.training.release import CHECKPOINT
from sweep.errors import SweepError
from sweep.folder import ENSEMBLE, JOURNAL, TRIALS, latest
from sweep.journal import read_view
from sweep.models import named
from sweep.page.app import Offered
from sweep.results.ranking import ranking
from sweep.results.report import winner

PROBABILITIES = "probabilities"  # of train.evaluate

if TYPE_CHECKING:
    from model.training.trained import Trained
    from sweep.view import TrialView, View


def offered(words: Sequence[str], top: int, runs: Path) -> tuple[str, list[Offered]]:
    """A title and the networks that `words` name, by default those of the latest run folder.

    Of a run folder its best `top` trials, each opened when it is first used; the very first is
    opened now. Raises SweepError if a word names nothing, or what it names cannot be opened.
    """
    models: dict[str, Offered] = {}
    titles = []
    for word in dict.fromkeys(words) or [str(latest(runs))]:
        run = next((path for path in (Path(word), runs / word) if _is_run(path)), None)
        if run is None:
            model, name, title = named(word, runs), _short(word, models), Path(word).name
            if model.folder.name == ENSEMBLE:
                title = f"ensemble of {model.folder.absolute().parent.name}"
                name = name if title in models else title
            models[name] = Offered(name, _always(model.trained), model.val_loss)
            titles.append(title)
            continue
        view = read_view(run / JOURNAL)
        titles.append(str(view.header.get("name", run.name)))
        for trial in _best(view, run, top):
            name = f"{run.name}/{trial.name}" if len(words) > 1 else trial.name
            models[name] = _of_trial(name, run, trial, runs)
    first = next(iter(models.values()))
    try:
        first.open()
    except ConfigError as error:
        raise SweepError(f"the model {first.name} cannot be opened", error.problems) from None
    return ", ".join(dict.fromkeys(titles)), list(models.values())


def _short(word: str, taken: Container[str]) -> str:
    """As many of the last parts of a path as tell it from what is `taken`."""
    parts = Path(word).parts
    names = ("/".join(parts[-depth:]) for depth in range(1, len(parts) + 1))
    return next((name for name in names if name not in taken), word)


def _is_run(folder: Path) -> bool:
    """Whether it is of a sweep: `sweep train` writes a journal too, beside its checkpoint."""
    return (folder / JOURNAL).exists() and not (folder / CHECKPOINT).exists()


def _best(view: View, run: Path, top: int) -> list[TrialView]:
    """The first of what `sweep best` says, then others by loss, as far as their weights are kept.

    Of a recipe that was trained with several seeds, its earliest trial.
    """
    by_loss = [recipe.trials[0] for recipe in ranking(view)]
    best = winner(view)
    if best is None:
        raise SweepError(
            f"no trial in {run} is complete yet", hint="A page shows trials that have finished."
        )
    trials = {trial.name: trial for trial in (best, *by_loss)}
    kept = [t for t in trials.values() if (run / TRIALS / t.name / CHECKPOINT).exists()]
    if not kept:
        raise SweepError(
            f"no trial in {run} has kept its weights",
            hint=f"`sweep best {run}` prints the command that trains its best again; the folder "
            "that it trains in can be shown.",
        )
    return kept[:top]


def _of_trial(name: str, run: Path, trial: TrialView, runs: Path) -> Offered:
    opened = lru_cache(1)(partial(_open, str(run / TRIALS / trial.name), runs))
    loss = trial.val_loss
    mixes = trial.settings.get("train.evaluate") == PROBABILITIES
    if trial.last and mixes and trial.settings.get("train.members", 1) == 1:
        loss = float(trial.last.get("raw_loss", loss))  # the network is the last of those mixed
    return Offered(name, opened, loss, dict(trial.searched))


def _open(word: str, runs: Path) -> Trained:
    try:
        return named(word, runs).trained
    except SweepError as error:
        raise ConfigError(str(error).splitlines()) from None


def _always(trained: Trained) -> Callable[[], Trained]:
    return lambda: trained
