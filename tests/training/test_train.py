from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config.config import Config
from model.config.setting import ConfigError
from model.data.batches import TokenTable, batch, open_table
from model.network.gpt import GPT
from model.optim.muon import Muon
from model.progress import Progress
from model.training import checkpoint
from model.training import log_probs as predictions
from model.training.device import runtime
from model.training.run import make_run
from model.training.train import train

OPTIMIZERS = ("adamw", "muon", "soap", "shampoo", "lion", "magma", "schedule_free")


@pytest.fixture
def exact(small: dict[str, object]) -> dict[str, object]:
    """Settings whose results do not depend on what the machine is good at."""
    return {**small, "train.precision": "fp32", "train.compile": "no"}


def values(run: list[Progress]) -> list[Progress]:
    """What must be equal: all but the clock."""
    return [Progress(**{**p.to_dict(), "seconds": 0.0}) for p in run]


def tensors(folder: Path) -> dict[str, Tensor]:
    """Everything in the checkpoint that is a tensor, by name."""
    return checkpoint._open(folder / checkpoint.NAME, with_tensors=True)[1]


@pytest.mark.parametrize(
    ("name", "shuffle"),
    [
        *((name, shuffle) for name in OPTIMIZERS for shuffle in ("sequences", "documents")),
        ("adamw", "offsets"),
    ],
)
def test_continuing_equals_never_stopping_bit_for_bit(
    name: str, shuffle: str, exact: dict[str, object], tmp_path: Path
) -> None:
    """Whatever the optimizer, with all that has a state of its own, left at every evaluation."""
    config = Config.from_settings(
        {
            **exact,
            "optim.name": name,
            "gpt.dropout": 0.1,
            "gpt.stochastic_depth": 0.2,
            "train.shuffle": shuffle,
            "train.evals": 5,
            "train.ema_epochs": 0.5,
            "train.average_last": 2,
            "train.average_recency": True,
            "train.log_probs": "epochs",
        }
    )
    whole = list(train(config, tmp_path / "whole"))

    for already in range(config.train.evals):
        # Leave after one more evaluation each time; those already made come back first.
        parts = list(islice(train(config, tmp_path / "parts"), already + 1))
    continued = list(train(config, tmp_path / "parts"))

    assert values(parts) == values(whole)
    assert values(continued) == values(whole)
    assert whole[-1].probabilities_loss is not None
    a, b = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    kept = [(tmp_path / folder / predictions.NAME).read_bytes() for folder in ("whole", "parts")]
    assert kept[0] == kept[1]


def test_evaluations_come_at_equal_fractions_and_the_loss_falls(
    exact: dict[str, object], tmp_path: Path
) -> None:
    run = list(train(Config.from_settings(exact), tmp_path))

    assert [p.basis_points for p in run] == [2500, 5000, 7500, 10_000]
    assert run[-1].done
    assert run[-1].val_loss < run[0].val_loss < math.log(257)
    assert run[-1].epoch == 2
    assert run[-1].gap == run[-1].raw_loss - run[-1].train_loss


def test_the_last_evaluation_has_its_loss_by_stretches_of_text(
    exact: dict[str, object], tmp_path: Path
) -> None:
    *before, last = train(Config.from_settings(exact), tmp_path)

    assert {progress.clusters for progress in before} == {None}
    assert last.clusters is not None
    assert np.average(last.clusters.losses, weights=last.clusters.tokens) == pytest.approx(
        last.val_loss, abs=1e-6
    )
    table = open_table(Config.from_settings(exact).data)
    assert sum(last.clusters.tokens) == len(table.val) - 1
    assert [last] == list(train(Config.from_settings(exact), tmp_path))[-1:]


