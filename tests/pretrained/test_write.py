"""Networks of ours as Hugging Face's GPT-2."""

from __future__ import annotations

import json
from pathlib import Path

import gpt2_files
import numpy as np
import pytest
import tiktoken
import torch
from safetensors.numpy import load_file

from model.config import ConfigError, GPTConfig
from model.config.presets import PRESETS
from model.data import byte_pairs
from model.data.tokenizer import get_tokenizer
from model.network import GPT
from model.pretrained import write
from model.training.weights import open_weights

SHAPE = {"layers": 2, "width": 16, "head_width": 8, "context": 32}
NETWORK = {
    name.removeprefix("gpt."): value
    for name, value in PRESETS["nanogpt-char"].settings.items()
    if name.startswith("gpt.")
}


def network(**settings: object) -> GPT:
    """A random network of GPT-2's architecture, with what is set otherwise."""
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(**{**NETWORK, **SHAPE, **settings}), 257).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return gpt


@pytest.mark.parametrize("bias", [True, False])
def test_what_is_written_computes_the_same(tmp_path: Path, bias: bool) -> None:
    """By the reference forward and read back; biases that ours lacks are zero there."""
    gpt = network(bias=bias, mlp="gelu_tanh")
    tokens_BT = np.arange(60).reshape(2, 30) * 7 % 257
    with torch.no_grad():
        ours = gpt(torch.from_numpy(tokens_BT)).numpy()

    write(gpt, get_tokenizer("bytes"), tmp_path / "out")
    again = open_weights(str(tmp_path / "out"))

    theirs = gpt2_files.logits(load_file(tmp_path / "out/model.safetensors"), tokens_BT)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    with torch.no_grad():
        np.testing.assert_allclose(again.gpt(torch.from_numpy(tokens_BT)), ours, atol=1e-5)
    assert again.tokenizer.name == "bytes"


def test_the_configuration_says_all_that_differs_from_its_defaults(tmp_path: Path) -> None:
    gpt = network(dropout=0.2, mlp_expansion=2.0, tied_head=False)

    write(gpt, get_tokenizer("bytes"), tmp_path)
    its = json.loads((tmp_path / "config.json").read_text())

    assert (its["n_layer"], its["n_head"], its["n_embd"], its["n_positions"]) == (2, 2, 16, 32)
    assert (its["vocab_size"], its["n_inner"], its["activation_function"]) == (257, 32, "gelu")
    assert (its["attn_pdrop"], its["embd_pdrop"], its["tie_word_embeddings"]) == (0.2, 0.2, False)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")


def test_every_setting_that_stands_in_the_way_is_named_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    gpt = network(norm="rms", positions="rotary", softcap=15.0, x0=True, windows="SL")

    with pytest.raises(ConfigError) as refusal:
        write(gpt, get_tokenizer("bytes"), tmp_path / "out")

    assert refusal.value.problems == (
        "gpt.norm: is 'rms', but GPT-2 has 'layer'",
        "gpt.positions: is 'rotary', but GPT-2 has 'learned'",
        "gpt.x0: is true, but GPT-2 has false",
        "gpt.softcap: is 15.0, but GPT-2 has 0.0",
        "gpt.windows: is 'SL', but GPT-2 has 'L'",
    )
    assert not (tmp_path / "out").exists()


def test_a_context_vector_stands_in_the_way_and_windows_that_it_would_have_do_not(
    tmp_path: Path,
) -> None:
    write(network(context_windows=4), get_tokenizer("bytes"), tmp_path / "without")

    with pytest.raises(ConfigError) as refusal:
        write(network(context_vector=True, context_windows=4), get_tokenizer("bytes"), tmp_path)

    problems = ("gpt.context_vector: is true, but GPT-2 has false",)
    assert refusal.value.problems == problems


def test_merges_are_those_that_the_ranks_were_learned_by(toy_gpt2: tiktoken.Encoding) -> None:
    """A tokenizer that applies them gives the encoding's tokens."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = get_tokenizer("gpt2")
    pairs = [tuple(line.split(" ")) for line in byte_pairs.merges(tokenizer)]

    theirs = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=byte_pairs.vocabulary(tokenizer), merges=pairs)
    )
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)

    text = "another document of the stream, in sentences\n\n  with wörds"
    assert theirs.encode(text).ids == toy_gpt2.encode_ordinary(text)
