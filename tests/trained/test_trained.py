"""Trained networks in a folder and back."""

from __future__ import annotations

from pathlib import Path

import torch

from model.config.config import Config
from model.data.tokenizer import of_characters
from model.network.gpt import GPT
from model.network.mixture import Mixture
from model.training.trained import Trained, load, write


def test_several_networks_of_different_shapes_are_read_as_they_were_written(
    tmp_path: Path,
) -> None:
    tokenizer, gpts = of_characters(" abc"), []
    for layers, scale in ((1, 1.0), (2, 2.0)):
        config = Config.from_settings(
            {"gpt.layers": layers, "gpt.scale": scale, "gpt.width": 32, "gpt.head_init": 0.5}
        )
        gpts.append(GPT(config.gpt, tokenizer.vocabulary))
    tokens_BT = torch.tensor([[5, 1, 2, 3, 0]])
    mixture = Mixture([Mixture(gpts, [1, 1]), gpts[0]], [3, 1]).eval()

    write(Trained(config, mixture, tokenizer), tmp_path / "kept")

    again = load(tmp_path / "kept").gpt
    with torch.no_grad():
        assert torch.equal(again(tokens_BT), mixture(tokens_BT))


def test_several_networks_that_read_unlike_far_are_read_as_they_were_written(
    tmp_path: Path,
) -> None:
    """The batches of one are not of whole sequences of the other."""
    tokenizer, gpts = of_characters(" abc"), []
    shape = {"gpt.layers": 4, "gpt.width": 32, "gpt.head_init": 0.5, "gpt.output_init": "normal"}
    for context, passes in ((48, 1), (64, 0)):
        config = Config.from_settings(
            {
                **shape,
                "gpt.context": context,
                "gpt.replay_passes": passes,
                "train.batch_tokens": 4 * context,
                "train.meta_step": 0.1,
            }
        )
        gpts.append(GPT(config.gpt, tokenizer.vocabulary))
    gpts[0].replaying = True
    tokens_BT = torch.tensor([[5, 1, 2, 3, 0]])
    mixture = Mixture(gpts, [3, 1]).eval()

    write(Trained(config, mixture, tokenizer), tmp_path / "kept")

    again = load(tmp_path / "kept").gpt
    with torch.no_grad():
        assert torch.equal(again(tokens_BT), mixture(tokens_BT))
