"""Which network a word names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sweeps import write_texts

from model.config import Config
from model.network import Mixture
from model.training import export
from model.training.train import train
from sweep.errors import SweepError
from sweep.journal import Journal
from sweep.models import find, named


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny network was trained, as a trial or `sweep train` leaves it."""
    home = tmp_path_factory.mktemp("named")
    settings = {
        "data.path": str(write_texts(home / "corpus")),
        "data.train_tokens": 513,
        "data.val_tokens": 129,
        "data.test_tokens": 129,
        "gpt.layers": 1,
        "gpt.width": 8,
        "gpt.context": 16,
        "train.batch_tokens": 256,
        "train.evals": 1,
        "train.device": "cpu",
        "train.precision": "fp32",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        for _ in train(Config.from_settings(settings), home / "run"):
            pass
    return home / "run"


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A folder of run folders, with one: 0001 is its best, 0002 was pruned, 0003 has no network."""
    runs = tmp_path / "runs"
    folder = runs / "words"
    for name in ("0001", "0002"):
        shutil.copytree(trained, folder / "trials" / name)
    journal = Journal(folder / "journal.jsonl")
    journal.append("sweep", id="x", name="words", role="search", trials=3, budget={}, fixed={})
    for name, outcome, loss in (
        ("0001", "complete", 3.0),
        ("0002", "pruned", 2.0),
        ("0003", "complete", 4.0),
    ):
        about = {"role": "search", "searched": {"optim.lr": 0.1}, "settings": {"optim.lr": 0.1}}
        journal.append("trial", trial=name, **about)
        losses = {"val_loss": loss, "val_loss_error": 0.1, "step": 2, "basis_points": 10_000}
        journal.append("observation", trial=name, seconds=1.0, **losses)
        journal.append("outcome", trial=name, outcome=outcome, reason="")
    journal.close()
    return runs


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("words", "words/0001"),  # the best
        ("0002", "words/0002"),  # of the latest, pruned or not
        ("words/0002", "words/0002"),
        ("words/trials/0001", "words/0001"),
    ],
)
def test_a_word_names_a_trial_or_the_best_of_a_run(word: str, name: str, runs: Path) -> None:
    its = named(word, runs)

    assert its.name == name
    assert its.trained.gpt.config.width == 8
    assert its.val_loss is not None
    assert named(str(runs / word) if "/" in word else word, runs).folder == its.folder


def test_a_folder_of_the_trainer_and_one_that_was_written_are_models(
    trained: Path, tmp_path: Path
) -> None:
    of_training = named(str(trained), tmp_path)
    export.write(of_training.trained, tmp_path / "written")

    written = named(str(tmp_path / "written"), tmp_path)

    assert written.settings == of_training.settings
    assert written.val_loss == of_training.val_loss is not None
    assert written.parameters == of_training.parameters > 0


def test_an_ensemble_is_named_by_its_file(runs: Path) -> None:
    file = runs / "words" / "ensemble.json"
    members = [{"folder": f"trials/{name}", "weight": 0.5} for name in ("0001", "0002")]
    file.write_text(json.dumps({"members": members}))

    its = named("words/ensemble.json", runs)

    assert isinstance(its.trained.gpt, Mixture)
    assert its.val_loss is None
    assert its.parameters == 2 * named("0001", runs).parameters


def _damage_weights(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"nothing")


def _forget_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize("damage", [_damage_weights, _forget_tokenizer])
def test_a_damaged_model_is_one_message(
    damage: Callable[[Path], None], trained: Path, tmp_path: Path
) -> None:
    export.save(trained, tmp_path / "saved")
    damage(tmp_path / "saved")

    with pytest.raises(SweepError, match=r"(?s)cannot be opened.*saved is damaged or incomplete"):
        named("saved", tmp_path)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("0007", "no model 0007: .*words has no trial of that name"),
        ("elsewhere/else", "no model elsewhere/else: neither a trial, nor a run folder"),
        ("0003", "(?s)model 0003 cannot be opened.*0003 has no checkpoint"),
        ("words/ensemble.json", "(?s)cannot be opened.*it is no ensemble"),
    ],
)
def test_a_word_that_names_nothing_is_one_message(word: str, message: str, runs: Path) -> None:
    (runs / "words" / "ensemble.json").write_text("{}")

    with pytest.raises(SweepError, match=message) as raised:
        named(word, runs)

    assert raised.value.code == 2


def test_a_model_that_was_written_out_can_be_compared(trained: Path, tmp_path: Path) -> None:
    export.save(trained, tmp_path / "saved")
    export.write(replace(export.load(tmp_path / "saved"), val_loss=None), tmp_path / "unknown")

    (source,) = find([str(tmp_path / "saved")], tmp_path)

    (of_training,) = find([str(trained)], tmp_path)
    assert (source.val_loss, source.error) == (of_training.val_loss, of_training.error)
    with pytest.raises(SweepError, match="unknown: nobody noted its validation loss"):
        find(["unknown"], tmp_path)


def test_what_is_compared_has_ended_complete(runs: Path) -> None:
    assert [source.name for source in find(["words", "0003"], runs)] == ["0001", "0003"]
    with pytest.raises(SweepError, match="0002: it is pruned"):
        find(["0001", "0002"], runs)
