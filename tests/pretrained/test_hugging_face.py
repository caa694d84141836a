"""GPT-2's weights as Hugging Face keeps them: read, refused with every problem, begun with."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import gpt2_files
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from model.config import Config, ConfigError
from model.data.batches import open_table
from model.pretrained import fill_in, find_source, pin
from model.training import checkpoint
from model.training.train import begin, train
from model.training.weights import first_weights

TOKENS_BT = np.arange(60).reshape(2, 30) * 7 % 257


def config(small: dict[str, object], init: Path, **more: object) -> Config:
    """A run on bytes that begins with `init`, whose shape follows from it."""
    asked = {n: v for n, v in small.items() if n not in ("gpt.layers", "gpt.width")}
    return Config.from_settings(pin(fill_in({**asked, "gpt.init": str(init), **more})))


def first_logits(its: Config, folder: Path, tokens_BT: np.ndarray = TOKENS_BT) -> np.ndarray:
    """What a run predicts before its first step."""
    state = checkpoint.RunState({}, ())
    gpt = begin(its, open_table(its.data), folder, state).gpt.eval()
    with torch.no_grad():
        return gpt(torch.from_numpy(tokens_BT)).numpy()


def test_a_run_begins_with_the_logits_of_the_reference_forward(
    small: dict[str, object], tmp_path: Path
) -> None:
    tensors = gpt2_files.tensors()
    init = gpt2_files.write_gpt2(tmp_path / "gpt2", tensors)

    ours = first_logits(config(small, init), tmp_path / "run")

    np.testing.assert_allclose(ours, gpt2_files.logits(tensors, TOKENS_BT), atol=1e-4)


def test_a_shorter_context_takes_the_first_positions(
    small: dict[str, object], tmp_path: Path
) -> None:
    tensors = gpt2_files.tensors()
    init = gpt2_files.write_gpt2(tmp_path / "gpt2", tensors)
    tokens_BT = TOKENS_BT[:, :16]

    ours = first_logits(config(small, init, **{"gpt.context": 16}), tmp_path / "run", tokens_BT)

    np.testing.assert_allclose(ours, gpt2_files.logits(tensors, tokens_BT), atol=1e-4)


def test_shards_a_single_file_and_the_names_of_older_files_are_read_alike(tmp_path: Path) -> None:
    tensors = gpt2_files.tensors()
    whole = gpt2_files.write_gpt2(tmp_path / "whole", tensors)
    older = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    older["h.0.attn.bias"] = np.tri(32, dtype=np.float32)[None, None]  # the causal mask
    gpt2_files.write_gpt2(tmp_path / "older", older)
    shards = gpt2_files.write_gpt2(tmp_path / "shards", {})
    (shards / "model.safetensors").unlink()
    names, places = sorted(tensors), {}
    for number, part in enumerate((names[:9], names[9:])):
        places |= dict.fromkeys(part, f"model-{number}.safetensors")
        save_file({name: tensors[name] for name in part}, shards / f"model-{number}.safetensors")
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))

    wanted = find_source(str(whole)).shapes
    for path in (tmp_path / "older", shards, whole / "model.safetensors"):
        assert find_source(str(path)).shapes == wanted


def test_every_tensor_that_is_missing_too_many_or_misshapen_is_told_at_once(
    tmp_path: Path,
) -> None:
    tensors = gpt2_files.tensors()
    del tensors["transformer.h.1.mlp.c_fc.bias"]
    tensors["transformer.h.7.ln_1.weight"] = tensors["transformer.ln_f.weight"]
    tensors["transformer.wpe.weight"] = tensors["transformer.wpe.weight"][:20]
    init = gpt2_files.write_gpt2(tmp_path / "gpt2", tensors)

    with pytest.raises(ConfigError) as refusal:
        find_source(str(init))

    assert refusal.value.problems == (
        f"gpt.init: {init}: missing: h.1.mlp.c_fc.bias",
        f"gpt.init: {init}: not of GPT-2: h.7.ln_1.weight",
        f"gpt.init: {init}: of another shape: wpe.weight is 20 x 16, expected 32 x 16",
    )


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "llama"}, "model_type: expected 'gpt2', got 'llama'"),
        ({"activation_function": "silu"}, "activation_function: expected one of gelu_new"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon: expected 1e-05, got 1e-06"),
        ({"n_head": 3}, "n_head: 3 heads of an even width do not fit in n_embd 16"),
        ({"n_layer": None}, "n_layer: expected a whole number above 0, got None"),
    ],
)
def test_another_architecture_is_refused(
    tmp_path: Path, config: dict[str, object], why: str
) -> None:
    init = gpt2_files.write_gpt2(tmp_path / "gpt2", gpt2_files.tensors(), **config)

    with pytest.raises(ConfigError, match=f"config.json: {why}"):
        find_source(str(init))


def test_a_pickle_a_torn_file_and_nothing_are_refused(tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"")
    torn = gpt2_files.write_gpt2(tmp_path / "torn") / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:-5])

    with pytest.raises(ConfigError, match="pytorch_model.bin is a pickle, which could run"):
        find_source(str(pickled))
    with pytest.raises(ConfigError, match="is no safetensors file, or cut short"):
        find_source(str(torn))
    with pytest.raises(ConfigError, match="nowhere is not there; expected gpt2, gpt2-medium"):
        find_source(str(tmp_path / "nowhere"))


def test_published_weights_that_are_nowhere_say_what_to_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(ConfigError, match=r"download config.json and model.safetensors of https"):
        pin({"gpt.init": "gpt2"})
    settings = fill_in({"gpt.init": "openai-community/gpt2-xl", "gpt.dropout": 0.1})

    assert (settings["gpt.layers"], settings["gpt.width"], settings["data.tokenizer"]) == (
        48,
        1600,
        "gpt2",
    )


def test_published_weights_are_found_where_the_hub_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    folder = tmp_path / "hub/models--openai-community--gpt2/snapshots/abc"
    gpt2_files.write_gpt2(folder)

    assert find_source("gpt2").path == folder


def test_settings_that_do_not_fit_are_told_with_those_that_would(tmp_path: Path) -> None:
    init = gpt2_files.write_gpt2(tmp_path / "gpt2")
    asked = {"gpt.init": str(init), "gpt.layers": 3, "gpt.mlp": "relu2", "gpt.context": 64}

    with pytest.raises(ConfigError) as refusal:
        fill_in(asked)

    assert refusal.value.problems == (
        "gpt.layers: is 3, but the weights have 2",
        "gpt.mlp: is 'relu2', but the weights have 'gelu_tanh'",
        "gpt.context: is 64, but the weights have 32 positions; set it to that or less",
    )


def test_another_vocabulary_is_refused(small: dict[str, object], tmp_path: Path) -> None:
    init = gpt2_files.write_gpt2(tmp_path / "gpt2", vocab_size=300)
    its = config(small, init)

    with pytest.raises(ConfigError, match="know 300 tokens, this text has 257 of bytes"):
        first_weights(its, open_table(its.data))


def test_a_run_reads_its_weights_once(small: dict[str, object], tmp_path: Path) -> None:
    """Stopped, it goes on bit for bit though they are gone; begun anew, it needs them."""
    init = gpt2_files.write_gpt2(tmp_path / "gpt2")
    its = config(small, init)
    whole = list(train(its, tmp_path / "whole"))
    stopped = list(islice(train(its, tmp_path / "stopped"), 2))
    shutil.rmtree(init)

    rest = list(train(its, tmp_path / "stopped"))

    assert [p.val_loss for p in rest] == [p.val_loss for p in whole]
    assert stopped[0].val_loss == whole[0].val_loss
    with pytest.raises(ConfigError, match="gpt.init: .*gpt2 is not there"):
        next(train(its, tmp_path / "new"))


def test_a_run_goes_on_where_its_weights_have_moved(
    small: dict[str, object], tmp_path: Path
) -> None:
    init = gpt2_files.write_gpt2(tmp_path / "gpt2")
    list(islice(train(config(small, init), tmp_path / "run"), 2))
    moved = config(small, init.rename(tmp_path / "there"))

    assert len(list(train(moved, tmp_path / "run"))) == 4


def test_weights_that_changed_are_refused(small: dict[str, object], tmp_path: Path) -> None:
    init = gpt2_files.write_gpt2(tmp_path / "gpt2")
    its = config(small, init)
    gpt2_files.write_gpt2(init, gpt2_files.tensors(seed=1))

    with pytest.raises(ConfigError, match=r"gpt.init_digest: expected .*; they changed"):
        next(train(its, tmp_path / "run"))


def test_tables_of_a_tied_head_that_differ_are_refused(
    small: dict[str, object], tmp_path: Path
) -> None:
    tensors = gpt2_files.tensors()
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"] + 1
    its = config(small, gpt2_files.write_gpt2(tmp_path / "gpt2", tensors))

    with pytest.raises(ConfigError, match="lm_head.weight is not wte.weight"):
        first_weights(its, open_table(its.data))


def test_half_precision_is_read(small: dict[str, object], tmp_path: Path) -> None:
    halves = {name: t.astype(np.float16) for name, t in gpt2_files.tensors().items()}
    init = gpt2_files.write_gpt2(tmp_path / "gpt2", halves)

    ours = first_logits(config(small, init), tmp_path / "run")

    np.testing.assert_allclose(ours, gpt2_files.logits(halves, TOKENS_BT), atol=1e-4)
    assert load_file(init / "model.safetensors")["transformer.wte.weight"].dtype == np.float16
