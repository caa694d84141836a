"""The settings of a sweep itself, by section of the space file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from model.config import Setting
from model.config.setting import describe, setting


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    trials: int = setting(16, "", "search trials to end complete or pruned", low=1)
    failures: int = setting(
        3,
        "",
        "trials that fail in a row in the same way, after which it gives up for now; 4 times as "
        "many once others train",
        low=1,
    )
    hours: float = setting(0.0, "hours", "wall time of all drivers together; 0: any", low=0)
    device_hours: float = setting(
        0.0, "hours", "training time x GPUs, or x CPU cores of trials without; 0: any", low=0
    )
    flops: float = setting(0.0, "FLOPs", "training operations of all trials; 0: any", low=0)
    target_loss: float = setting(
        0.0, "nats/token", "no trial starts once one has ended at or below; 0: none", low=0
    )
    settled: str = setting(
        "say",
        "",
        "once 8 proposals in a row expected to gain less than a quarter of what seeds differ "
        "by: say so and go on, or stop",
        choices=("say", "stop"),
    )


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    cpus: float = setting(1.0, "cores", "given to each trial; fractions share a core", above=0)
    gpus: float = setting(
        -1.0,
        "GPUs",
        "given to each trial; fractions share one, of several each has a part of every batch; -1: "
        "one if there are any",
        low=-1,
    )
    max_concurrent: int = setting(0, "", "most trials at once; 0: as many as fit", low=0)
    silence: float = setting(
        20.0,
        "x",
        "of the expected time between evaluations, and 15 minutes at least, that a worker may say "
        "nothing: then it is killed, and its trial goes on elsewhere; 0: for ever",
        low=0,
    )
    keep_log_probs: int = setting(
        16,
        "trials",
        "the best ones, whose log-probabilities of validation tokens stay in the run folder, 2 "
        "bytes a token; all baseline and confirming runs keep theirs",
        low=0,
    )
    share_trunks: bool = setting(
        False,
        "",
        "trials of one recipe train the steps in common to several train.epochs once: needs a rate "
        "that is constant and then falls (2405.18392)",
    )
    trunk_room: float = setting(
        20.0, "GB", "of disk for trunks kept for others; the oldest go first", above=0
    )

    @property
    def width(self) -> int:
        """Devices that share each batch of a trial."""
        return max(1, int(self.gpus))


@dataclass(frozen=True, kw_only=True)
class KeepConfig:
    best: int = setting(
        0,
        "trials",
        "the best complete search trials, whose weights stay when the others' go; 0: all stay. "
        "What is unfinished or something else rests on stays in any case",
        low=0,
    )
    max_gb: float = setting(
        0.0,
        "GB",
        "of disk for weights of ended trials; the worst go first, what must stay never; 0: any",
        low=0,
    )


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    name: str = setting(
        "surface",
        "",
        "how settings are proposed; surface: most expected gain for its FLOPs, by a loss surface "
        "in decay timescale and log settings; coordinate: steps on a grid, to a certificate "
        "(2509.14786)",
        choices=("surface", "tpe", "gp", "cmaes", "random", "grid", "qmc", "coordinate"),
    )
    seed: int = setting(
        0, "", "of the proposals; coordinate begins in the middle with 0", low=0, high=2**31
    )
    startup_trials: int = setting(8, "", "random proposals before tpe, gp or cmaes learns", low=1)
    cost_weight: float = setting(
        0.75, "", "surface: gain counts per FLOPs to this power; 0: at any price", low=0, high=1
    )
    explore: float = setting(
        0.05, "of trials", "surface: random proposals, the cheap more often", low=0, high=1
    )
    expect: bool = setting(
        True,
        "",
        "surface: expects the best where the field found it: weights that remember 0.3 epochs, 8 "
        "to 16 epochs or more",
    )
    prior: bool = setting(
        False, "", "first try published optima of like tokens per parameter, where they fit"
    )
    warm_start: tuple[str, ...] = setting(
        (),
        "",
        "surface: run folders of earlier sweeps, or files that `sweep import` reads, on the same "
        "data or not: their losses inform proposals and count nowhere else",
    )
    step: float = setting(
        2.0, "x", "grid and coordinate: between neighbours in a log range", low=1.4142, high=4
    )
    margin: float = setting(
        0.01, "nats", "coordinate: losses closer than this count as equal", low=0
    )


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    rule: str = setting(
        "median",
        "",
        "stops a trial behind its peers: behind the best, the median, a percentile, or in rungs; "
        "threshold and patient look at the trial alone",
        choices=(
            "best",
            "median",
            "percentile",
            "asha",
            "hyperband",
            "threshold",
            "patient",
            "none",
        ),
    )
    signal: str = setting(
        "corrected",
        "",
        "what is compared: a loss as evaluated (val: what train.evaluate names), or the final loss "
        "expected: corrected for the drop that remains with such settings (predicted: its older "
        "name)",
        choices=("val", "raw", "ema", "corrected", "predicted"),
    )
    confidence: float = setting(
        2.0, "std. errors", "an expected final loss counts as better by so many", low=0
    )
    startup_trials: int = setting(4, "", "complete peers needed before any is stopped", low=1)
    grace: float = setting(
        0.25, "of run", "fraction before which none is stopped; the first rung", low=0, high=1
    )
    peers: tuple[str, ...] = setting(
        ("data.train_tokens",), "", "compare only trials equal in these settings"
    )
    percentile: float = setting(
        25.0, "%", "of the peers, the best: rule percentile stops the rest", low=0, high=100
    )
    reduction: int = setting(
        3, "", "rules asha, hyperband: one trial in so many passes a rung", low=2
    )
    patience: int = setting(
        4, "evaluations", "without a better loss that rule patient waits", low=1
    )
    upper: float = setting(10.0, "nats", "per token, above which rule threshold stops", above=0)


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    multiples: tuple[int, ...] = setting((), "x", "train a plain baseline on these data budgets")
    sizes: tuple[float, ...] = setting(
        (1.0,), "x", "in these sizes (gpt.scale); the best counts at each budget, as in slowrun"
    )
    seeds: int = setting(
        1, "", "runs of each; repeats measure the noise of intervals", low=1, high=100
    )
    lr: float = setting(0.016, "", "its learning rate, tuned once on the embedded corpus", above=0)
    table: tuple[str, ...] = setting(
        (), "", "a baseline that is known: tokens:loss pairs, a CSV file of them, or slowrun"
    )
    noise: float = setting(
        0.0, "nats", "standard deviation between seeds; 0: from repeats, if there are any", low=0
    )


SECTIONS: dict[str, Any] = {
    "budget": BudgetConfig,
    "trial": TrialConfig,
    "keep": KeepConfig,
    "sampler": SamplerConfig,
    "prune": PruneConfig,
    "baseline": BaselineConfig,
}
RENAMED = {"reference": "baseline"}  # sections that older files have
SWEEP_SETTINGS: dict[str, Setting] = {
    name: setting
    for part, config in SECTIONS.items()
    for name, setting in describe(part, config).items()
}


def renamed(name: str) -> str:
    """What a section, or a setting in it, is called now; "" if it was not renamed."""
    section, dot, key = name.partition(".")
    return f"is called {RENAMED[section]}{dot}{key} now" if section in RENAMED else ""
