"""Training, evaluating and writing with a network whose windows hand on their mean."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.config.config import Config
from model.config.cost import trial_cost
from model.config.setting import ConfigError
from model.data.batches import batch, open_table
from model.network.mixture import Mixture
from model.progress import Progress
from model.trained.cost import cost
from model.trained.generate import stream
from model.trained.sampling import Sampling
from model.training import checkpoint
from model.training.device import CPU
from model.training.evaluate import HeldOut, evaluate
from model.training.export import open_run
from model.training.run import make_run
from model.training.train import train
from model.training.trained import Trained

CONTEXT, WINDOWS = 8, 4
REACH = CONTEXT * WINDOWS


@pytest.fixture
def windowed(small: dict[str, object]) -> dict[str, object]:
    """Sequences of 4 windows of 8 tokens."""
    vector = {"gpt.context_vector": True, "gpt.context_windows": WINDOWS}
    return {**small, **vector, "gpt.context": CONTEXT, "optim.lr": 0.01}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / checkpoint.NAME)


def without_clock(run: list[Progress]) -> list[Progress]:
    return [Progress(**{**progress.to_dict(), "seconds": 0.0}) for progress in run]


@pytest.mark.parametrize(
    "more",
    [
        {"gpt.dropout": 0.1, "train.micro_batch_tokens": REACH},
        {"gpt.mtp": "block", "gpt.positions": "learned", "gpt.document_mask": True},
    ],
    ids=["micro-batches", "mtp"],
)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    more: dict[str, object], windowed: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**windowed, **more})
    whole = list(train(config, tmp_path / "whole"))

    list(islice(train(config, tmp_path / "parts"), 1))
    continued = list(train(config, tmp_path / "parts"))

    assert whole[-1].val_loss < whole[0].val_loss
    assert without_clock(continued) == without_clock(whole)
    ours, theirs = tensors(tmp_path / "parts"), tensors(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_batch_is_of_sequences_whose_windows_follow_each_other(
    windowed: dict[str, object],
) -> None:
    config = Config.from_settings({**windowed, "train.shuffle": "no"})
    table = open_table(config.data)

    x_BT, y_BT = batch(config, table, done_steps=1)

    assert x_BT.shape == (256 // REACH, REACH)
    assert x_BT.ravel().tolist() == table.train[256:512].tolist()
    assert y_BT.ravel().tolist() == table.train[257:513].tolist()


def test_validation_is_read_window_after_window(windowed: dict[str, object]) -> None:
    """In rows of so many windows as training has, each of which begins with nothing."""
    config = Config.from_settings(windowed)
    table = open_table(config.data)
    gpt = make_run(config, table, CPU).gpt.eval()
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.2)

    losses_N = -evaluate(gpt, HeldOut.of(table, "val", config.gpt.reach), CPU).log_probs_N

    val = torch.from_numpy(table.val.astype(np.int64))
    for row in range(0, 4 * REACH, REACH):
        carried = None
        for begin in range(row, row + REACH, CONTEXT):
            hidden, carried = gpt.window(val[None, begin : begin + CONTEXT], carried)
            log_probs = gpt.logits(hidden)[0].log_softmax(-1).detach()
            targets = val[begin + 1 : begin + CONTEXT + 1]
            expected = -log_probs[torch.arange(CONTEXT), targets]
            assert losses_N[begin : begin + CONTEXT] == pytest.approx(expected.numpy(), abs=1e-5)


def trained_on(settings: dict[str, object], folder: Path) -> Trained:
    list(train(Config.from_settings(settings), folder))
    return open_run(folder)


def test_text_of_any_length_is_written_as_the_network_reads_it(
    windowed: dict[str, object], tmp_path: Path
) -> None:
    """Nothing is cut off: what stands many windows before still decides on what follows."""
    trained = trained_on(windowed, tmp_path)
    assert not isinstance(trained.gpt, Mixture)
    for parameter in trained.gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    prompt = "def first(): return 1\n" * 2  # more than 5 windows
    tokens = [256, *prompt.encode()]

    written = "".join(stream(trained, prompt, Sampling(tokens=20, temperature=0)))

    for _ in range(20):
        tokens.append(int(trained.gpt(torch.tensor([tokens]))[0, -1].argmax()))
        if tokens[-1] == 256:
            break
    assert written == trained.tokenizer.decode(tokens[1 + len(prompt) :])
    scored = cost(trained, prompt)
    assert scored is not None
    assert len(scored.log_probs_N) == len(prompt)


def test_a_teacher_has_to_read_as_much_as_the_sequence(
    windowed: dict[str, object], small: dict[str, object], tmp_path: Path
) -> None:
    list(train(Config.from_settings({**small, "gpt.context": CONTEXT}), tmp_path / "short"))
    list(train(Config.from_settings({**small, "gpt.context": REACH}), tmp_path / "long"))

    with pytest.raises(ConfigError, match=f"it reads {CONTEXT} tokens at once, this run {REACH}"):
        list(train(student(windowed, tmp_path / "short"), tmp_path / "refused"))
    taught = list(train(student(windowed, tmp_path / "long"), tmp_path / "taught"))
    assert taught[-1].done


def student(settings: dict[str, object], teacher: Path) -> Config:
    return Config.from_settings({**settings, "train.teacher": str(teacher)})


def test_the_slot_costs_a_position_in_each_window(windowed: dict[str, object]) -> None:
    plain: dict[str, Any] = {**windowed, "gpt.context_vector": False}
    longer = {**plain, "gpt.context": CONTEXT + 1, "train.batch_tokens": 32 * (CONTEXT + 1)}

    vector, without, more = (trial_cost(its) for its in (windowed, plain, longer))

    per_token = vector.flops / vector.tokens
    head = 6 * 257 * 16  # of tokens alone
    expected = (more.flops / more.tokens - head) * (CONTEXT + 1) / CONTEXT + head
    assert per_token == pytest.approx(expected)
    assert vector.parameters == without.parameters
    assert vector.memory > without.memory
