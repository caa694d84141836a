"""The sections of benchmarks/gpu.py: each yields its rows as soon as they are measured.

Quick sizes prove that every row can be filled, on a CPU too; nothing is compiled there.

Shapes: B sequences, H heads, T tokens, K head width.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from gpu_timing import (
    RULE,
    VOCABULARY,
    Row,
    at,
    drawn,
    forget_peak,
    memory,
    network,
    row,
    run_once,
    share,
    synchronise,
    timed,
)
from torch import Tensor

from model.config.config import Config
from model.config.size import flops_per_token, parameters, scaled
from model.network.attention import visible
from model.optim import muon
from model.optim.optimizers import make_optimizers, step
from model.training.device import runtime

DOCUMENT = 700  # tokens, FineWeb's mean
PRODUCTS, QUICK_PRODUCTS = (4096, 8192, 16384), (64,)
LOSS_STEPS, SHARED_SECONDS = 60, 10.0


def peak(device: str, quick: bool, _: float) -> Iterator[Row]:
    for n in QUICK_PRODUCTS if quick else PRODUCTS:
        a, b = (torch.randn(n, n, device=device).bfloat16() for _ in range(2))
        seconds = timed(lambda a=a, b=b: a @ b, device)
        flops = 2 * n**3 / seconds
        yield row(f"bf16 product of {n:,}", seconds, f"{flops / 1e12:,.1f} TFLOP/s", flops=flops)
    x = torch.empty(2**12 if quick else 2**30, dtype=torch.uint8, device=device)
    seconds = timed(lambda: x.clone(), device)
    yield row("copy", seconds, f"{2 * len(x) / seconds / 1e12:,.2f} TB/s read and written")


def tiny(device: str, quick: bool, fastest: float) -> Iterator[Row]:
    return speed("slowrun-tiny", device, quick, fastest)


def large(device: str, quick: bool, fastest: float) -> Iterator[Row]:
    return speed("slowrun-one-hour", device, quick, fastest)


def speed(preset: str, device: str, quick: bool, fastest: float) -> Iterator[Row]:
    for compiled in (False, True):
        yield from speed_of(preset, compiled, device, quick, fastest)


def speed_of(
    preset: str, compiled: bool, device: str, quick: bool, fastest: float
) -> Iterator[Row]:
    """A micro-batch and a step of the optimizers, and both in tokens/s; a run's first part."""
    config = at(preset, device, quick, {"train.compile": "yes" if compiled else "no"})
    kind, vocabulary = "compiled" if compiled else "eager", RULE if quick else VOCABULARY
    forget_peak(device)
    gpt, objective = network(config, vocabulary, compiled and not quick)
    optimizers = make_optimizers(gpt, config.optim, runtime(config).precision == torch.bfloat16)
    tokens = config.train.micro_batch_tokens or config.train.batch_tokens
    x_BT, y_BT = drawn(config, vocabulary, tokens, device)

    def learn() -> None:
        with runtime(config).autocast():
            loss, _ = objective(x_BT, y_BT)
        loss.backward()

    def update() -> None:
        step(optimizers, gpt, config.optim, 0.01, config.train.epochs)

    first = run_once(learn, device, None)
    micro = timed(learn, device)
    moved = timed(update, device, before=learn)  # a step takes the gradients with it
    size = parameters(scaled(config.gpt), vocabulary)
    every = micro * config.train.batch_tokens / tokens + moved
    reached = config.train.batch_tokens / every
    flops = reached * flops_per_token(scaled(config.gpt), vocabulary)
    rate = f"{reached:,.0f} tokens/s, {flops / 1e12:,.1f} TFLOP/s"
    name = f"{size / 1e6:,.0f}M {kind}"
    yield row(f"{name}: micro-batch", micro, f"{tokens:,} tokens", f"first {first:.1f} s")
    yield row(f"{name}: optimizers", moved, f"{len(optimizers)}", f"{moved / every:.1%} of a step")
    yield row(f"{name}: whole step", every, rate, **share(flops, fastest))
    yield row(f"{name}: peak memory", 0.0, *memory(config, device))


