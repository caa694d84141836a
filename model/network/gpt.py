"""The network: a pre-norm decoder. What each option does is written where it acts.

Shapes: B sequences, T tokens, S with those that a cache has, P positions of a window (tokens and
slot), D width, V vocabulary, L layers, O offsets of later tokens.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import KINDS, GPTConfig, scaled
from model.network.attention import Attention, rotary_tables
from model.network.block import Block, NextButOne
from model.network.cache import Cache
from model.network.loss import OFFSETS, cross_entropy, distillation, offset_weights
from model.network.norm import Norm, rms_norm, weighted_sum

# The head is a matrix product; sizes off this grid leave tensor cores idle.
VOCABULARY_MULTIPLE = 64
SMALL_INIT = 0.02  # GPT-2's, for embeddings that are not normalised or are the head too
# What the names of parameters hold that are neither matrices of blocks nor gains and biases. Gates
# and mixes of heads are matrices in form, but small.
MARKS = {
    "embedding": (".embedding.", ".positions.", ".value_tables."),
    "head": (".head.",),
    "residual": (".input_scale_L", ".skip_L"),
    "x0": (".x0_scale_L",),
    "value_gates": (".value_gate.",),
    "head_gates": (".head_gate.",),
    "exclusions": (".exclusion_H",),
    "mixes": (".mix_",),
}
X0_INIT = 0.1  # first weight of the embedding in each layer's input (slowrun)


class GPT(nn.Module):
    """Token ids to next-token logits.

    separator  the token that begins each document; needed to compute with gpt.document_mask
    """

    def __init__(
        self,
        config: GPTConfig,
        vocabulary: int,
        manual_attention: bool = False,
        separator: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config = scaled(config)
        self.vocabulary, self.separator = vocabulary, separator
        padded = table_rows(vocabulary)
        self.embedding = nn.Embedding(padded, config.width)
        if config.positions == "learned":
            self.positions = nn.Embedding(config.places, config.width)
        self.blocks = nn.ModuleList(
            Block(config, layer, manual_attention) for layer in range(config.layers)
        )
        if config.value_residual == "table":
            self.value_tables = nn.ModuleDict(
                {
                    str(layer): nn.Embedding(
                        padded, config.kv_width * config.layer_heads[layer] // config.heads
                    )
                    for layer in range(config.layers)
                    if config.has_value_residual(layer)
                }
            )
        if config.x0:
            self.input_scale_L = nn.Parameter(torch.full((config.layers,), config.residual_init))
            self.x0_scale_L = nn.Parameter(torch.full((config.layers,), X0_INIT))
        if config.unet:
            self.skip_L = nn.Parameter(torch.ones(config.layers // 2))
        if config.mtp == "block":
            self.next_but_one = NextButOne(config, manual_attention)
        self.norm = Norm(config)
        if not config.tied_head:
            self.head = nn.Linear(config.width, padded, bias=False)
        self.cos_TK: Tensor
        self.sin_TK: Tensor
        self.keep_L: Tensor
        self.offset_weights_O: Tensor
        cos_TK, sin_TK = rotary_tables(config)
        self.register_buffer("cos_TK", cos_TK, persistent=False)
        self.register_buffer("sin_TK", sin_TK, persistent=False)
        self.register_buffer("keep_L", torch.ones(config.layers), persistent=False)
        self.register_buffer("offset_weights_O", torch.zeros(OFFSETS), persistent=False)
        self.replaying = False
        self.initialise()

    def initialise(self) -> None:
        """Untied, the first loss is ln(vocabulary) exactly, unless the head does not start at zero.

        Gains, scales and mixes of heads stay as they were built.
        """
        config = self.config
        width, plain = config.width, config.tied_head or not config.embedding_norm
        kinds = {"head": "zeros", "head_gate": "zeros", "value_gate": "zeros"}
        kinds |= {"out": config.output_init, "project": config.output_init}
        for name, module in self.named_modules():
            kind = name.rpartition(".")[2]
            if isinstance(module, nn.Linear):
                match kinds.get(kind, config.input_init):
                    case "zeros":
                        nn.init.zeros_(module.weight)
                    case "normal":
                        nn.init.normal_(module.weight, std=width**-0.5)
                    case "uniform":
                        bound = (3 / width) ** 0.5  # of deviation width^-0.5
                        nn.init.uniform_(module.weight, -bound, bound)
                    case "gpt2":
                        into = (2 * config.layers) ** -0.5 if kind in kinds else 1.0
                        nn.init.normal_(module.weight, std=SMALL_INIT * into)
                if kind == "head" and config.head_init:
                    nn.init.normal_(module.weight, std=config.head_init)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding) and "value_tables" in name:
                nn.init.normal_(module.weight, std=width**-0.5)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=SMALL_INIT if plain else 1.0)

    def enter(self, done: float, seed: int, step: int) -> None:
        """Set what depends on where the run is: `done` of it, in [0, 1], before `step`.

        Layer replay, weights of later tokens, and which layers stochastic depth skips: drawn from
        (seed, step) alone, so that a step cut into micro-batches skips the same.
        """
        config = self.config
        self.replaying = config.is_replaying(done)
        if config.mtp == "offsets":
            self.offset_weights_O.copy_(torch.tensor(offset_weights(config, done)))
        if config.stochastic_depth:
            chance_L = (
                config.stochastic_depth * np.arange(config.layers) / max(1, config.layers - 1)
            )
            kept_L = np.random.default_rng([seed, step]).random(config.layers) >= chance_L
            self.keep_L.copy_(torch.from_numpy(kept_L))

    @property
    def reads_on(self) -> bool:
        """Whether it reads a text of any length."""
        return self.config.context_vector

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V) in fp32 for token ids (B, T).

        T is at most the context, with gpt.context_vector any number.
        """
        return self.logits(self.hidden(tokens_BT))

    def after(self, tokens_BT: Tensor, cache: Cache) -> Tensor:
        """Logits (B, V) in fp32 of the token after all that `cache` has read and `tokens_BT`.

        These join it. All of it is at most the context, with gpt.context_vector any number.
        """
        return self.logits(self.hidden(tokens_BT, cache)[:, -1:])[:, 0]

    def hidden(self, tokens_BT: Tensor, cache: Cache | None = None) -> Tensor:
        """Normalised output of the last layer, (B, T, D).

        cache   of the tokens before these, which join it
        """
        if not self.config.context_vector:
            return self._states(tokens_BT, cache=cache)
        states, carried_BD = [], None
        if cache is not None:
            for piece_BT in cache.pieces(tokens_BT, self.config.context):
                states.append(self._read_on(piece_BT, cache))
            return torch.cat(states, dim=1)
        for window_BT in torch.split(tokens_BT, self.config.context, dim=1):
            hidden_BTD, carried_BD = self.window(window_BT, carried_BD)
            states.append(hidden_BTD)
        return torch.cat(states, dim=1)

    def window(self, tokens_BT: Tensor, carried_BD: Tensor | None) -> tuple[Tensor, Tensor]:
        """Normalised states (B, T, D) of one window, and what it hands on to the next, (B, D).

        carried_BD  what the window before handed on; None: there is none, so zeros are

        That is the mean over all positions, the slot's own among them, as PicoGPT has it
        (github.com/QuwsarOhi/PicoGPT, components/model.py): gradients go back through all windows.
        With gpt.document_mask it is the mean over the document that the window ends in, as far as
        it is in the window: no other reaches tokens of the next.
        """
        if carried_BD is None:
            carried_BD = self._nothing(tokens_BT)
        states_BPD = self._states(tokens_BT, carried_BD)
        document_BP = self._documents(tokens_BT, slot=True)
        return states_BPD[:, 1:], _handed_on(states_BPD, document_BP)

    def _read_on(self, tokens_BT: Tensor, cache: Cache) -> Tensor:
        """Normalised states (B, T, D) of tokens that are no more than the window has room for."""
        begins = cache.length == 0
        slot_BD = cache.carried_BD if begins else None
        if begins and slot_BD is None:
            slot_BD = self._nothing(tokens_BT)
        states_BPD = self._states(tokens_BT, slot_BD, cache)
        cache.states.append(states_BPD)
        if cache.length == self.config.places:
            cache.begin_window(_handed_on(torch.cat(cache.states, dim=1), cache.document_BS))
        return states_BPD[:, 1:] if begins else states_BPD

    def _nothing(self, tokens_BT: Tensor) -> Tensor:
        """What the first window is handed, (B, D)."""
        weight_VD = self.embedding.weight
        return weight_VD.new_zeros(len(tokens_BT), weight_VD.shape[1])

    def _states(
        self, tokens_BT: Tensor, slot_BD: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Normalised output of the last layer, (B, T, D); with a slot that comes first, T + 1."""
        config, depth = self.config, len(self.blocks)
        x0_BTD = x_BTD = self._embed(tokens_BT, cache.length if cache else 0, slot_BD)
        document_BS = self._documents(tokens_BT, slot_BD is not None, cache)
        outputs: dict[int, Tensor] = {}  # of the first half of the layers, for U-Net skips

        def through(x_BTD: Tensor, layers: range) -> Tensor:
            for layer in layers:
                x_BTD = self._layer(layer, x_BTD, x0_BTD, tokens_BT, outputs, document_BS, cache)
            return x_BTD

        if not self.replaying:
            x_BTD = through(x_BTD, range(depth))
        elif config.replay_gradient:
            again = config.replayed
            x_BTD = through(x_BTD, range(again.stop))
            for _ in range(config.replay_passes):
                x_BTD = through(x_BTD, again)
            x_BTD = through(x_BTD, range(again.stop, depth))
        else:
            with torch.no_grad():
                for _ in range(config.replay_passes):
                    x_BTD = rms_norm(through(x_BTD, config.replayed))
            x_BTD = through(x_BTD, range(depth))
        if cache is not None:
            cache.end(x_BTD.shape[1])
        normed_BTD: Tensor = self.norm(x_BTD)
        return normed_BTD

    def _documents(
        self, tokens_BT: Tensor, slot: bool = False, cache: Cache | None = None
    ) -> Tensor | None:
        """Which document of its window each token is of, (B, S), if they must not mix.

        slot  one position more comes first: of the document that the window begins in
        """
        if not self.config.document_mask:
            return None
        assert self.separator is not None, "gpt.document_mask needs to know the separator"
        begins_BT = tokens_BT == self.separator
        begins_BT = F.pad(begins_BT, (1, 0)) if slot else begins_BT
        return cache.number_documents(begins_BT) if cache else begins_BT.cumsum(dim=1)

    def _embed(self, tokens_BT: Tensor, first: int = 0, slot_BD: Tensor | None = None) -> Tensor:
        """(B, T, D), the first being at position `first`; with a slot before the tokens, T + 1."""
        x_BTD: Tensor = self.embedding(tokens_BT)
        if slot_BD is not None:
            x_BTD = torch.cat([slot_BD[:, None].type_as(x_BTD), x_BTD], dim=1)
        if self.config.positions == "learned":
            x_BTD = x_BTD + self.positions.weight[first : first + x_BTD.shape[1]]
        x_BTD = rms_norm(x_BTD) if self.config.embedding_norm else x_BTD
        if self.config.dropout_on == "all":
            x_BTD = F.dropout(x_BTD, self.config.dropout, self.training)
        return x_BTD

    def _layer(
        self,
        layer: int,
        x_BTD: Tensor,
        x0_BTD: Tensor,
        tokens_BT: Tensor,
        outputs: dict[int, Tensor],
        document_BS: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """One block, with what reaches it from elsewhere: x0, a U-Net skip, a value residual."""
        config, first, T = self.config, cache.length if cache else 0, x_BTD.shape[1]
        block = self.blocks[layer]
        assert isinstance(block, Block)
        if config.unet and layer >= config.layers - config.layers // 2:
            skip = self.skip_L[layer - (config.layers - config.layers // 2)]
            x_BTD = weighted_sum(x_BTD, None, outputs[config.layers - 1 - layer], skip)
        if config.x0:
            scales = self.input_scale_L[layer], self.x0_scale_L[layer]
            x_BTD = weighted_sum(x_BTD, scales[0], x0_BTD, scales[1])
        residual_BTV = None
        if config.has_value_residual(layer):
            residual_BTV = (
                self.value_tables[str(layer)](tokens_BT)
                if config.value_residual == "table"
                else _attention(block).value_residual(x0_BTD)
            )
            if residual_BTV.shape[1] < T:  # a slot is in no table
                residual_BTV = F.pad(residual_BTV, (0, 0, 1, 0))
        tables = self.cos_TK[first : first + T], self.sin_TK[first : first + T]
        kept = cache.layer(config.places) if cache else None
        y_BTD: Tensor = block(x_BTD, *tables, residual_BTV, document_BS, kept)
        if self.training and config.stochastic_depth:
            y_BTD = torch.lerp(x_BTD, y_BTD, self.keep_L[layer].type_as(y_BTD))
        if config.unet and layer < config.layers // 2:
            outputs[layer] = y_BTD
        return y_BTD

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """(B, T, V) in fp32, capped if asked."""
        weight_VD = self.embedding.weight if self.config.tied_head else self.head.weight
        logits_BTV = F.linear(hidden_BTD, weight_VD)[..., : self.vocabulary].float()
        if self.config.softcap:
            logits_BTV = self.config.softcap * torch.tanh(logits_BTV / self.config.softcap)
        return logits_BTV

    def losses(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Cross-entropy of every target token, (B, T) nats."""
        return cross_entropy(self(tokens_BT), targets_BT)

    def objective(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor,
        teacher_BTV: Tensor | None = None,
        weight: float = 0.0,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """What training minimises, and the plain loss that is part of it; means, in nats.

        teacher_BTV   what a teacher predicts, with `weight` in what is minimised; all that is
                      learned from the text has the rest
        """
        config = self.config
        hidden_BTD = self.hidden(tokens_BT)
        logits_BTV = self.logits(hidden_BTD)
        plain = total = cross_entropy(logits_BTV, targets_BT).mean()
        if config.mtp == "offsets":
            for offset in range(1, OFFSETS + 1):
                later = cross_entropy(logits_BTV[:, :-offset], targets_BT[:, offset:])
                total = total + self.offset_weights_O[offset - 1] * later.mean()
        if config.mtp == "block":
            later = self._losses_of_next_but_one(tokens_BT, targets_BT, hidden_BTD)
            total = total + config.mtp_weight * later.mean()
        if teacher_BTV is not None:
            apart = distillation(logits_BTV, teacher_BTV, temperature).mean()
            total = (1 - weight) * total + weight * apart
        return total, plain

    def _losses_of_next_but_one(
        self, tokens_BT: Tensor, targets_BT: Tensor, hidden_BTD: Tensor
    ) -> Tensor:
        """Cross-entropy of the token after next, knowing the next, in nats; within windows."""
        T = min(tokens_BT.shape[1], self.config.context)
        if tokens_BT.shape[1] > T:
            tokens_BT, targets_BT = tokens_BT.reshape(-1, T), targets_BT.reshape(-1, T)
            hidden_BTD = hidden_BTD.reshape(-1, T, hidden_BTD.shape[-1])
        next_BTD = self._embed(targets_BT[:, :-1], first=1 + self.config.context_vector)
        tables = self.cos_TK[: T - 1], self.sin_TK[: T - 1]
        document_BT = self._documents(tokens_BT[:, :-1])
        joined_BTD = self.next_but_one(hidden_BTD[:, :-1], next_BTD, *tables, document_BT)
        return cross_entropy(self.logits(joined_BTD), targets_BT[:, 1:])

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Every parameter in exactly one list, by what an optimizer should make of it."""
        groups: dict[str, list[nn.Parameter]] = {kind: [] for kind in ("matrices", *KINDS)}
        for name, parameter in self.named_parameters():
            groups[_kind(name, parameter)].append(parameter)
        return groups


def _handed_on(states_BPD: Tensor, document_BP: Tensor | None) -> Tensor:
    """What a window hands on to the next, (B, D)."""
    if document_BP is None:
        return states_BPD.mean(dim=1)
    open_BP1 = (document_BP == document_BP[:, -1:])[..., None]
    return (states_BPD * open_BP1).sum(dim=1) / open_BP1.sum(dim=1)


def _attention(block: Block) -> Attention:
    assert block.attention is not None
    return block.attention


def table_rows(vocabulary: int) -> int:
    """Rows of the embedding and of the head for so many tokens."""
    return math.ceil(vocabulary / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def _kind(name: str, parameter: nn.Parameter) -> str:
    for kind, marks in MARKS.items():
        if any(mark in f".{name}" for mark in marks):
            return kind
    return "scalars" if parameter.dim() < 2 else "matrices"
