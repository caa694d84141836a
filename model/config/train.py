"""Settings of a run: how long, in what batches, evaluated how, on what device."""

from __future__ import annotations

from dataclasses import dataclass

from model.config.setting import setting


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    epochs: int = setting(1, "", "passes over the training tokens", low=1)
    batch_tokens: int = setting(1024, "tokens", "per optimizer step", low=2)
    micro_batch_tokens: int = setting(
        0,
        "tokens",
        "at once; a step adds up the gradients of several (dropout then draws others); 0: all",
        low=0,
    )
    meta_step: float = setting(
        0.0,
        "",
        "length (L2) of a temporary step along the gradient of half the batch, after which the "
        "other half's is taken; the optimizer gets their mean (slowrun #98); 0: none",
        low=0,
        high=1e3,
    )
    meta_schedule: str = setting(
        "constant",
        "",
        "that length over the run: constant (slowrun #99), or in proportion to the rate (#98)",
        choices=("constant", "rate"),
    )
    meta_parts: int = setting(
        1,
        "parts",
        "of the batch, each cut into halves with a temporary step of its own, as records do on "
        "each of 8 GPUs",
        low=1,
        high=1024,
    )
    meta_on: str = setting(
        "matrices",
        "",
        "what it moves: the blocks' matrices, with gates that count as such (slowrun #98), or "
        "those of MLPs alone (#99)",
        choices=("matrices", "mlp"),
    )
    shuffle: str = setting(
        "sequences",
        "",
        "redrawn each epoch: order of sequences, or documents too (slowrun #7, #76); offsets: "
        "each sequence begins anywhere, drawn with replacement (nanoGPT)",
        choices=("no", "sequences", "documents", "offsets"),
    )
    evals: int = setting(8, "", "evaluations, at equal fractions of the schedule", low=1, high=1000)
    evaluate: str = setting(
        "raw",
        "",
        "whose loss is val_loss: last weights, their EMA, averaged weights or probabilities",
        choices=("raw", "ema", "weights", "probabilities"),
    )
    ema_epochs: float = setting(
        0.0, "epochs", "horizon of the weights' EMA; 0: none", low=0, high=1e6
    )
    average_last: int = setting(
        0, "epochs", "ends of so many last epochs are averaged (slowrun #50, #57)", low=0
    )
    average_cycles: int = setting(
        0,
        "cycles",
        "in place of epochs, ends of so many last cycles of optim.schedule cyclic are averaged, or "
        "of all where there are fewer (2606.03938)",
        low=0,
    )
    average_recency: bool = setting(
        False, "", "the last counts k times as much as the first of k, not the same"
    )
    teacher: str = setting(
        "",
        "",
        "a trained run's folder, or the ensemble.json of several, whose predictions are learned "
        "beside the text (1503.02531); its forward passes count in no FLOPs",
    )
    teacher_weight: float = setting(
        0.5, "", "of the teacher in the loss; the text has the rest (slowrun #31)", low=0, high=1
    )
    teacher_temperature: float = setting(
        1.0,
        "",
        "logits of both are divided by it, the teacher's term multiplied by its square "
        "(1503.02531)",
        low=0.1,
        high=100,
    )
    chain_after: int = setting(
        0,
        "cycles",
        "of optim.schedule cyclic, after which each is taught by the network at the end of the one "
        "before, as a teacher would (2606.03938); 0: none is",
        low=0,
    )
    log_probs: str = setting(
        "last",
        "",
        "keep each validation token's log-probability: at the end, also at the end of each epoch "
        "or cycle, or not",
        choices=("no", "last", "epochs", "cycles"),
    )
    seed: int = setting(0, "", "initialisation and dropout", low=0, high=2**31)
    data_seed: int = setting(0, "", "order of sequences in each epoch", low=0, high=2**31)
    members: int = setting(
        1,
        "networks",
        "of a run, beside each other with seeds of their own; its loss is that of their averaged "
        "probabilities (2509.14786)",
        low=1,
        high=64,
    )
    device: str = setting("auto", "", "where to train", choices=("auto", "cpu", "cuda"))
    precision: str = setting(
        "auto",
        "",
        "autocast type; auto: bf16 where the device has instructions for it",
        choices=("auto", "fp32", "bf16"),
    )
    compile: str = setting(
        "auto",
        "",
        "torch.compile; auto: on a GPU in runs long enough to pay for it",
        choices=("auto", "yes", "no"),
    )

    @property
    def averages_ends(self) -> bool:
        """Whether weights and predictions at ends of epochs or cycles are averaged."""
        return self.average_last > 0 or self.average_cycles > 0

    @property
    def averages(self) -> int:
        """Averages of the weights that are kept, each a copy of them."""
        return (self.ema_epochs > 0) + self.averages_ends

    def problems(self) -> list[str]:
        """What is possible alone but not together."""
        problems = []
        if self.evaluate == "ema" and not self.ema_epochs:
            problems.append("train.evaluate: ema needs train.ema_epochs above 0")
        if self.evaluate in ("weights", "probabilities") and not self.averages_ends:
            problems.append(
                f"train.evaluate: {self.evaluate} needs train.average_last or average_cycles above "
                "0"
            )
        if self.teacher and self.chain_after:
            problems.append(
                "train.chain_after: cycles that teach each other have no teacher beside them; set "
                f"it to 0 or train.teacher to nothing, got {self.chain_after}"
            )
        if self.average_last and self.average_cycles:
            problems.append(
                f"train.average_cycles: takes the place of train.average_last ({self.average_last})"
                f"; set one of them to 0, got {self.average_cycles}"
            )
        if self.members > 1 and self.log_probs in ("epochs", "cycles"):
            problems.append(
                f"train.log_probs: those of {self.log_probs} are of one network; choose last where "
                f"train.members is above 1, got {self.members}"
            )
        if self.average_last > self.epochs:
            problems.append(
                f"train.average_last: must be at most train.epochs ({self.epochs}), "
                f"got {self.average_last}"
            )
        return problems
