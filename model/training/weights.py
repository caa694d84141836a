"""Weights of others: those a run begins with (`gpt.init`), and networks of them as they are."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from model.config import Config, ConfigError
from model.data.table import TokenTable
from model.data.token_files import VOCABULARY, read_meta
from model.data.tokenizer import Tokenizer, get_tokenizer
from model.network import GPT, table_rows
from model.pretrained import (
    Source,
    find_source,
    fitted,
    own_tokenizer,
    read_weights,
    weights_of,
    write,
)
from model.training.trained import Trained


def first_weights(config: Config, table: TokenTable) -> dict[str, Tensor]:
    """What `gpt.init` names, for a network on the tokens of `table`.

    Raises ConfigError with every way in which it does not fit.
    """
    rows = table_rows(table.vocabulary)
    return read_weights(config.gpt, rows, table.recorded["tokenizer"])


def open_weights(word: str) -> Trained:
    """The network that `word` names as `gpt.init` does, on the CPU, ready to predict.

    Raises ConfigError if there is none, it is damaged, or its tokens are not known.
    """
    source = find_source(word, fetch=True)
    tokenizer = _tokenizer(source)
    shape, vocabulary = source.shape, tokenizer.vocabulary
    config = Config.from_settings(
        {
            **shape.settings(),
            "data.tokenizer": "gpt2" if tokenizer.name == "gpt2" else "bytes",
            # What it takes for the settings to be possible: it is not trained with them.
            "data.train_tokens": shape.context + 1,
            "data.val_tokens": shape.context + 1,
            "train.batch_tokens": shape.context,
            "train.evals": 1,
        }
    )
    gpt = GPT(config.gpt, vocabulary)
    gpt.load_state_dict(fitted(weights_of(source), gpt.config, table_rows(vocabulary)))
    return Trained(config, gpt.eval(), tokenizer)


def write_weights(trained: Trained, folder: Path) -> list[str]:
    """Write a network into `folder` as Hugging Face keeps GPT-2; the names of its files.

    Raises ConfigError with every setting that stands in the way, and then writes nothing.
    """
    if not isinstance(trained.gpt, GPT):
        raise ConfigError(["it is several networks as one; name one of them"])
    return write(trained.gpt, trained.tokenizer, folder)


def _tokenizer(source: Source) -> Tokenizer:
    """What the tokens of `source` stand for: kept beside it, nanoGPT's meta.pkl, or GPT-2's."""
    folder = source.path if source.path.is_dir() else source.path.parent
    tokenizer = own_tokenizer(folder)
    if tokenizer is None and source.checkpoint:
        its = f"data/{source.checkpoint.dataset}/{VOCABULARY}"
        metas = [path for path in (folder / VOCABULARY, folder.parent / its) if path.exists()]
        tokenizer = read_meta(metas[0]) if metas else None
    if tokenizer is None and source.has_gpt2_tokens:
        tokenizer = get_tokenizer("gpt2")
    if tokenizer is None:
        raise ConfigError(
            [
                f"{source.path} knows {source.shape.vocabulary:,} tokens, and nothing beside it "
                f"tells what they stand for; put nanoGPT's {VOCABULARY} there"
            ]
        )
    if table_rows(tokenizer.vocabulary) != table_rows(source.shape.vocabulary):
        raise ConfigError(
            [
                f"{source.path} knows {source.shape.vocabulary:,} tokens, the tokenizer beside it "
                f"{tokenizer.vocabulary:,}"
            ]
        )
    return tokenizer
