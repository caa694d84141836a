"""What a trial must keep to: limits on what is known before it trains, and on what it measures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from model.config import ConfigError, read_number, suggestion, trial_cost
from model.progress import WHOLE

SECONDS = "train.seconds"
# What may be limited, with its unit; all but seconds are known before training.
QUANTITIES = {
    "gpt.parameters": "parameters",
    "gpt.block_parameters": "parameters",
    "train.steps": "steps",
    "train.tokens": "tokens",
    "train.flops": "FLOPs",
    "train.memory": "bytes",
    SECONDS: "seconds",
}
OTHER_TIMES = ("time", "minutes", "hours", "days", "wall_time", "max_time", "duration")
FORM = re.compile(r"\s*([\w.]+)\s*(<=|>=|==|<|>|=)\s*(.+?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Constraint:
    """`quantity` must be at most, or with `>=` at least, `limit` in the quantity's unit."""

    quantity: str
    limit: float
    sign: str = "<="

    def __str__(self) -> str:
        return f"{self.quantity} {self.sign} {self.limit:.6g}"

    def violation(self, measured: float) -> float:
        """How far `measured` is beyond the limit, relative to it; 0 or below where it holds."""
        beyond = measured / self.limit - 1
        return beyond if self.sign == "<=" else -beyond


def read_constraint(text: object) -> Constraint:
    """`gpt.parameters <= 500M` as a Constraint. Raises ConfigError saying what was expected."""
    match = FORM.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ConfigError([f"expected text such as gpt.parameters <= 500M, got {text!r}"])
    quantity, sign, limit = match.groups()
    if quantity not in QUANTITIES:
        hint, limited = suggestion(quantity, QUANTITIES), ", ".join(QUANTITIES)
        if quantity.rpartition(".")[2] in OTHER_TIMES:
            hint = f"; did you mean {SECONDS}, such as {SECONDS} <= 2h?"
        raise ConfigError([f"{quantity} cannot be limited{hint}; these can: {limited}"])
    if sign not in ("<=", ">="):
        raise ConfigError([f"write <= or >=, got {quantity} {sign} {limit}"])
    if quantity == SECONDS and sign == ">=":
        raise ConfigError([f"{SECONDS} is known once it is spent; only <= can be kept to"])
    try:
        number = read_number(limit, QUANTITIES[quantity])
    except ValueError as error:
        reason = f"; {error}" if str(error) else ""
        raise ConfigError([f"{quantity}: expected a number, got {limit!r}{reason}"]) from None
    if not 0 < number < float("inf"):
        raise ConfigError([f"{quantity}: a limit must be above 0 and finite, got {limit}"])
    return Constraint(quantity, number, sign)


def violations(
    settings: Mapping[str, object], constraints: Sequence[Constraint]
) -> dict[str, float]:
    """How far a trial with `settings` is beyond each constraint that is known before training.

    Settings that cannot be trained violate nothing: the trainer says better what is wrong.
    """
    before = [c for c in constraints if c.quantity != SECONDS]
    if not before:
        return {}
    try:
        cost = asdict(trial_cost(settings))
    except ConfigError:
        return {}
    return {str(c): c.violation(cost[c.quantity.partition(".")[2]]) for c in before}


def projected_seconds(marks: Sequence[tuple[int, float]]) -> float:
    """Seconds a trial will have taken at its end, by those between its last two evaluations.

    marks   (basis points, seconds so far), rising

    From the first evaluation alone nothing is projected, because compiling and caching are in it:
    it counts as the end.
    """
    done, seconds = marks[-1]
    if len(marks) < 2:
        return seconds
    before, earlier = marks[-2]
    return seconds + (WHOLE - done) * (seconds - earlier) / (done - before)
