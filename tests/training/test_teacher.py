"""Learning what a teacher predicts beside the text."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sweeps import write_texts

from model.config import Config, ConfigError, GPTConfig
from model.data.batches import open_table
from model.network.gpt import GPT
from model.network.loss import distillation
from model.training import checkpoint, log_probs
from model.training.export import open_mixture
from model.training.predictions import predictions
from model.training.sealed_split import evaluate_on_test
from model.training.teacher import open_teacher
from model.training.train import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a small corpus, and an ensemble of them."""
    home = tmp_path_factory.mktemp("teachers")
    write_texts(home / "text")
    for seed in (1, 2):
        list(train(Config.from_settings({**settings(home), "train.seed": seed}), home / f"r{seed}"))
    members = [{"folder": "r1", "weight": 0.75}, {"folder": "r2", "weight": 0.25}]
    (home / "ensemble.json").write_text(json.dumps({"members": members}))
    return home


def settings(home: Path) -> dict[str, object]:
    return {
        "data.path": str(home / "text"),
        "data.train_tokens": 2049,
        "data.val_tokens": 1025,
        "data.test_tokens": 1025,
        "gpt.layers": 1,
        "gpt.width": 16,
        "gpt.context": 32,
        "train.batch_tokens": 256,
        "train.precision": "fp32",
        "train.evals": 2,
        "train.epochs": 4,
        "optim.lr": 0.02,
        "train.device": "cpu",
    }


def student(home: Path, **more: object) -> Config:
    taught = {"train.teacher": str(home / "ensemble.json"), "train.seed": 3}
    return Config.from_settings({**settings(home), **taught, **more})


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint._open(folder / checkpoint.NAME, with_tensors=True)[1]


def test_what_is_told_apart_is_the_divergence_of_softened_predictions() -> None:
    torch.manual_seed(0)
    own_BTV, its_BTV = torch.randn(2, 3, 7), torch.randn(2, 3, 7)

    apart_BT = distillation(own_BTV, its_BTV, 2.0)

    own, its = F.softmax(own_BTV / 2, -1), F.softmax(its_BTV / 2, -1)
    torch.testing.assert_close(apart_BT, 4 * (its * (its.log() - own.log())).sum(-1))


def test_nothing_is_to_be_learned_where_both_predict_the_same() -> None:
    own_BTV = torch.randn(2, 3, 7, requires_grad=True)

    apart_BT = distillation(own_BTV, own_BTV.detach() + 5.0, 1.5)  # the same up to a constant
    apart_BT.sum().backward()

    torch.testing.assert_close(apart_BT, torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(own_BTV.grad, torch.zeros(2, 3, 7), atol=1e-5, rtol=0)


def test_all_that_is_learned_from_the_text_has_the_rest_of_the_weight() -> None:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(layers=1, width=16, context=8, head_init=0.5, mtp="block"), 11)
    tokens_BT, targets_BT = torch.randint(11, (2, 8)), torch.randint(11, (2, 8))
    teacher_BTV = torch.randn(2, 8, 11)

    alone, plain = gpt.objective(tokens_BT, targets_BT)
    total, still_plain = gpt.objective(tokens_BT, targets_BT, teacher_BTV, 0.3, 1.0)

    apart = distillation(gpt(tokens_BT), teacher_BTV, 1.0).mean()
    torch.testing.assert_close(total, 0.7 * alone + 0.3 * apart)
    assert still_plain == plain


