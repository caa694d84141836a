"""No token attends to another document: every variant of attention, in training and after it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config.config import Config, GPTConfig
from model.config.setting import ConfigError
from model.data.batches import open_table
from model.network.attention import attend, offset
from model.network.gpt import GPT
from model.progress import Progress
from model.training import export
from model.training.device import CPU
from model.training.evaluate import HeldOut, evaluate
from model.training.run import make_run
from model.training.train import train

SEPARATOR, VOCABULARY = 0, 50
TWO = [SEPARATOR, 3, 4, 5, 6, SEPARATOR, 7, 8, 9, 3, 4, 5]  # documents of 5 and 7 tokens
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "learned positions": {"positions": "learned"},
    "grouped heads": {"queries_per_kv": 2},
    "windows": {"windows": "SSL", "short_window": 0.5},
    "unturned keys": {"positions": "half_rotary", "key_offset": "unturned"},
    "second halves of keys": {"positions": "half_rotary", "key_offset": "second_half"},
    "exclusive": {"exclusive": "learned", "head_gates": True, "head_mixing": True},
    "value residual": {"value_residual": "projection", "x0": True, "unet": True},
    "replay": {"replay_passes": 2, "replay_start": 0.0, "replay_last": 0.75},
}
# Their scores depend on where a document stands: turned features of two tokens make no pair.
ABSOLUTE = ("learned positions", "second halves of keys")


def build(change: dict[str, Any], manual: bool = False) -> GPT:
    config = GPTConfig(
        layers=4, width=32, head_width=8, context=12, **{"document_mask": True, **change}
    )
    gpt = GPT(config, VOCABULARY, manual, separator=SEPARATOR)
    for name, parameter in sorted(gpt.named_parameters()):
        torch.manual_seed(sum(name.encode()))
        torch.nn.init.normal_(parameter, std=0.3)
    gpt.enter(done=1.0, seed=0, step=0)
    return gpt.eval()


@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_position_moves_with_its_own_document_alone(name: str, manual: bool) -> None:
    gpt = build(VARIANTS[name], manual)
    seen: list[Tensor] = []
    gpt.embedding.register_forward_hook(lambda module, args, output: seen.append(output))

    logits = gpt(torch.tensor([TWO, TWO[5:] + TWO[:5]]))
    seen[0].retain_grad()
    (logits[0, 9].sum() + logits[1, 5].sum()).backward()

    assert seen[0].grad is not None
    moves = (seen[0].grad.abs().sum(dim=-1) > 0).tolist()
    assert moves[0] == [False] * 5 + [True] * 5 + [False] * 2
    assert moves[1] == [True] * 6 + [False] * 6


@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ABSOLUTE])
def test_a_document_costs_the_same_alone_and_after_another(name: str, manual: bool) -> None:
    """Where positions are relative."""
    gpt = build(VARIANTS[name], manual)

    together = gpt(torch.tensor([TWO]))[0]

    apart = [gpt(torch.tensor([document]))[0] for document in (TWO[:5], TWO[5:])]
    assert torch.allclose(together, torch.cat(apart), atol=1e-4)


def test_the_block_beyond_the_next_token_sees_its_own_document_alone() -> None:
    gpt = build({"mtp": "block"})
    joined: list[Tensor] = []
    gpt.next_but_one.join.register_forward_hook(lambda module, args, out: joined.append(out))
    outputs: list[Tensor] = []
    gpt.next_but_one.register_forward_hook(lambda module, args, out: outputs.append(out))

    gpt.objective(torch.tensor([TWO]), torch.tensor([[*TWO[1:], 9]]))
    joined[0].retain_grad()
    outputs[0][0, 8].sum().backward()

    assert joined[0].grad is not None
    assert (joined[0].grad[0].abs().sum(-1) > 0).tolist() == [False] * 5 + [True] * 4 + [False] * 2


def test_masked_attention_is_the_formula() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 6, 8)
    document_BT = torch.tensor([[0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 1, 1]])
    may = [
        [[j <= i and i - j <= 2 and d[i] == d[j] for j in range(6)] for i in range(6)]
        for d in document_BT.tolist()
    ]
    scores = (q @ k.mT / 8**0.5).masked_fill(~torch.tensor(may)[:, None], -math.inf)

    for manual in (False, True):
        ours = attend(q, k, v, 2, manual, document_BS=document_BT)
        assert torch.allclose(ours, scores.softmax(dim=-1) @ v, atol=1e-5)


def test_the_first_token_of_a_document_keeps_its_own_key() -> None:
    keys_BGTK = torch.arange(4.0)[:, None] + torch.zeros(1, 1, 4, 4)

    shifted_BGTK = offset(keys_BGTK, "second_half", torch.tensor([[0, 0, 1, 1]]))

    assert shifted_BGTK[0, 0, :, 0].tolist() == [0, 1, 2, 3]
    assert shifted_BGTK[0, 0, :, 3].tolist() == [0, 0, 2, 2]


@pytest.fixture
def masked(small: dict[str, object], tmp_path: Path) -> dict[str, object]:
    """Documents of a few tokens, so that a window holds several."""
    folder = tmp_path / "short"
    folder.mkdir()
    for number in range(600):
        (folder / f"{number:03}.txt").write_text(f"{number} and {number + 1}"[: 3 + number % 9])
    return {**small, "data.path": str(folder), "gpt.document_mask": True, "train.device": "cpu"}


def run(settings: dict[str, object], folder: Path) -> list[Progress]:
    return list(train(Config.from_settings(settings), folder))


def test_training_and_validation_keep_documents_apart(
    masked: dict[str, object], tmp_path: Path
) -> None:
    """Each document costs what it costs alone, but for those that a window cuts."""
    apart = run(masked, tmp_path / "apart")
    mixed = run({**masked, "gpt.document_mask": False}, tmp_path / "mixed")
    assert apart[-1].val_loss != mixed[-1].val_loss
    assert apart[0].train_loss != mixed[0].train_loss

    export.save(tmp_path / "apart", tmp_path / "kept")
    trained = export.load(tmp_path / "kept")
    table = open_table(Config.from_settings(masked).data)
    held_out = HeldOut(table.val, table.token_lengths, 32)
    losses_N = -evaluate(trained.gpt, held_out, CPU).log_probs_N
    assert losses_N.mean() == pytest.approx(apart[-1].val_loss, abs=1e-5)
    checked = 0
    for begin, end in zip(table.documents["val"], table.documents["val"][1:], strict=False):
        if begin // 32 == (end - 2) // 32 and end < len(table.val) - 32 and end - begin > 2:
            document = torch.from_numpy(np.asarray(table.val[begin:end], dtype=np.int64))[None]
            alone = trained.gpt.losses(document[:, :-1], document[:, 1:])[0]
            assert np.allclose(losses_N[begin : end - 1], alone.detach(), atol=1e-4)
            checked += 1
    assert checked > 10


def test_documents_that_no_separator_parts_are_refused(masked: dict[str, object]) -> None:
    config = Config.from_settings(masked)
    table = open_table(config.data)
    table.recorded["tokenizer"]["separator"] = None

    with pytest.raises(ConfigError, match=r"gpt.document_mask: .* have no separator between"):
        make_run(config, table, CPU)


def test_one_document_without_a_separator_is_no_reason_to_refuse(
    masked: dict[str, object],
) -> None:
    config = Config.from_settings(masked)
    table = open_table(config.data)
    table.recorded["tokenizer"]["separator"] = None
    for split in ("train", "val", "test"):
        table.documents[split] = table.documents[split][[0, -1]]  # type: ignore[index]

    gpt = make_run(config, table, CPU).gpt

    assert torch.equal(gpt._documents(torch.tensor([[1, 256, 2]])), torch.zeros(1, 3).long())
