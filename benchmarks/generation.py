"""What a token of text costs, with keys and values kept and with the window read again for each.

    OMP_NUM_THREADS=1 python benchmarks/generation.py
    OMP_NUM_THREADS=1 python benchmarks/generation.py --preset gpt2-124m --tokens 64 256

Weights are random, which cost the same as trained ones; both ways read the same tokens, in turns.
CPU milliseconds a token, median of the turns, averaged over the last tokens before each length of
text. Beyond the context a new window begins with the latter half of the old one: that pass is in
the average over one context more.
"""

from __future__ import annotations

import argparse
import time
from statistics import fmean, median

import torch

from model.config import Config
from model.config.presets import PRESETS
from model.network import GPT
from model.trained.generate import Reader

AVERAGED = 8  # tokens before each length
TURNS = 3


def seconds_by_token(gpt: GPT, tokens: list[int], lengths: list[int], cached: bool) -> list[float]:
    """Seconds of each token that is averaged, by length; the tokens between are read unmeasured."""
    reader, seconds, read = Reader(gpt, cached), [], 0
    for length in lengths:
        if begin := length - AVERAGED - read:
            if cached:  # between two lengths a token at a time, as text is written
                for token in tokens[read : read + begin]:
                    reader.read([token])
            else:
                reader = Reader(gpt, cached)
                reader.read(tokens[: read + begin])
            read += begin
        each = []
        for token in tokens[read:length]:
            began = time.process_time()
            reader.read([token])
            each.append(time.process_time() - began)
        seconds.append(fmean(each))
        read = length
    return seconds


def text_seconds(reader: Reader, tokens: list[int]) -> float:
    """Seconds of a text from its first token to its last."""
    began = time.process_time()
    for token in tokens:
        reader.read([token])
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="", help="else 6 layers of width 384, context 256")
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 64, 128, 256])
    asked = parser.parse_args()
    shape = {"gpt.layers": 6, "gpt.width": 384, "gpt.head_width": 64, "gpt.context": 256}
    recipe = PRESETS[asked.preset] if asked.preset else None
    config = Config.from_settings(recipe.settings if recipe else shape)
    torch.manual_seed(0)
    gpt = GPT(config.gpt, recipe.vocabulary if recipe else 257).eval()
    its = gpt.config
    tokens = torch.randint(gpt.vocabulary, (2 * its.context,)).tolist()
    print(f"{its.layers} x {its.width}, context {its.context}, {torch.get_num_threads()} threads")
    Reader(gpt).read(tokens[:AVERAGED])  # whatever is done once
    turns = [
        [seconds_by_token(gpt, tokens, asked.tokens, cached) for cached in (True, False)]
        for _ in range(TURNS)
    ]
    print("text length  kept, ms  read again, ms  ratio")
    for at, length in enumerate(asked.tokens):
        kept, again = (median(turn[way][at] for turn in turns) for way in (0, 1))
        print(f"{length:11}  {1000 * kept:8.2f}  {1000 * again:14.2f}  {again / kept:5.1f}")
    whole = min(256, its.context)
    kept, again = (text_seconds(Reader(gpt, cached), tokens[:whole]) for cached in (True, False))
    print(f"a text of {whole}: {kept:.2f} s and {again:.2f} s, {again / kept:.1f} times as long")
    reader = Reader(gpt)
    reader.read(tokens[: its.context])
    beyond = text_seconds(reader, tokens[its.context :]) / its.context
    print(f"beyond the context: {1000 * beyond:.2f} ms")


if __name__ == "__main__":
    main()
