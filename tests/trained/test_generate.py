"""What a trained network says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.config import Config, ConfigError, GPTConfig
from model.data.tokenizer import Tokenizer, get_tokenizer, of_characters, of_list
from model.network import GPT, Mixture
from model.trained.generate import Reader, continuation, continuing, drawn, stream
from model.trained.sampling import Sampling
from model.training.export import Trained

LINE = "the cat sat on the mat. "  # which the network knows by heart
CONTEXT = 16
BYTES = get_tokenizer("bytes")


def random_network(seed: int, options: Mapping[str, object] = {}) -> GPT:  # only read
    """One that says anything, and nothing for sure."""
    config = GPTConfig(layers=2, width=16, head_width=8, context=CONTEXT, **options)  # type: ignore[arg-type]
    torch.manual_seed(seed)
    gpt = GPT(config, BYTES.vocabulary, separator=BYTES.separator).eval()
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return gpt


def saying(gpt: GPT | Mixture, tokenizer: Tokenizer = BYTES) -> Trained:
    return Trained(Config.from_settings({}), gpt, tokenizer)


def test_greedy_decoding_of_an_overfit_network_repeats_its_corpus(learned: Trained) -> None:
    said = continuation(learned, LINE * 2, max_new_tokens=100, temperature=0)

    assert said == (LINE * 5)[:100]


def test_the_same_seed_draws_the_same_text_and_another_another(learned: Trained) -> None:
    one, again, other = (
        continuation(learned, "the", 40, temperature=2.0, seed=seed) for seed in (1, 1, 2)
    )

    assert one == again != other


def test_a_prompt_longer_than_the_context_is_read_from_its_end(learned: Trained) -> None:
    long = continuation(learned, LINE * 20, 24, temperature=0)

    assert long == LINE


@pytest.mark.parametrize(
    ("options", "prompt", "temperature"),
    [
        ({}, 3, 1.0),
        ({}, CONTEXT, 0.0),
        ({"positions": "learned"}, 5 * CONTEXT, 1.0),
        ({"document_mask": True, "windows": "SL"}, CONTEXT - 1, 1.0),
        ({"context_vector": True}, 2 * CONTEXT, 1.0),
    ],
)
def test_text_is_the_same_with_and_without_the_cache(
    options: Mapping[str, object], prompt: int, temperature: float
) -> None:
    """Far beyond the context too, whose windows begin where they begin without it."""
    trained = replace(saying(random_network(0, options)), tokenizer=replace(BYTES, separator=None))
    tokens = np.random.default_rng(1).integers(0, BYTES.vocabulary, prompt).tolist()
    sampling = Sampling(tokens=4 * CONTEXT, temperature=temperature, top_k=0, seed=5)

    fast, slow = (list(continuing(trained, tokens, sampling, cached)) for cached in (True, False))

    assert fast == slow
    assert len(fast) == 4 * CONTEXT


def test_a_token_is_predicted_from_half_a_context_or_more() -> None:
    gpt = random_network(0)
    tokens = np.random.default_rng(1).integers(0, BYTES.vocabulary, 3 * CONTEXT).tolist()
    reader = Reader(gpt)
    reader.read(tokens[: CONTEXT - 1])

    for read in range(CONTEXT, 3 * CONTEXT):
        logits_V = reader.read([tokens[read - 1]])

        begin = (read - CONTEXT + CONTEXT // 2 - 1) // (CONTEXT // 2) * (CONTEXT // 2)
        with torch.inference_mode():
            at_once_V = gpt(torch.tensor([tokens[begin:read]]))[0, -1]
        assert CONTEXT / 2 <= read - begin <= CONTEXT
        torch.testing.assert_close(logits_V, at_once_V, atol=1e-5, rtol=1e-5)


def test_a_mixture_writes_too() -> None:
    mixture = Mixture([random_network(0), random_network(1)], [1, 3])
    trained = saying(mixture, replace(BYTES, separator=None))
    sampling = Sampling(tokens=3 * CONTEXT, seed=2)

    fast, slow = (list(continuing(trained, [1, 2], sampling, cached)) for cached in (True, False))

    assert fast == slow


def test_pieces_are_of_whole_characters_and_half_ones_at_the_end_are_marked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = iter("aé€".encode() + "€".encode()[:2])
    monkeypatch.setattr("model.trained.generate.drawn", lambda *_: next(written))

    pieces = list(stream(saying(random_network(0)), "x", Sampling(tokens=8)))

    assert pieces == ["a", "é", "€", "\N{REPLACEMENT CHARACTER}"]


def test_only_the_likeliest_are_drawn_from() -> None:
    logits_V, draw = torch.tensor([0.0, 3.0, 1.0, 2.9]), torch.Generator().manual_seed(0)

    two = {drawn(logits_V, Sampling(top_k=2, temperature=100), draw) for _ in range(50)}
    every = {drawn(logits_V, Sampling(top_k=0, temperature=100), draw) for _ in range(50)}

    assert two == {1, 3}
    assert every == {0, 1, 2, 3}
    assert drawn(logits_V, Sampling(temperature=0), draw) == 1


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "message"),
    [
        (of_characters("abc"), "abxyx", "the text it was trained on has no 'x' 'y'; leave"),
        (of_list("abc"), "aß\n", r"has no 'ß' '\\n'"),
        (of_list("abc"), "", "prompt: is empty, and this tokenizer has no token to begin with"),
        (BYTES, "\udcff", "prompt: is not UTF-8"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused_before_anything_is_written(
    tokenizer: Tokenizer, prompt: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        stream(saying(random_network(0), tokenizer), prompt, Sampling())


def test_a_network_that_diverged_is_said_to_predict_nothing() -> None:
    gpt = random_network(0)
    torch.nn.init.constant_(gpt.head.weight, torch.nan)

    with pytest.raises(ConfigError, match="no finite numbers; did its training diverge"):
        list(stream(saying(gpt), "a", Sampling()))


def test_every_value_out_of_bounds_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        Sampling(tokens=0, temperature=float("nan"), top_k=-1, seed=-1)

    assert list(raised.value.problems) == [
        "tokens: must be from 1 to 1,000,000, got 0",
        "temperature: must be from 0 to 100, got nan",
        "top_k: must be at least 0, which draws from all, got -1",
        f"seed: must be from 0 to {2**63 - 1}, got -1",
    ]