def attention(device: str, quick: bool, fastest: float) -> Iterator[Row]:
    """Each kernel, forward and backward; `beside`: its largest difference from fp32's output."""
    shapes = [(1, 2, 32, 16)] if quick else [(8, 8, 2048, 128), (2, 14, 2048, 128)]
    for B, H, T, K in shapes:
        torch.manual_seed(0)
        q, k, v, grad = (torch.randn(B, H, T, K, device=device).bfloat16() for _ in range(4))
        window, place = T // 2, torch.device(device)
        document_BT = (torch.rand(B, T, device=device) < 1 / min(DOCUMENT, T)).cumsum(dim=1)
        masks = {
            "whole": visible(T, T, T, place),
            "window": visible(T, T, window, place),
            "documents": visible(T, T, T, place, document_BT),
        }
        for name, mask in masks.items():
            exact = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), mask)
            pairs = float(mask.expand(B, -1, T, T).sum() if mask.dim() > 2 else B * mask.sum())
            for kernel, attend in kernels(name, mask, window, document_BT, device, quick).items():
                try:
                    yield attended(
                        f"{B}x{H}x{T}x{K} {name}: {kernel}",
                        attend,
                        [q, k, v],
                        grad,
                        exact,
                        12 * pairs * H * K,
                        device,
                        fastest,
                    )
                except Exception as error:  # one kernel less is a row too
                    yield {"variant": f"{name}: {kernel}", "failed": repr(error)[:160]}


def attended(
    variant: str,
    attend: Callable[..., Tensor],
    qkv: list[Tensor],
    grad: Tensor,
    exact: Tensor,
    flops: float,
    device: str,
    fastest: float,
) -> Row:
    inputs = [x.detach().clone().requires_grad_() for x in qkv]
    forward_only = device == "cpu" and "flex" in variant  # it has no backward there
    y = attend(*[x.detach() for x in inputs] if forward_only else inputs)
    error = float((y.detach().float() - exact).abs().max())

    def both() -> None:
        out = attend(*inputs)
        out.backward(grad)

    with torch.set_grad_enabled(not forward_only):
        run = (lambda: attend(*[x.detach() for x in inputs])) if forward_only else both
        seconds = timed(run, device)
    rate = f"{flops / seconds / 1e12:,.1f} TFLOP/s of visible pairs"
    return row(variant, seconds, rate, f"off by {error:.4f}", **share(flops / seconds, fastest))


def kernels(
    name: str, mask: Tensor, window: int, document_BT: Tensor, device: str, quick: bool
) -> dict[str, Callable[..., Tensor]]:
    """What computes attention under `mask`; the first is what the trainer uses."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if name == "whole":
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.scaled_dot_product_attention(q, k, v, mask)

    def seen(b: Tensor, h: Tensor, at: Tensor, to: Tensor) -> Tensor:
        causal = at >= to
        if name == "window":
            return causal & (at - to <= window)
        if name == "documents":
            return causal & (document_BT[b, at] == document_BT[b, to])
        return causal

    B, T = document_BT.shape
    blocks = create_block_mask(seen, B if name == "documents" else None, None, T, T, device=device)
    flex: Any = flex_attention if quick else torch.compile(flex_attention)
    return {"SDPA": fused, "flex": lambda q, k, v: flex(q, k, v, block_mask=blocks)}


def optimizers(device: str, quick: bool, _: float) -> Iterator[Row]:
    config = at("slowrun-tiny", device, quick, {})
    gpt, _ = network(config, RULE if quick else VOCABULARY, False)
    every = list(gpt.parameters())
    matrices = gpt.groups()["matrices"]

    def fill() -> None:
        for parameter in every:
            parameter.grad = torch.full_like(parameter, 1e-3)

    fill()
    options: dict[str, dict[str, Any]] = {
        "fused": {"fused": True},
        "foreach": {"foreach": True},
        "for loop": {"foreach": False},
    }
    for name, option in options.items():
        made: Any = torch.optim.AdamW(every, lr=1e-4, **option)
        yield row(f"AdamW, {name}, all parameters", timed(made.step, device))
    settings = {"lr": 1e-4, "momentum": 0.95, "weight_decay": 0.0}
    ours = muon.Muon(matrices, **settings, bf16=True)
    seconds = timed(ours.step, device)
    yield row("our Muon, matrices", seconds, beside=f"{len(matrices)} matrices")
    plain = muon.orthogonalise
    muon.orthogonalise = plain if quick else torch.compile(plain)
    try:
        yield row("our Muon, its iterations compiled", timed(ours.step, device))
    finally:
        muon.orthogonalise = plain
    theirs: Any = torch.optim.Muon(matrices, **settings)
    yield row("torch's Muon, matrices", timed(theirs.step, device))


def sharing(device: str, quick: bool, _: float) -> Iterator[Row]:
    """Tokens/s of one trial and of two at once, each in a process as Ray's workers are."""
    speeds = {}
    for trials in (1, 2):
        # Quick ones are threads: a process would import torch again.
        kind: Any = threading if quick else multiprocessing.get_context("spawn")
        said_by: Any = queue.Queue() if quick else kind.Queue()
        together = kind.Barrier(trials)
        start = threading.Thread if quick else kind.Process
        workers = [
            start(target=_trial, args=(device, quick, said_by, together)) for _ in range(trials)
        ]
        for worker in workers:
            worker.start()
        reached = [said_by.get(timeout=LIMIT_OF_TRIAL) for _ in workers]
        for worker in workers:
            worker.join()
        speeds[trials] = sum(speed for speed, _ in reached)
        busy = ", ".join(sorted({reading for _, reading in reached if reading}))
        yield row(f"{trials} at once", 0.0, f"{speeds[trials]:,.0f} tokens/s together", busy)
    yield row("gain of two", 0.0, f"x {speeds[2] / speeds[1]:.2f}")