def test_a_folder_of_other_settings_is_refused(exact: dict[str, object], tmp_path: Path) -> None:
    points = {"optim.decay_schedule": "piecewise", "optim.decay_points": ["0:1", "1:0.5"]}
    list(islice(train(Config.from_settings({**exact, **points}), tmp_path), 1))
    list(islice(train(Config.from_settings({**exact, **points}), tmp_path), 2))

    other = Config.from_settings({**exact, **points, "optim.lr": 0.1})
    with pytest.raises(ConfigError, match=r"optim.lr: .* was trained with 0.004, not 0.1"):
        list(train(other, tmp_path))


def test_a_checkpoint_of_before_there_was_a_setting_goes_on(
    exact: dict[str, object], tmp_path: Path
) -> None:
    """Its default is what the run was trained with; another value is refused."""
    config = Config.from_settings(exact)
    whole = values(list(train(config, tmp_path / "whole")))
    folder = tmp_path / "older"
    list(islice(train(config, folder), 2))
    state, tree = checkpoint.read_state(folder), checkpoint.restore(folder)
    assert state is not None
    newer = ("train.meta_step", "optim.group_betas")
    older = {name: value for name, value in state.settings.items() if name not in newer}
    checkpoint.save(folder, replace(state, settings=older), tree)

    with pytest.raises(ConfigError, match=r"train.meta_step: .* was trained with 0.0, not 0.5"):
        list(train(Config.from_settings({**exact, "train.meta_step": 0.5}), folder))
    assert values(list(train(config, folder))) == whole


def losses_of_steps(monkeypatch: pytest.MonkeyPatch, losses: dict[int, float]) -> None:
    """Let the train loss of some steps, counted from 1, be something else."""
    real, steps = GPT.objective, iter(range(1, 1000))

    def objective(gpt: GPT, x_BT: Tensor, y_BT: Tensor) -> tuple[Tensor, Tensor]:
        loss, plain = real(gpt, x_BT, y_BT)
        step = next(steps)
        return loss, plain.new_tensor(losses[step]) if step in losses else plain

    monkeypatch.setattr(GPT, "objective", objective)


