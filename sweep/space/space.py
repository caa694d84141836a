"""A search space: what is searched, what stays fixed, what may be spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from model.config import SETTINGS, Config, Value, block_parameters, scaled
from model.config.presets import SAME, overridden
from sweep.space.constraint import Constraint
from sweep.space.hyperparameter import Choice, Hyperparameter, Range
from sweep.space.settings import (
    SECTIONS,
    BaselineConfig,
    BudgetConfig,
    KeepConfig,
    PruneConfig,
    SamplerConfig,
    TrialConfig,
)

BUDGET = "data.train_tokens"  # trials that differ in it are no peers: more data is always ahead


@dataclass(frozen=True)
class Space:
    """What to search, what stays fixed, and how much may be spent."""

    name: str
    hyperparameters: tuple[
        Hyperparameter, ...
    ]  # in an order in which conditions precede what they decide
    fixed: Mapping[str, Value] = field(default_factory=dict)
    budget: BudgetConfig = BudgetConfig()
    trial: TrialConfig = TrialConfig()
    keep: KeepConfig = KeepConfig()
    sampler: SamplerConfig = SamplerConfig()
    prune: PruneConfig = PruneConfig()
    baseline: BaselineConfig = BaselineConfig()
    points: tuple[Mapping[str, Value], ...] = ()  # proposed first; each names searched settings
    constraints: tuple[Constraint, ...] = ()
    repeat: int = 1  # seeds that each proposal is trained with
    notes: tuple[str, ...] = field(default=(), compare=False)  # on what the file says in vain

    @property
    def searched(self) -> list[str]:
        """Names of the searched settings, each once."""
        return list(dict.fromkeys(hp.setting for hp in self.hyperparameters))

    @property
    def priors(self) -> dict[str, str]:
        """Where the user expects the best, by hyperparameter."""
        return {hp.parameter: str(hp.prior) for hp in self.hyperparameters if hp.prior}

    @property
    def train_tokens(self) -> int:
        """The training budget, of which the baseline reads multiples; if searched, the smallest."""
        return self.budgets[0]

    @property
    def budgets(self) -> tuple[int, int]:
        """The smallest and the largest training budget of any trial."""
        tokens: list[Any] = []
        for hp in self.hyperparameters:
            if hp.setting == BUDGET:
                domain = hp.domain
                tokens += domain.values if isinstance(domain, Choice) else [domain.low, domain.high]
        tokens = tokens or [self.fixed.get(BUDGET, SETTINGS[BUDGET].default)]
        return int(min(tokens)), int(max(tokens))

    def resolved(self) -> dict[str, Any]:
        """Everything spelled out, for resolved.yaml and for comparing two sweeps."""
        return {
            "name": self.name,
            "search": {hp.parameter: _domain_as_dict(hp.domain) for hp in self.hyperparameters},
            "priors": self.priors,
            "fixed": dict(self.fixed),
            "points": [dict(point) for point in self.points],
            "constraints": list(map(str, self.constraints)),
            "repeat": self.repeat,
            **{part: _section_as_dict(getattr(self, part)) for part in SECTIONS},
        }

    def pinned(self, name: str, value: Value) -> Space:
        """The space with one setting fixed; hyperparameters whose condition it decides follow.

        Fixing the decay multiplier drops the timescale from what is searched or fixed, and the
        reverse.
        """
        hyperparameters = []
        for hp in self.hyperparameters:
            allowed = dict(hp.when).get(name)
            searched = hp.setting in (name, SAME.get(name))
            if not searched and (allowed is None or value in allowed):
                hyperparameters.append(replace(hp, when=tuple(c for c in hp.when if c[0] != name)))
        fixed: dict[str, Any] = overridden(self.fixed, {name: value})
        points = [
            {n: v for n, v in p.items() if n not in (name, SAME.get(name))} for p in self.points
        ]
        left = tuple(point for point in points if point)
        return replace(self, hyperparameters=tuple(hyperparameters), fixed=fixed, points=left)


def derived(settings: Mapping[str, object]) -> dict[str, float]:
    """What follows from a trial's settings and is compared between trials.

    Weight decay both as multiplier and as timescale, and the parameters that `gpt.scale` led to.
    """
    config = Config.from_settings(settings)
    return {
        "optim.weight_decay_multiplier": config.optim.weight_decay_multiplier,
        "optim.decay_timescale": config.optim.decay_timescale,
        "block_parameters": block_parameters(scaled(config.gpt)),
    }


def _domain_as_dict(domain: Choice | Range) -> dict[str, Any]:
    if isinstance(domain, Choice):
        return {"values": list(domain.values)}
    step = {"step": domain.step} if domain.step else {}
    return {"min": domain.low, "max": domain.high, "log": domain.log, **step}


def _section_as_dict(section: Any) -> dict[str, Any]:
    values = {f.name: getattr(section, f.name) for f in fields(section)}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