LIMIT_OF_TRIAL = 50.0  # seconds, start of the process included


def _trial(device: str, quick: bool, said_by: Any, together: Any) -> None:
    said_by.put(trial(device, quick, together.wait))


def trial(device: str, quick: bool, ready: Callable[[], Any]) -> tuple[float, str]:
    """Tokens/s of training cpu-small's network for some seconds, and the GPU's use meanwhile."""
    config = at("cpu-small", device, quick, {"train.compile": "no"})
    train = trainer_of(config, 0)
    train(0)
    ready()
    done, begun, meter = 0, time.perf_counter(), resource_meter().Meter()
    while not done or (not quick and time.perf_counter() - begun < SHARED_SECONDS):
        train(done + 1)
        done += 1
    speed = done * config.train.batch_tokens / (time.perf_counter() - begun)
    percent = meter.read().get("gpu_percent")
    return speed, "" if percent is None else f"GPU {percent:.0f} % busy"


def readings(device: str, quick: bool, _: float) -> Iterator[Row]:
    """Idle, and while products keep the GPU busy: it averages over up to a second."""
    meter = resource_meter().Meter()
    n, settle = (64, 0.0) if quick else (8192, 3.0)
    a = torch.randn(n, n, device=device)
    synchronise(device)
    time.sleep(settle)
    yield row("idle", 0.0, said(meter.read()))
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            a @ a
            synchronise(device)

    worker = threading.Thread(target=busy)
    worker.start()
    time.sleep(settle)
    read = meter.read()
    stop.set()
    worker.join()
    yield row("busy with products", 0.0, said(read))


def said(read: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in read.items())


def losses(device: str, quick: bool, _: float) -> Iterator[Row]:
    """Mean loss of the last fifth of the steps; precision must matter less than the seed."""
    steps, reached = (2 if quick else LOSS_STEPS), {}
    for name, precision, compile_, seed in (
        ("fp32", "fp32", "no", 0),
        ("bf16", "bf16", "no", 0),
        ("bf16 compiled", "bf16", "yes", 0),
        ("fp32, seed 1", "fp32", "no", 1),
    ):
        change = {"train.precision": precision, "train.compile": compile_, "train.seed": seed}
        train = trainer_of(at("cpu-small", device, quick, change), seed, compiled=not quick)
        reached[name] = fmean([train(number) for number in range(steps)][-max(1, steps // 5) :])
        apart = reached[name] - reached["fp32"]
        yield row(name, 0.0, f"{reached[name]:.4f} nats", "" if name == "fp32" else f"{apart:+.4f}")


def trainer_of(config: Config, seed: int, compiled: bool = False) -> Callable[[int], float]:
    """Trains a step on tokens that follow each other by a rule, so that there is one to learn."""
    torch.manual_seed(seed)
    gpt, objective = network(config, RULE, compiled and config.train.compile == "yes")
    made = make_optimizers(gpt, config.optim, runtime(config).precision == torch.bfloat16)
    device, at_once = runtime(config).device, config.train.batch_tokens

    def train(number: int) -> float:
        torch.manual_seed(number)
        first_B1 = torch.randint(0, RULE, (at_once // config.gpt.context, 1))
        stride_B1 = torch.randint(1, 5, first_B1.shape)
        text = (first_B1 + stride_B1 * torch.arange(config.gpt.context + 1)) % RULE
        tokens = text.to(device)
        with runtime(config).autocast():
            loss, plain = objective(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        step(made, gpt, config.optim, 0.01, config.train.epochs)
        return float(plain.detach())

    return train


def resource_meter() -> ModuleType:
    """sweep/run/resource_meter.py alone: the room around it needs Optuna and more."""
    path = Path(__file__).parents[1] / "sweep" / "run" / "resource_meter.py"
    spec = importlib.util.spec_from_file_location("resource_meter", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SECTIONS: dict[str, Callable[[str, bool, float], Iterator[Row]]] = {
    "peak": peak,
    "tiny": tiny,
    "large": large,
    "attention": attention,
    "optimizers": optimizers,
    "sharing": sharing,
    "readings": readings,
    "losses": losses,
}
