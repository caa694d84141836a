"""A plan as text."""

from __future__ import annotations

from model.config.cost import Cost
from sweep.format import count, size, span, table
from sweep.records import title
from sweep.space.plan import Plan, totals
from sweep.space.space import Space
from sweep.space.speed import Speed


def describe_plan(space: Space, found: Plan, speed: Speed, workers: int) -> str:
    """What will be run, what single trials and all of them take, and what that rests on."""
    return "\n\n".join(
        [_headline(space, found), _points(found, speed), _totals(found, speed, workers)]
    )


def _headline(space: Space, found: Plan) -> str:
    seeds = f", {found.seeds} seeds each" if found.seeds > 1 else ""
    runs = len(found.baseline)
    multiples = ", ".join(f"{multiple}x" for multiple in space.reference.multiples)
    lines = [
        f"{space.name}: {found.trials} trials{seeds} over {', '.join(space.searched)}",
        f"plain baseline on {multiples} the data: {runs} runs" if runs else "no baseline to train",
    ]
    if space.points:
        lines.append(f"tried first: {len(space.points)} of its own points")
    if found.infeasible:
        broken = ", ".join(map(str, space.constraints))
        lines.append(f"{found.infeasible:.0%} of random proposals break {broken}: replaced, free")
    if found.untrainable:
        lines.append(f"{found.untrainable:.0%} of random proposals cannot be trained: they fail")
    return "\n".join(lines)


def _points(found: Plan, speed: Speed) -> str:
    head = ["trial", "parameters", "in blocks", "steps", "tokens", "FLOPs", "memory", "time"]
    rows = [[*head, "with"]]
    for row in found.rows:
        rows.append([row.label, *_cells(row.cost, speed), title(row.searched)])
    for label, cost in dict(found.baseline).items():  # seeds cost the same
        rows.append([f"baseline {label}", *_cells(cost, speed), ""])
    return table(rows)


def _cells(cost: Cost, speed: Speed) -> list[str]:
    return [
        count(cost.parameters),
        count(cost.block_parameters),
        f"{cost.steps:,}",
        count(cost.tokens),
        f"{cost.flops:.2e}",
        size(cost.memory),
        span(speed.seconds(cost)),
    ]


def _totals(found: Plan, speed: Speed, workers: int) -> str:
    head = ["in all, expected", "tokens", "FLOPs", "time, one by one"]
    many = [f"{workers} at a time"] if workers > 1 else []
    rows = [[*head, *many]]
    for part, spent in totals(found, speed).items():
        seconds = spent["seconds"]
        parallel = [span(seconds / workers)] if workers > 1 else []
        tokens, flops = count(spent["tokens"]), f"{spent['flops']:.2e}"
        rows.append([part, tokens, flops, span(seconds), *parallel])
    held = f"; a GPU held {size(speed.memory)} at most" if speed.memory else ""
    return "\n".join(
        [
            table(rows),
            "",
            f"Time: {speed.source}{held}. Starting trials is not in it.",
            f"Pruned: {found.assumption}.",
            "Memory: an estimate of weights, optimizer and activations, without the process; with "
            "train.precision auto as in fp32, of which bf16 takes about two thirds.",
        ]
    )
