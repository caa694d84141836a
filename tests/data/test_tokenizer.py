from __future__ import annotations

import sys
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from model.config.config import DataConfig
from model.config.setting import ConfigError
from model.data.batches import open_table
from model.data.corpus import CUT
from model.data.tokenizer import (
    UNKNOWN,
    as_data,
    from_data,
    get_tokenizer,
    learn,
    of_characters,
    of_encoding,
    of_ranks,
)

WORDS = "the cat sat on the mat, then the other cat sat on that cat's mat\n"


def test_gpt2_is_tiktokens(gpt2: tiktoken.Encoding) -> None:
    tokenizer = get_tokenizer("gpt2")
    text = "Hello, wörld! <|endoftext|> is text here.\n\n\tyes"

    tokens = tokenizer.encode(text)

    assert tokens.tolist() == gpt2.encode_ordinary(text)
    assert tokenizer.decode(tokens) == text
    assert tokenizer.separator == 50256
    assert tokenizer.dtype == np.uint16
    assert tokenizer.lengths[tokens].sum() == len(text.encode())


def test_an_encoding_that_cannot_be_downloaded_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(*about: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", offline)

    with pytest.raises(ConfigError, match=r"has to be downloaded once .* TIKTOKEN_CACHE_DIR"):
        get_tokenizer("o200k_base")


def patterns() -> list[str]:
    """What tiktoken's encodings cut text by, without their vocabularies, which are elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *about, **more: {})
        later = [openai_public.cl100k_base(), openai_public.o200k_base()]
    return [openai_public.r50k_pat_str, *(encoding["pat_str"] for encoding in later)]


PATTERNS = patterns()
TEXT = st.text(st.sampled_from("ab Z0_.,/'\n\n\t é\u00a0中"), max_size=60)


@given(TEXT)
def test_text_is_cut_only_where_every_encoding_cuts(text: str) -> None:
    """By what tiktoken itself cuts by first: the patterns of all its encodings."""
    cuts = [0, *(match.start() for match in CUT.finditer(text)), len(text)]
    for pattern in PATTERNS:
        whole = regex.findall(pattern, text)
        apart = [regex.findall(pattern, text[a:b]) for a, b in pairwise(cuts)]
        assert list(chain.from_iterable(apart)) == whole


def test_characters_are_those_of_train_and_one_unknown() -> None:
    tokenizer = of_characters("abé")

    tokens = tokenizer.encode("béz")

    assert tokens.tolist() == [1, 2, 3]
    assert tokenizer.decode(tokens) == f"bé{UNKNOWN}"
    assert (tokenizer.vocabulary, tokenizer.separator) == (5, 4)


def test_a_character_that_only_val_has_is_unknown_there(tmp_path: Path) -> None:
    """nanoGPT's vocabulary holds the characters of val too; knowing them is a small leak."""
    text = "abcd" * 400 + "Z" * 100
    (tmp_path / "a.txt").write_text(text)

    table = open_table(
        DataConfig(
            path=str(tmp_path), tokenizer="chars", train_tokens=9, val_tokens=100, test_tokens=0
        )
    )

    assert table.vocabulary == len("abcd") + 2
    assert table.tokenizer.decode(table.val) == UNKNOWN * 100
    assert table.tokenizer.decode(table.train) == "abcd" * 400


def test_a_bpe_is_learned_and_served_by_tiktoken() -> None:
    ranks = learn(iter([WORDS] * 50), 300)
    tokenizer = of_encoding(of_ranks(ranks))

    tokens = tokenizer.encode(WORDS)

    assert ranks == learn(iter([WORDS] * 50), 300)
    assert len(tokens) < len(WORDS) / 2
    assert tokenizer.decode(tokens) == WORDS
    assert tokenizer.vocabulary <= 300
    assert tokenizer.separator == tokenizer.vocabulary - 1
    assert b" the" in tokenizer.pieces
    assert not any(b"\n" in piece and len(piece) > 1 for piece in tokenizer.pieces)


def test_a_missing_learner_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    with pytest.raises(ConfigError, match=r"pip install 'sweep\[bpe\]'"):
        learn(iter([WORDS]), 300)


@given(st.text(max_size=80))
def test_a_bpe_knows_every_text(text: str) -> None:
    assert BPE.decode(BPE.encode(text)) == text


BPE = of_encoding(of_ranks(learn(iter([WORDS] * 5), 280)))


@pytest.mark.parametrize("splits", ["hash", "stream"])
def test_a_bpe_learns_nothing_from_held_out_documents(splits: str, tmp_path: Path) -> None:
    """A word of its own repeats in each document: it is a token only if the document was read."""
    for number in range(100):
        word = "".join(chr(97 + int(d)) for d in f"{number * 7919:09}")
        (tmp_path / f"{number:02}.txt").write_text(f"{word} " * 60)

    table = open_table(
        DataConfig(
            path=str(tmp_path),
            tokenizer="bpe",
            vocabulary=1000,
            splits=splits,
            train_tokens=9,
            val_tokens=900,
            test_tokens=900,
        )
    )

    whole = {piece.strip() for piece in table.tokenizer.pieces if len(piece) >= 9}
    held_out = table.tokenizer.decode(np.concatenate([table.val, table.test]))
    train = table.tokenizer.decode(table.train)
    assert len(whole) > 30
    assert not [word for word in whole if word.decode() in held_out]
    assert all(word.decode() in train for word in whole)


def test_a_single_text_gives_its_bpe_from_its_beginning(tmp_path: Path) -> None:
    words = [f"w{i * 7919 % 1000:03}x" for i in range(30_000)]
    (tmp_path / "a.txt").write_text(" ".join(words) + " ending" * 800)

    table = open_table(
        DataConfig(
            path=str(tmp_path), tokenizer="bpe", vocabulary=600, val_tokens=1000, test_tokens=500
        )
    )

    assert table.vocabulary == 600
    assert b" ending" not in table.tokenizer.pieces  # four bytes a token are held back


def test_a_table_knows_its_tokenizer_again(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(WORDS * 200)
    for name in ("bytes", "chars", "bpe"):
        table = open_table(
            DataConfig(
                path=str(tmp_path),
                tokenizer=name,
                vocabulary=280,
                train_tokens=9,
                val_tokens=60,
                test_tokens=60,
            )
        )

        assert table.tokenizer.digest == table.recorded["tokenizer"]["digest"]
        assert table.tokenizer.decode(table.tokenizer.encode("the cat")) == "the cat"


def test_large_vocabularies_have_wider_tokens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As o200k's do, which cannot be downloaded everywhere."""
    from model.data import from_text as ingest

    pieces = [bytes([value]) for value in range(256)] + [b"%06d" % n for n in range(70_000)]
    wide = of_encoding(of_ranks(pieces))
    monkeypatch.setattr(ingest, "get_tokenizer", lambda name: wide)
    (tmp_path / "a.txt").write_text(WORDS * 200)

    table = open_table(
        DataConfig(
            path=str(tmp_path), tokenizer="o200k_base", val_tokens=60, test_tokens=0, train_tokens=9
        )
    )

    assert table.train.dtype == np.uint32
    assert bytes(table.train[1:9].tolist()) == WORDS[:8].encode()


def test_a_bpe_of_one_document_learns_nothing_from_another_split(tmp_path: Path) -> None:
    """Held back as if a token were four bytes; as it is more, val reaches further than assumed."""
    for number in range(12):
        word = "".join(chr(97 + int(d)) for d in f"{number * 7919:09}")
        (tmp_path / f"{number:02}.txt").write_text(f"{word} {'understandable words ' * 50}")
    data = DataConfig(
        path=str(tmp_path),
        tokenizer="bpe",
        vocabulary=1000,
        splits="stream",
        train_tokens=9,
        pool_tokens=100,
        val_tokens=300,
        test_tokens=0,
    )

    table = open_table(data)

    whole = [piece.strip().decode() for piece in table.tokenizer.pieces if len(piece) >= 9]
    assert len(whole) > 1
    assert [word for word in whole if word not in table.tokenizer.decode(table.train)] == []


def test_a_bpe_is_learned_from_a_single_training_document(tmp_path: Path) -> None:
    """Its separator stands for no byte."""
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(
            chr(97 + number) * 40 + "".join(map(chr, range(33, 120)))
        )
    data = DataConfig(
        path=str(tmp_path),
        tokenizer="bpe",
        vocabulary=258,
        splits="stream",
        train_tokens=9,
        val_tokens=20,
        test_tokens=20,
    )

    assert open_table(data).recorded["documents"]["train"] == 1


def test_an_encoding_of_tiktoken_is_made_again_from_its_pieces_without_fetching_it(
    gpt2: tiktoken.Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = of_encoding(gpt2)
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: pytest.fail(f"{name} is fetched"))

    again = from_data(as_data(made), made.pieces, made.pattern)

    text = "the cat <|endoftext|> sat\non 12 mats"
    assert again.encode(text).tolist() == made.encode(text).tolist()
    assert (again.digest, again.separator) == (made.digest, made.separator)