def test_a_teacher_of_no_weight_changes_no_bit(teachers: Path, tmp_path: Path) -> None:
    alone = Config.from_settings({**settings(teachers), "train.seed": 3})

    list(train(alone, tmp_path / "alone"))
    list(train(student(teachers, **{"train.teacher_weight": 0.0}), tmp_path / "taught"))

    ours, theirs = tensors(tmp_path / "taught"), tensors(tmp_path / "alone")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_student_comes_nearer_to_its_teacher_than_one_of_the_text(
    teachers: Path, tmp_path: Path
) -> None:
    """Without the text it predicts what the teacher predicts better than the text does."""
    long = {"train.epochs": 8}
    alone = Config.from_settings({**settings(teachers), "train.seed": 3, **long})
    list(train(alone, tmp_path / "alone"))
    list(train(student(teachers, **{"train.teacher_weight": 1.0}, **long), tmp_path / "taught"))
    first_N, second_N, own_N, taught_N = (
        log_probs.read(folder)["final"]
        for folder in (teachers / "r1", teachers / "r2", tmp_path / "alone", tmp_path / "taught")
    )
    its_N = np.log(0.75 * np.exp(first_N) + 0.25 * np.exp(second_N))

    assert np.abs(taught_N - its_N).mean() < np.abs(own_N - its_N).mean()


def test_a_student_that_was_stopped_goes_on_bit_for_bit(teachers: Path, tmp_path: Path) -> None:
    config = student(teachers, **{"gpt.dropout": 0.2, "train.teacher_temperature": 2.0})
    list(train(config, tmp_path / "whole"))

    list(islice(train(config, tmp_path / "stopped"), 1))
    list(train(config, tmp_path / "stopped"))

    ours, theirs = tensors(tmp_path / "stopped"), tensors(tmp_path / "whole")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_an_ensemble_teaches_its_weighted_mean_and_learns_nothing(teachers: Path) -> None:
    config = student(teachers)
    teacher = open_teacher(config, open_table(config.data), CPU)
    assert teacher is not None
    tokens_BT = torch.arange(64).view(2, 32)

    its_BTV, weight, temperature = teacher.lesson(tokens_BT)

    whole = open_mixture([(teachers / "r1", 0.75), (teachers / "r2", 0.25)])
    torch.testing.assert_close(its_BTV, whole.gpt(tokens_BT))
    assert not its_BTV.requires_grad
    assert (weight, temperature) == (0.5, 1.0)


def test_one_run_can_teach_alone(teachers: Path) -> None:
    config = student(teachers, **{"train.teacher": str(teachers / "r2")})

    assert open_teacher(config, open_table(config.data), CPU) is not None


@pytest.mark.parametrize(
    ("named", "other", "why"),
    [
        ("nowhere", {}, "nowhere has no checkpoint"),
        ("broken.json", {}, r"it is no ensemble \(JSONDecodeError"),
        ("empty.json", {}, "an ensemble without a network on the disk"),
        ("lost.json", {}, "gone has no checkpoint"),
        ("r1", {"data.tokenizer": "chars"}, r"it knows bytes tokens .* this run chars"),
        ("r1", {"gpt.context": 64}, "it reads 32 tokens at once, this run 64"),
    ],
)
def test_a_teacher_that_cannot_teach_is_one_message(
    teachers: Path, tmp_path: Path, named: str, other: dict[str, object], why: str
) -> None:
    for name in ("text", "r1"):
        (tmp_path / name).symlink_to(teachers / name)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "empty.json").write_text('{"members": []}')
    (tmp_path / "lost.json").write_text('{"members": [{"folder": "gone", "weight": 1}]}')
    config = student(tmp_path, **{"train.teacher": str(tmp_path / named), **other})

    with pytest.raises(ConfigError, match=rf"train.teacher: .*cannot teach this run: .*{why}"):
        next(train(config, tmp_path / "student"))


def test_a_teacher_that_is_gone_does_not_keep_its_student_from_being_used(
    teachers: Path, tmp_path: Path
) -> None:
    shutil.copytree(teachers / "r1", tmp_path / "r1")
    config = student(teachers, **{"train.teacher": str(tmp_path / "r1")})
    list(train(config, tmp_path / "student"))
    shutil.rmtree(tmp_path / "r1")

    assert list(train(config, tmp_path / "student"))[-1].done
    assert open_mixture([(tmp_path / "student", 1.0)]).gpt
    kept_N = log_probs.read(tmp_path / "student")[log_probs.FINAL]
    again_N = predictions(tmp_path / "student", open_table(config.data))
    np.testing.assert_allclose(again_N, kept_N, atol=0.01)
    assert evaluate_on_test(tmp_path / "student").loss > 0
