"""A page on which trained GPTs continue a prompt, two of them side by side.

`sweep page` serves it. It also is the app.py of a Hugging Face Space that `sweep page --export`
writes: there it reads models.json beside it. So it imports no more of sweep than model/.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from model.config import Config, ConfigError, GPTConfig, Value
from model.trained.generate import stream
from model.trained.sampling import Sampling
from model.training.trained import Trained, load

MODELS = "models.json"  # of a Space: its title, and what is offered, the best first
SECONDS_BETWEEN_UPDATES = 0.05  # of the text, while it grows
ANY_SEED = 2**31
SIDE_BY_SIDE = 2
# Before gradio is imported: it would report its use.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
CSS = """
.gradio-container {max-width: 72rem !important; margin: 0 auto !important}
.text textarea {font-family: ui-monospace, Consolas, Menlo, monospace; line-height: 1.45}
.facts table {font-size: .9rem} .facts thead {display: none}
.facts table, .facts tbody, .facts tr {border: 0 !important}
.facts td {border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important;
  padding: .3rem .5rem !important}
.facts td:first-child {white-space: nowrap; opacity: .7}
"""


@dataclass(frozen=True)
class Offered:
    """A trained network that the page lets one choose."""

    name: str
    open: Callable[[], Trained]  # raises ConfigError
    val_loss: float | None = None  # nats per token
    searched: Mapping[str, Value] = field(default_factory=dict)  # settings that its sweep chose

    @property
    def label(self) -> str:
        return self.name if self.val_loss is None else f"{self.name}   loss {self.val_loss:.4f}"


def facts(offered: Offered, trained: Trained) -> dict[str, str]:
    """What the page shows of a network."""
    config, data, gpts = trained.config, trained.config.data, trained.gpts
    kinds = trained.tokenizer.vocabulary
    shown = {}
    if offered.val_loss is not None:
        shown["Loss"] = f"{offered.val_loss:.4f} nats a token, on held-out text"
    shown["Size"] = f"{trained.parameters:,} parameters"
    shown["Size"] += f", in {len(gpts)} networks" if len(gpts) > 1 else ""
    shown["Network"] = "; ".join(dict.fromkeys(_shape(gpt.config) for gpt in gpts))
    shown["Tokens"] = f"{trained.tokenizer.name}, {kinds:,} kinds"
    if len(gpts) == 1 and trained.step:  # else nobody knows
        epochs = counted(config.train.epochs, "epoch")
        shown["Trained on"] = f"{epochs} of {data.train_tokens:,} tokens, with {config.optim.name}"
    return shown | {name: _short(value) for name, value in offered.searched.items()}


def _shape(gpt: GPTConfig) -> str:
    return (
        f"{counted(gpt.layers, 'layer')}, width {gpt.width}, {counted(gpt.heads, 'head')}, "
        f"context of {gpt.reach:,} tokens"
    )


def counted(number: int, noun: str) -> str:
    """So many of them, in words."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _short(value: Value) -> str:
    """A proposed rate has sixteen digits, of which a reader needs few."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def other_settings(config: Config) -> dict[str, str]:
    """Settings that are not at their default, but those of this machine's files."""
    plain = Config.from_settings({}).settings()
    return {
        name: _short(value)
        for name, value in config.settings().items()
        if value != plain[name] and name not in ("data.path", "data.digest", "data.reference")
    }


def continuing(
    models: Sequence[Offered],
    prompt: str,
    sampling: Sampling,
    seconds: float = SECONDS_BETWEEN_UPDATES,
) -> Iterator[tuple[str, ...]]:
    """The prompt with what each network says after it, longer each time; at most one in `seconds`.

    They take turns, a piece each: as threads they would keep each other and the server waiting for
    Python's lock. Raises ConfigError if a network cannot be opened or the prompt not be continued.
    """
    texts = [prompt] * len(models)
    yield tuple(texts)
    writing = {place: stream(its.open(), prompt, sampling) for place, its in enumerate(models)}
    shown, last = list(texts), time.monotonic()
    while writing:
        for place, pieces in [*writing.items()]:
            piece = next(pieces, None)
            if piece is None:
                del writing[place]
            else:
                texts[place] += piece
        if time.monotonic() - last >= seconds:
            yield tuple(texts)
            shown, last = list(texts), time.monotonic()
    if shown != texts:
        yield tuple(texts)


