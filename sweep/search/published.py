"""Published optima, as first points of a search whose text and networks are alike.

A space gets those whose tokens per parameter are near its own: with
fewer, a network over-fits earlier and wants more decay and fewer epochs. Taken over are the epochs,
the decay timescale and the rate times the width; see `sweep.search.features` on why those travel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

from model.config import MULTIPLIER, Config, ConfigError, Value, parameters, scaled
from model.config.presets import TIMESCALE
from sweep.space import Choice, Hyperparameter, Point, Range, Space
from sweep.space.points import Key, drawn, every_point, key, snapped, spread

NEAR = 1.5  # octaves of tokens per parameter
NEAR_EPOCHS = 1.0  # octaves between an optimum's epochs and the nearest that the space searches
NEAR_DECAY = 1.0  # and of decay timescale
LOOKED_AT = 64  # networks, with their optimizers; each costs the search for its shape
BATCH = 262_144  # tokens, of Kim et al.


@dataclass(frozen=True)
class Optimum:
    """One published optimum, in what can be taken over from it."""

    source: str
    optimizer: str
    tokens: float
    parameters: float
    epochs: int
    timescale: float  # epochs, at the peak rate
    rate: float  # peak, times the network's width

    @property
    def tokens_per_parameter(self) -> float:
        return self.tokens / self.parameters


# Parameters and width of the four networks of Kim et al., as in model/config/presets/kim.py.
KIM_SHAPES = ((150e6, 512), (300e6, 768), (600e6, 1024), (1.4e9, 2048))
# Their certified optima (arXiv 2509.14786, convex_certificate_scaling.py in marin): by batches in
# an epoch, for each of those networks, the epochs, the rate and the decay.
KIM = {
    800: ((16, 3e-3, 0.8), (16, 3e-3, 1.6), (8, 1e-3, 3.2), (8, 1e-3, 3.2)),
    1600: ((32, 3e-3, 0.8), (16, 3e-3, 0.8), (8, 1e-3, 1.6), (8, 1e-3, 3.2)),
    3200: ((64, 3e-3, 0.4), (16, 3e-3, 0.4), (16, 3e-3, 0.4), (8, 1e-3, 1.6)),
    6400: ((64, 3e-3, 0.1), (32, 1e-3, 0.4), (16, 1e-3, 0.8), (8, 1e-3, 0.8)),
}
# Muon on 100M tokens: 2.7B parameters, of which 1.2B in the trunk and the rest in value tables,
# at 0.25 x the recipe's rate and decay 1.3 (bentherien's fork of NanoGPT Slowrun, resume.md). Its
# timescale is that of rate x decay as logged, 0.026 in batches of 524,288 tokens.
MUON = Optimum("bentherien, slowrun", "muon", 100e6, 1.2e9, 12, 524_288 / (0.026 * 100e6), 0.0)


def _published() -> Iterator[Optimum]:
    for batches, row in KIM.items():
        for (size, width), (epochs, rate, decay) in zip(KIM_SHAPES, row, strict=True):
            timescale, tokens = 1 / (rate * decay * batches), batches * BATCH
            source = "Kim et al. 2509.14786"
            yield Optimum(source, "adamw", tokens, size, epochs, timescale, rate * width)
    yield MUON


PUBLISHED = tuple(_published())


def first_points(space: Space, most: int = 3) -> tuple[Point, ...]:
    """Up to `most` points of the space that published optima are nearest to, the cheapest first.

    None where the space searches no epochs or decay that a like optimum had.
    """
    return _first_points(space.hyperparameters, key(space.fixed), most)


@lru_cache(maxsize=16)  # every proposal asks again
def _first_points(
    hyperparameters: tuple[Hyperparameter, ...], fixed: Key, most: int
) -> tuple[Point, ...]:
    nearest: dict[Key, tuple[float, float, Point]] = {}
    for chosen in _networks(hyperparameters):
        try:
            config = Config.from_settings({**dict(fixed), **chosen})
        except ConfigError:
            continue
        size = parameters(scaled(config.gpt), config.data.token_kinds)
        domains = {hp.setting: hp.domain for hp in hyperparameters if hp.active(chosen)}
        for optimum in PUBLISHED:
            per_parameter = config.data.train_tokens / size
            off = abs(math.log2(optimum.tokens_per_parameter / per_parameter))
            if off <= NEAR and optimum.optimizer == config.optim.name:
                point = _taken_over(domains, chosen, config, optimum)
                if point is not None and off < nearest.get(key(point), (math.inf,))[0]:
                    nearest[key(point)] = off, size, point
    best = sorted(nearest.values(), key=lambda entry: entry[0])[:most]
    return tuple(point for _, size, point in sorted(best, key=lambda entry: entry[1]))


def _networks(hyperparameters: tuple[Hyperparameter, ...]) -> list[Point]:
    """Every optimizer with every network of the space, or LOOKED_AT of them from all over it.

    Of a range ends and middle; other settings take their first value, or the middle of their range.
    """
    all_ = list(islice(every_point(hyperparameters, _looked_at), LOOKED_AT + 1))
    if len(all_) <= LOOKED_AT:
        return all_
    listed = [replace(hp, domain=Choice(_looked_at(hp))) for hp in hyperparameters]
    return [drawn(listed, shares) for shares in spread(LOOKED_AT, len(listed), seed=0)]


def _looked_at(hp: Hyperparameter) -> tuple[Value, ...]:
    domain = hp.domain
    if isinstance(domain, Choice):
        decides = hp.setting.startswith("gpt.") or hp.setting == "optim.name"
        return domain.values if decides else domain.values[:1]
    middle = math.sqrt(domain.low * domain.high) if domain.log else (domain.low + domain.high) / 2
    ends = (domain.low, middle, domain.high) if hp.setting == "gpt.scale" else (middle,)
    return tuple(round(end) for end in ends) if domain.whole else ends


def _taken_over(
    domains: Mapping[str, Choice | Range], chosen: Point, config: Config, optimum: Optimum
) -> Point | None:
    """`chosen` with the optimum's epochs, rate and timescale; None if no domain has any near."""
    point = dict(chosen)

    def put(name: str, wanted: float, near: float) -> float | None:
        """The space's value nearest to `wanted`; None if it is further than `near` octaves."""
        fixed = getattr(getattr(config, name.partition(".")[0]), name.partition(".")[2])
        value = snapped(domains[name], wanted) if name in domains else fixed
        if not isinstance(value, int | float) or value <= 0:
            return None
        if name in domains:
            point[name] = value
        return float(value) if abs(math.log2(value / wanted)) <= near else None

    if put("train.epochs", optimum.epochs, NEAR_EPOCHS) is None:
        return None
    rate: float | None = config.optim.lr
    if optimum.rate and "optim.lr" in domains:
        rate = put("optim.lr", optimum.rate / scaled(config.gpt).width, math.inf)
    if rate is None:
        return None
    if TIMESCALE in domains:
        matched = put(TIMESCALE, optimum.timescale, NEAR_DECAY)
    else:
        per_multiplier = config.optim.weight_decay / (config.optim.weight_decay_multiplier or 1)
        per_multiplier = per_multiplier or 0.1
        wanted = 1 / (optimum.timescale * rate * per_multiplier * config.steps_per_epoch)
        matched = put(MULTIPLIER, wanted, NEAR_DECAY)
    return point if matched is not None else None