@pytest.mark.parametrize("loss", [math.nan, math.inf, math.log(257) + 1.1])
def test_a_run_stops_at_the_step_that_diverges(
    loss: float, exact: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four evaluations in 16 steps, the second would come after 8."""
    config = Config.from_settings(exact)
    losses_of_steps(monkeypatch, {3: math.log(257) + 0.9, 6: loss})

    run = list(train(config, tmp_path))

    assert [p.diverged_step for p in run] == [None, 6]
    assert [p.basis_points for p in run] == [2500, 5000]
    assert run[-1].step == 6
    assert run[-1].tokens == 6 * 256
    assert run[-1].diverged
    assert not (tmp_path / predictions.NAME).exists()
    assert repr(values(list(train(config, tmp_path)))) == repr(values(run))  # nan is not nan


def test_a_validation_loss_that_is_not_a_number_ends_the_run_too(
    exact: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GPT, "losses", lambda gpt, x_BT, y_BT: torch.full(x_BT.shape, math.nan))

    run = list(train(Config.from_settings(exact), tmp_path))

    assert [p.diverged_step for p in run] == [4]
    assert math.isfinite(run[-1].train_loss)


def test_a_rate_far_too_high_ends_the_run_as_diverged(
    exact: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**exact, "optim.lr": 10, "optim.grad_clip": 0})

    run = list(train(config, tmp_path))

    assert run[-1].diverged_step == run[-1].step < config.steps


def test_two_seeds_and_two_orders_give_four_runs(exact: dict[str, object], tmp_path: Path) -> None:
    finals = {
        list(
            train(
                Config.from_settings({**exact, "train.seed": seed, "train.data_seed": order}),
                tmp_path / f"{seed}{order}",
            )
        )[-1].val_loss
        for seed in (0, 1)
        for order in (0, 1)
    }

    assert len(finals) == 4


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_tiny_corpus_can_be_learned_by_heart(
    name: str, exact: dict[str, object], tmp_path: Path
) -> None:
    settings = {
        **exact,
        "optim.name": name,
        "data.train_tokens": 65,
        "gpt.width": 32,
        "train.batch_tokens": 64,
        "train.epochs": 200,
        "optim.lr": 0.02,
    }

    run = list(train(Config.from_settings(settings), tmp_path))

    assert run[-1].train_loss < 0.05
    assert run[-1].val_loss > 3
    assert run[-1].gap > 3


@pytest.mark.parametrize("mtp", ["no", "offsets", "block"])
def test_micro_batches_change_nothing_but_rounding(
    mtp: str, exact: dict[str, object], tmp_path: Path
) -> None:
    settings = {**exact, "gpt.mtp": mtp, "gpt.stochastic_depth": 0.3, "gpt.layers": 2}
    runs = {
        micro: list(
            train(
                Config.from_settings({**settings, "train.micro_batch_tokens": micro}),
                tmp_path / str(micro),
            )
        )
        for micro in (0, 128, 32)
    }

    for micro in (128, 32):
        for a, b in zip(runs[0], runs[micro], strict=True):
            assert b.train_loss == pytest.approx(a.train_loss, abs=1e-5)
            assert b.val_loss == pytest.approx(a.val_loss, abs=1e-5)


def test_no_more_tokens_are_at_once_than_asked(
    exact: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training and in evaluation: both have to fit in memory."""
    shapes = set()

    def watched(real: Any) -> Any:
        def call(gpt: GPT, x_BT: Tensor, y_BT: Tensor) -> Any:
            shapes.add(tuple(x_BT.shape))
            return real(gpt, x_BT, y_BT)

        return call

    monkeypatch.setattr(GPT, "objective", watched(GPT.objective))
    monkeypatch.setattr(GPT, "losses", watched(GPT.losses))

    list(train(Config.from_settings({**exact, "train.micro_batch_tokens": 64}), tmp_path))

    assert shapes == {(2, 32)}


def test_the_train_loss_is_plain_also_where_training_minimises_more(
    exact: dict[str, object], tmp_path: Path
) -> None:
    """The first loss is that of guessing, not the sum with that of later tokens."""
    settings = {**exact, "gpt.mtp": "offsets", "train.evals": 16}

    first = next(train(Config.from_settings(settings), tmp_path))

    assert first.train_loss == pytest.approx(math.log(257), abs=1e-5)


def test_the_network_is_told_of_each_step_before_it(
    exact: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[tuple[float, int, int]] = []
    monkeypatch.setattr(GPT, "enter", lambda gpt, *where: entered.append(where))
    config = Config.from_settings({**exact, "train.seed": 7})

    list(islice(train(config, tmp_path), 2))
    list(train(config, tmp_path))

    # What is restored is evaluated as it was at its last step, before it goes on.
    assert entered == [(step / 16, 7, step) for step in (*range(8), 7, *range(8, 16))]


def test_bf16_is_used_where_it_is_asked(
    exact: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training and in evaluation; the weights stay fp32, and the loss about what it was."""
    forward = GPT.hidden
    used: dict[bool, set[Any]] = {True: set(), False: set()}

    def hidden(gpt: GPT, tokens_BT: Tensor) -> Tensor:
        on = torch.is_autocast_enabled("cpu")
        used[gpt.training].add(torch.get_autocast_dtype("cpu") if on else None)
        return forward(gpt, tokens_BT)

    monkeypatch.setattr(GPT, "hidden", hidden)
    full, reduced = (
        list(train(Config.from_settings({**exact, "train.precision": p}), tmp_path / p))[-1]
        for p in ("fp32", "bf16")
    )

    assert used == {True: {None, torch.bfloat16}, False: {None, torch.bfloat16}}
    assert reduced.val_loss == pytest.approx(full.val_loss, abs=0.05)
    assert all(
        t.dtype == torch.float32 for n, t in tensors(tmp_path / "bf16").items() if "gpt" in n
    )


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ({}, {"objective", "losses"}),
        # One window, not all that follow each other in a sequence.
        ({"gpt.context_vector": True, "gpt.context_windows": 2}, {"window", "logits"}),
    ],
    ids=["a sequence", "windows"],
)
def test_training_and_evaluation_are_compiled_where_it_is_asked(
    more: dict[str, object],
    parts: set[str],
    exact: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called = set()

    def compiled(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            called.add(function.__name__)
            return function(*arguments)

        return call

    monkeypatch.setattr(torch, "compile", compiled)

    list(train(Config.from_settings({**exact, **more}), tmp_path / "no"))
    assert not called
    list(train(Config.from_settings({**exact, **more, "train.compile": "yes"}), tmp_path / "yes"))
    assert called == parts


def test_how_a_run_computes_is_chosen_by_the_device_and_by_its_length(
    exact: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = {**exact, "train.compile": "auto", "train.device": "auto"}
    on_cpu = [
        runtime(Config.from_settings({**exact, "train.precision": p})) for p in ("fp32", "bf16")
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    short, long = (
        runtime(Config.from_settings({**auto, "train.precision": "bf16", "train.epochs": epochs}))
        for epochs in (2, 10**8)
    )

    assert [where.manual_attention for where in on_cpu] == [False, True]
    assert (short.device.type, short.manual_attention, short.compile) == ("cuda", False, False)
    assert long.compile


@pytest.mark.parametrize("has_instructions", [True, False])
def test_bf16_asked_for_without_the_instructions_leaves_muon_in_fp32(
    has_instructions: bool, exact: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its products were 10 times as slow as in fp32 there."""
    config = Config.from_settings({**exact, "train.precision": "bf16", "optim.name": "muon"})
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)

    optimizers = make_run(config, open_table(config.data), runtime(config)).optimizers

    assert [its.bf16 for its in optimizers if isinstance(its, Muon)] == [has_instructions]


def test_a_crash_while_saving_leaves_the_last_checkpoint(
    exact: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.from_settings(exact)
    whole = list(train(config, tmp_path / "whole"))
    list(islice(train(config, tmp_path / "crash"), 2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("pulled plug")))
        with pytest.raises(OSError, match="pulled plug"):
            list(train(config, tmp_path / "crash"))

    assert values(list(train(config, tmp_path / "crash"))) == values(whole)


def test_two_processes_do_not_train_in_one_folder(
    exact: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath(checkpoint.LOCK).touch()
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX)"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{hold}; print(flush=True); input()", tmp_path / checkpoint.LOCK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    monkeypatch.setattr(checkpoint, "SECONDS_TO_WAIT", 0.0)

    with pytest.raises(ConfigError, match="another process is training in"):
        next(train(Config.from_settings(exact), tmp_path))
    holder.communicate(b"\n")
    assert next(train(Config.from_settings(exact), tmp_path)).basis_points == 2500


def test_losses_after_twenty_steps_are_what_they_were(
    exact: dict[str, object], tmp_path: Path
) -> None:
    """Golden losses: a change that moves them must say so, with the loss before and after.

    To update them, take the values that the failed assertion shows.
    """
    settings = {**exact, "data.train_tokens": 2561, "train.evals": 2}
    finals = {
        name: list(train(Config.from_settings({**settings, "optim.name": name}), tmp_path / name))[
            -1
        ].val_loss
        for name in ("adamw", "muon")
    }

    assert finals == pytest.approx({"adamw": 4.5704, "muon": 5.1259}, abs=2e-3)


def test_each_epoch_reads_every_sequence_of_the_budget_once_in_its_own_order(
    small: dict[str, object],
) -> None:
    config = Config.from_settings(small)
    tokens = np.arange(10_000, dtype=np.uint16)  # more than the budget: the rest is not read
    table = TokenTable("", 257, np.ones(257), train=tokens, val=tokens, test=tokens)

    epochs = [
        np.concatenate(
            [
                batch(config, table, epoch * config.steps_per_epoch + step)[0][:, 0]
                for step in range(config.steps_per_epoch)
            ]
        ).tolist()
        for epoch in range(2)
    ]

    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(0, 2048, 32))
    assert epochs[0] != epochs[1]


OUT_OF_MEMORY = (
    "out of memory: {needed}; lower train.micro_batch_tokens (now 0, the whole batch of 256) "
    "first, then gpt.scale or gpt.context"
)


@pytest.mark.parametrize(
    ("error", "needed"),
    [
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has a total capacity of "
                "79.10 GiB of which 1.00 GiB is free."
            ),
            "20.5 GiB more were needed beside 0 bytes in use",
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 4398046511104 bytes. Error code 12"
            ),
            "4 TiB more were needed beside",
        ),
        (
            MemoryError("Unable to allocate 1.50 GiB for an array with shape (3,)"),
            "1.5 GiB more were needed beside",
        ),
        (MemoryError(), "more was needed beside"),
        (
            RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
            "more was needed beside 0 bytes in use",
        ),
        (
            RuntimeError(
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
            ),
            "more was needed beside 0 bytes in use",
        ),
    ],
    ids=["gpu", "cpu", "numpy", "unsaid", "full gpu", "cublas"],
)
def test_out_of_memory_says_how_much_was_needed_and_what_to_lower(
    error: Exception,
    needed: str,
    exact: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def objective(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(GPT, "objective", objective)

    with pytest.raises(ConfigError) as found:
        list(train(Config.from_settings(exact), tmp_path))

    (problem,) = found.value.problems
    before, after = OUT_OF_MEMORY.format(needed="|").split("|")
    assert problem.startswith(before + needed)
    assert problem.endswith(after)


def test_what_is_lowered_already_is_not_advised(
    exact: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def objective(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(GPT, "objective", objective)

    settings = {**exact, "train.micro_batch_tokens": 32}
    with pytest.raises(ConfigError, match=r"in use; lower gpt.scale or gpt.context$"):
        list(train(Config.from_settings(settings), tmp_path))

    windows = {"gpt.context_vector": True, "gpt.context_windows": 4, "gpt.context": 8}
    advice = r"in use; lower gpt.scale, gpt.context or gpt.context_windows$"
    with pytest.raises(ConfigError, match=advice):
        list(train(Config.from_settings({**settings, **windows}), tmp_path / "windows"))


def test_other_errors_stay_what_they_are(
    exact: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def objective(*arguments: object) -> None:
        raise RuntimeError("expected a tensor of 2 dimensions")

    monkeypatch.setattr(GPT, "objective", objective)

    with pytest.raises(RuntimeError, match="expected a tensor"):
        list(train(Config.from_settings(exact), tmp_path))


def test_a_network_too_large_for_this_machine_is_explained(
    exact: dict[str, object], tmp_path: Path
) -> None:
    """For real: a process whose address space is limited trains on a batch of too many tokens."""
    settings = {
        **exact,
        "data.train_tokens": 8193,
        "gpt.width": 256,
        "gpt.mlp_expansion": 64,
        "train.batch_tokens": 8192,
        "train.evals": 1,
    }
    code = """
import json, resource, sys
from pathlib import Path
from model.config.config import Config
from model.config.setting import ConfigError
from model.training.train import train
small, large = json.loads(sys.argv[1])
list(train(Config.from_settings(small), Path(sys.argv[2], "small")))  # imports what it takes
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
try:
    list(train(Config.from_settings(large), Path(sys.argv[2], "large")))
except ConfigError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, json.dumps([exact, settings]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    # The hidden layer of the MLP: 8192 tokens, 64 times the width, 4 bytes each.
    assert done.stdout.startswith("out of memory: 512 MiB more were needed beside"), done.stdout
    assert "train.micro_batch_tokens (now 0, the whole batch of 8,192) first" in done.stdout
