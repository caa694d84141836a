"""A finished run on the test split, which nothing else in this project evaluates on."""

from __future__ import annotations

from pathlib import Path

from model.config import Config, ConfigError
from model.data.batches import open_table
from model.optim import swap_in_averages
from model.training import checkpoint
from model.training.averages import PROBABILITIES, RAW
from model.training.evaluate import Evaluation, HeldOut, score
from model.training.members import mean_probabilities, member_folders
from model.training.train import begin


def evaluate_on_test(folder: Path) -> Evaluation:
    """Of the weights that `train.evaluate` names, as the run in `folder` ended with them.

    Raises ConfigError if the run has not ended, if its data has no test split, or if it is judged
    by averaged probabilities: those of the test split would have had to be kept while it trained.
    """
    with checkpoint.locked(folder):
        state = checkpoint.read_state(folder)
        if state is None or not state.history or not state.history[-1].done:
            raise ConfigError([f"{folder}: holds no run that has ended"])
        config = Config.from_settings(state.settings)
        if config.train.evaluate == PROBABILITIES:
            raise ConfigError(
                [
                    f"{folder}: train.evaluate is {PROBABILITIES}, which are kept of the "
                    "validation split alone; `weights` can be evaluated on another"
                ]
            )
        table = open_table(config.data)
        if not len(table.test):
            raise ConfigError(
                [
                    f"{folder}: its data has no test split, so nothing is sealed; data.test_tokens "
                    "sets one aside for another sweep"
                ]
            )
        if members := member_folders(folder, config):
            each = [evaluate_on_test(member).log_probs_N for member in members]
            return score(mean_probabilities(each), HeldOut.of(table, "test", config.gpt.reach))
        run = begin(config, table, folder, state)
        test = HeldOut.of(table, "test", config.gpt.reach)

        def on_test() -> Evaluation:
            return run.evaluate_on(test)

        with swap_in_averages(run.optimizers):
            raw = on_test()
            if config.train.evaluate == RAW:
                return raw
            evaluations = run.averages.evaluate(raw, on_test, lambda kept_N: raw)
        return evaluations[config.train.evaluate]
