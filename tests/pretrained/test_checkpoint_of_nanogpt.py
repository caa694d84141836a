"""nanoGPT's ckpt.pt, of which nothing is ever unpickled."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpt2_files
import numpy as np
import pytest
import torch
from torch import Tensor

from model.config import ConfigError
from model.optim.adamw import AdamW
from model.pretrained import find_source, is_weights
from model.pretrained.checkpoint_of_nanogpt import follow
from model.training.weights import open_weights

ARGUMENTS = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 32,
    "bias": True,
    "vocab_size": 257,
    "dropout": 0.0,
}
TOKENS_BT = np.arange(60).reshape(2, 30) * 7 % 257


def weights(tensors: gpt2_files.Tensors, prefix: str = "") -> dict[str, Tensor]:
    """As nanoGPT has them: matrices the other way round, the head and the embedding one tensor."""
    its = OrderedDict()
    for name, tensor in tensors.items():
        turned = tensor.T if tensor.ndim == 2 and ".h." in name else tensor
        its[prefix + name] = torch.from_numpy(turned.copy())
    its[f"{prefix}lm_head.weight"] = its[f"{prefix}transformer.wte.weight"]
    its._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return its


def write(path: Path, model: dict[str, Tensor], characters: int = 257, **more: Any) -> Path:
    """What train.py saves, and the meta.pkl beside it that prepare.py makes."""
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = AdamW([parameter])
    parameter.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    saved = {
        "model": model,
        "optimizer": optimizer.state_dict(),
        "model_args": ARGUMENTS,
        "iter_num": 2000,
        "best_val_loss": torch.tensor(1.88),
        "config": {"dataset": "shakespeare_char", "learning_rate": 1e-3, "compile": False},
    }
    torch.save({**saved, **more}, path)
    itos = {token: chr(0x100 + token) for token in range(characters)}
    (path.parent / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": characters, "itos": itos}))
    return path


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_a_checkpoint_computes_what_it_did(tmp_path: Path, prefix: str) -> None:
    """Also that of a network that was compiled, whose names have a prefix."""
    tensors = gpt2_files.tensors()
    trained = open_weights(str(write(tmp_path / "ckpt.pt", weights(tensors, prefix))))

    # nanoGPT has the exact gelu; Hugging Face's name for the tanh formula is what differs here.
    trained.gpt.blocks[0].mlp.kind = trained.gpt.blocks[1].mlp.kind = "gelu_tanh"  # type: ignore
    with torch.no_grad():
        ours = trained.gpt(torch.from_numpy(TOKENS_BT)).numpy()

    np.testing.assert_allclose(ours, gpt2_files.logits(tensors, TOKENS_BT), atol=1e-4)
    assert trained.config.gpt.mlp == "gelu"
    assert trained.tokenizer.decode([0, 1]) == "\u0100\u0101"


class Trap:
    """Makes a file if it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(Path.cwd() / "sprung"),)


def test_a_checkpoint_that_would_run_something_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "ckpt.pt", weights(gpt2_files.tensors()), config=Trap())

    with pytest.raises(ConfigError, match=r"it would import posix.mkdir; nothing was run"):
        find_source(str(path))

    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (b"\x80\x02cbuiltins\neval\n.", "it would import builtins.eval"),
        (b"\x80\x02ccollections\nOrderedDict\n}\x81.", "it has an instruction NEWOBJ"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "it has an instruction STACK_GLOBAL"),
        (b"\x80\x02}", "pickle exhausted before seeing STOP"),
    ],
)
def test_instructions_that_build_nothing_plain_are_refused(program: bytes, why: str) -> None:
    with pytest.raises((ValueError, IndexError), match=why):
        follow(program)


def test_a_file_that_is_no_checkpoint_is_one_message(tmp_path: Path) -> None:
    text, other = tmp_path / "a.pt", tmp_path / "b.pt"
    text.write_text("no zip")
    torch.save({"tokens": torch.zeros(3)}, other)
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        archive.writestr("c/data.pkl", b"\x80\x02}.")

    for path, why in ((text, "not a zip file"), (other, "it has no 'model'")):
        with pytest.raises(ConfigError, match=f"is no ckpt.pt as nanoGPT's train.py .*{why}"):
            find_source(str(path))
    with pytest.raises(ConfigError, match="it has no 'model'"):
        find_source(str(tmp_path / "c.pt"))


def test_what_does_not_fit_together_is_told(tmp_path: Path) -> None:
    model = weights(gpt2_files.tensors())
    del model["transformer.ln_f.bias"]
    path = write(tmp_path / "ckpt.pt", model)

    with pytest.raises(ConfigError, match=r"ckpt.pt: missing: ln_f.bias"):
        find_source(str(path))


def test_tokens_that_nothing_explains_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "ckpt.pt", weights(gpt2_files.tensors()))
    (tmp_path / "meta.pkl").unlink()

    with pytest.raises(ConfigError, match="knows 257 tokens, and nothing beside it tells"):
        open_weights(str(path))


def test_the_folder_that_training_wrote_into_names_its_checkpoint(tmp_path: Path) -> None:
    path = write(tmp_path / "ckpt.pt", weights(gpt2_files.tensors()))

    assert is_weights(path.parent)
    assert find_source(str(path.parent)).path == path