def as_table(rows: Mapping[str, str]) -> str:
    """Rows of Markdown; what would end a cell is escaped."""
    cells = [(name, value.replace("|", r"\|").replace("\n", " ")) for name, value in rows.items()]
    return "\n".join(["| | |", "|:--|:--|", *(f"| {name} | {value} |" for name, value in cells)])


def page(title: str, models: Sequence[Offered]) -> Any:
    """The page as gradio.Blocks, not yet served; `looks` has what its `launch` needs."""
    os.environ |= QUIET
    import gradio as gr

    offered = {model.name: model for model in models}

    def generate(
        prompt: str, tokens: float, temperature: float, top_k: float, seed: float, *names: str
    ) -> Iterator[Any]:
        try:
            sampling = Sampling(
                tokens=int(tokens),
                temperature=temperature,
                top_k=int(top_k),
                seed=int(seed) or random.randrange(ANY_SEED),
            )
            for said in continuing([offered[name] for name in names], prompt, sampling):
                yield said if len(said) > 1 else said[0]
        except ConfigError as error:
            raise gr.Error("; ".join(error.problems), print_exception=False) from None

    def describe(name: str) -> tuple[str, str]:
        try:
            trained = offered[name].open()
        except ConfigError as error:
            return f"{name} cannot be opened: {'; '.join(error.problems)}", ""
        return as_table(facts(offered[name], trained)), as_table(other_settings(trained.config))

    with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as blocks:
        gr.Markdown(f"# {title}")
        prompt = gr.Textbox(
            label="Prompt", lines=3, max_lines=12, placeholder="The text begins so; empty will do."
        )
        with gr.Row():
            slider = partial(gr.Slider, min_width=160, buttons=[])
            numbers = [
                slider(1, 1000, 200, step=1, label="Length"),
                slider(0, 2, 0.8, step=0.05, label="Temperature"),
                slider(0, 500, 200, step=1, label="Top-k (0: all)"),
                gr.Number(0, label="Seed (0: any)", precision=0, min_width=160),
            ]
        with gr.Row():
            go = gr.Button("Generate", variant="primary", min_width=150)
            stop = gr.Button("Stop", min_width=150)
        columns, texts = [], []
        with gr.Row():
            for model in models[:SIDE_BY_SIDE]:
                with gr.Column(min_width=320):
                    chosen = gr.Dropdown(
                        [(model.label, model.name) for model in models],
                        value=model.name,
                        label="Model",
                    )
                    text = gr.Textbox(
                        label="Text",
                        lines=12,
                        max_lines=24,
                        interactive=False,
                        buttons=["copy"],
                        elem_classes="text",
                    )
                    about = gr.Markdown(elem_classes="facts")
                    with gr.Accordion("Other settings", open=False):
                        others = gr.Markdown(elem_classes="facts")
                columns.append(chosen)
                texts.append(text)
                gr.on(
                    [blocks.load, chosen.change],
                    describe,
                    chosen,
                    [about, others],
                    api_visibility="private",
                    show_progress="hidden",
                )
        running = gr.on(
            [go.click, prompt.submit],
            generate,
            [prompt, *numbers, *columns],
            texts,
            api_name="generate",
            show_progress="minimal",
        )
        stop.click(None, cancels=running, api_visibility="private")
    return blocks


def looks() -> dict[str, Any]:
    """Arguments of `launch`: fonts of the reader's own, for none come from a network."""
    import gradio as gr

    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return {"theme": gr.themes.Default(**fonts), "css": CSS, "footer_links": []}


def models_of(folder: Path) -> tuple[str, list[Offered]]:
    """The title and the networks of a Space."""
    space = json.loads((folder / MODELS).read_text(encoding="utf-8"))

    def offered(its: Mapping[str, Any]) -> Offered:
        opened = lru_cache(1)(partial(load, folder / its["folder"]))
        return Offered(its["name"], opened, its["val_loss"], its["searched"])

    return space["title"], [offered(its) for its in space["models"]]


if __name__ == "__main__":
    page(*models_of(Path(__file__).parent)).launch(**looks())
