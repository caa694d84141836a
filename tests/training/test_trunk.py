from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.config.config import Config
from model.config.trunk import (
    SharedTrunks,
    branch_steps,
    recipe_digest,
    trunk_problems,
    trunk_steps,
)
from model.progress import Progress
from model.training import checkpoint, log_probs
from model.training.train import train

EPOCHS = (1, 2, 4)


@pytest.fixture
def shares(small: dict[str, object]) -> dict[str, object]:
    """A recipe of 8 steps an epoch whose runs of 1, 2 and 4 epochs leave at 5, 10 and 20 steps."""
    return {
        **small,
        "train.compile": "no",
        "train.evals": 4,
        "optim.schedule": "constant_linear",
        "optim.warmup_epochs": 0.3,
        "optim.warmdown": 0.3,
        "gpt.dropout": 0.1,
        "gpt.stochastic_depth": 0.2,
        "train.ema_epochs": 0.5,
    }


def of(settings: dict[str, object], epochs: int, **more: object) -> Config:
    return Config.from_settings({**settings, "train.epochs": epochs, **more})


def learned(run: list[Progress]) -> list[Progress]:
    """All but the clock and who trained what."""
    nobody = {"seconds": 0.0, "trunk_of": "", "trunk_step": 0, "trunk_seconds": 0.0}
    return [dataclasses.replace(p, **nobody) for p in run]  # type: ignore[arg-type]


def tensors(folder: Path) -> dict[str, Tensor]:
    return checkpoint._open(folder / checkpoint.NAME, with_tensors=True)[1]


@pytest.mark.parametrize("name", ["adamw", "muon", "schedule_free"])
def test_a_run_from_a_trunk_equals_one_from_the_start_bit_for_bit(
    name: str, shares: dict[str, object], tmp_path: Path
) -> None:
    """Up from fewer epochs and down from more, also where an average is evaluated."""
    settings = {**shares, "optim.name": name, "train.average_last": 1}
    if name == "muon":
        settings |= {"train.meta_step": 0.5, "train.meta_schedule": "rate"}
    alone = {e: list(train(of(settings, e), tmp_path / f"alone{e}")) for e in EPOCHS}
    rising = SharedTrunks(tmp_path / "rising", EPOCHS)
    falling = SharedTrunks(tmp_path / "falling", EPOCHS)

    up = {e: list(train(of(settings, e), tmp_path / f"up{e}", rising)) for e in EPOCHS}
    down = {e: list(train(of(settings, e), tmp_path / f"down{e}", falling)) for e in EPOCHS[::-1]}

    for shared in (up, down):
        for epochs in EPOCHS:
            made = {p.step for p in shared[epochs]}
            assert learned(shared[epochs]) == learned([p for p in alone[epochs] if p.step in made])
    began = {e: (up[e][-1].trunk_of, down[e][-1].trunk_of) for e in EPOCHS}
    assert began == {1: ("", "down4"), 2: ("up1", "down4"), 4: ("up2", "")}
    assert all(down[e][-1].trunk_step == trunk_steps(of(settings, e)) for e in (1, 2))
    for epochs in EPOCHS:
        ours, theirs = tensors(tmp_path / f"up{epochs}"), tensors(tmp_path / f"alone{epochs}")
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_evaluations_of_a_trunk_at_steps_of_ones_own_come_first(
    shares: dict[str, object], tmp_path: Path
) -> None:
    """Four epochs are evaluated at 8, 16, 24 and 32 steps, two at 4, 8, 12, 16, branching at 11."""
    shared = SharedTrunks(tmp_path / "trunks", EPOCHS)
    list(train(of(shares, 2), tmp_path / "two", shared))

    run = list(train(of(shares, 4), tmp_path / "four", shared))

    assert [(p.step, p.trunk_step, p.seconds == 0.0) for p in run] == [
        (8, 8, True),
        (16, 11, False),
        (24, 11, False),
        (32, 11, False),
    ]
    assert 0 < run[0].trunk_seconds < run[1].trunk_seconds == run[-1].trunk_seconds
    assert list(train(of(shares, 4), tmp_path / "four", shared)) == run


@pytest.mark.parametrize("order", [(2, 4), (4, 2)])
def test_a_run_whose_rate_never_falls_is_all_trunk(
    order: tuple[int, int], shares: dict[str, object], tmp_path: Path
) -> None:
    """The end of one is the middle of the other, and each ends with what comes of an end."""
    settings = {**shares, "optim.schedule": "constant"}
    shared = SharedTrunks(tmp_path / "trunks", EPOCHS)

    for epochs in order:
        alone = list(train(of(settings, epochs), tmp_path / f"alone{epochs}"))
        run = list(train(of(settings, epochs), tmp_path / f"{epochs}", shared))
        made = {p.step for p in run}

        assert learned(run) == learned([p for p in alone if p.step in made])
        assert run[-1].done
        assert checkpoint.read_state(tmp_path / f"{epochs}").ended
        assert (tmp_path / f"{epochs}" / log_probs.NAME).exists()
    assert run[-1].trunk_step == 16


def test_a_run_from_a_trunk_that_is_left_goes_on_bit_for_bit(
    shares: dict[str, object], tmp_path: Path
) -> None:
    """At every evaluation, and what it keeps for others is the same too."""
    shared = [SharedTrunks(tmp_path / f"trunks{n}", EPOCHS) for n in range(2)]
    whole, parts = tmp_path / "whole" / "four", tmp_path / "parts" / "four"
    for its in shared:
        list(train(of(shares, 1), tmp_path / "one" / its.folder.name, its))

    once = list(train(of(shares, 4), whole, shared[0]))
    for already in range(len(once)):
        list(islice(train(of(shares, 4), parts, shared[1]), already + 1))

    assert learned(list(train(of(shares, 4), parts, shared[1]))) == learned(once)
    kept = [sorted(its.folder.glob("*/*/" + checkpoint.NAME)) for its in shared]
    assert [int(path.parent.name) for path in kept[0]] == [5, 11, 22]
    for a, b in zip(*kept, strict=True):
        ours, theirs = tensors(a.parent), tensors(b.parent)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_damaged_trunk_is_passed_over_and_named(
    shares: dict[str, object], tmp_path: Path
) -> None:
    shared = SharedTrunks(tmp_path / "trunks", EPOCHS)
    alone = list(train(of(shares, 4), tmp_path / "alone"))
    list(train(of(shares, 2), tmp_path / "two", shared))
    _, far = sorted(shared.folder.glob("*/*/" + checkpoint.NAME))

    far.write_bytes(far.read_bytes()[:100])
    from_near = list(train(of(shares, 4), tmp_path / "a", shared))
    whole = sorted(shared.folder.glob("*/*/" + checkpoint.NAME))
    for path in whole:
        path.write_bytes(b"")
    from_start = list(train(of(shares, 4), tmp_path / "b", shared))

    assert from_near[-1].trunk_step == 5
    assert f"{far} is damaged" in from_near[-1].trunk_lost
    assert from_start[0].trunk_of == ""
    assert [int(path.parent.name) for path in whole] == [5, 11, 22]  # made again
    assert f"{whole[-1]} is damaged" in from_start[0].trunk_lost
    assert from_start[-1].val_loss == from_near[-1].val_loss == alone[-1].val_loss


def test_other_recipes_and_seeds_have_trunks_of_their_own(
    shares: dict[str, object], tmp_path: Path
) -> None:
    shared = SharedTrunks(tmp_path / "trunks", EPOCHS)
    list(train(of(shares, 2), tmp_path / "two", shared))

    others = [{"optim.lr": 0.005}, {"train.data_seed": 1}, {"train.seed": 1}]
    runs = [next(train(of(shares, 4, **o), tmp_path / str(o), shared)) for o in others]

    assert [p.trunk_of for p in runs] == ["", "", ""]


def test_a_run_that_began_before_trunks_were_kept_keeps_none(
    shares: dict[str, object], tmp_path: Path
) -> None:
    """It does not know the train losses of its first steps any more."""
    shared = SharedTrunks(tmp_path / "trunks", EPOCHS)
    alone = list(train(of(shares, 4), tmp_path / "alone"))
    list(islice(train(of(shares, 4), tmp_path / "later"), 1))

    assert learned(list(train(of(shares, 4), tmp_path / "later", shared))) == learned(alone)
    assert not list(shared.folder.glob("*/*/" + checkpoint.NAME))


def test_a_run_that_diverges_keeps_no_trunk_beyond(
    shares: dict[str, object], tmp_path: Path
) -> None:
    shared = SharedTrunks(tmp_path / "trunks", EPOCHS)
    run = list(
        train(of(shares, 4, **{"optim.lr": 10, "optim.grad_clip": 0}), tmp_path / "x", shared)
    )

    assert run[-1].diverged_step is not None
    kept = [int(path.parent.name) for path in shared.folder.glob("*/*/" + checkpoint.NAME)]
    assert all(step < run[-1].diverged_step for step in kept)


def test_a_trunk_ends_before_anything_depends_on_the_length(shares: dict[str, object]) -> None:
    """Eight steps an epoch, the rate falling in the last 30 %."""
    plain = {**shares, "train.ema_epochs": 0.0}

    assert trunk_steps(of(plain, 4)) == 22
    assert branch_steps(of(plain, 4), (1, 2, 4, 8)) == (5, 11, 22)
    assert trunk_steps(of(plain, 4, **{"train.average_last": 2})) == 22
    assert trunk_steps(of(plain, 4, **{"train.average_last": 4})) == 7
    assert trunk_steps(of(plain, 4, **{"optim.cycle_epochs": 3})) == 8
    assert trunk_steps(of(plain, 4, **{"optim.schedule": "constant"})) == 32
    assert trunk_steps(of(plain, 4, **{"optim.name": "schedule_free"})) == 32
    assert trunk_steps(of(plain, 4, **{"optim.schedule": "cosine"})) == 0
    assert recipe_digest(of(plain, 1)) == recipe_digest(of(plain, 8))
    assert recipe_digest(of(plain, 1)) != recipe_digest(of(plain, 1, **{"optim.lr": 0.005}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optim.schedule", "cosine"),
        ("optim.warmup", 0.05),
        ("optim.decay_schedule", "rising"),
        ("optim.momentum_warmup", 0.1),
        ("gpt.replay_passes", 1),
        ("gpt.mtp", "offsets"),
        ("train.log_probs", "epochs"),
    ],
)
def test_what_goes_by_fractions_of_the_run_has_no_trunk(
    name: str, value: object, shares: dict[str, object]
) -> None:
    fits = {**shares, "optim.name": "muon", "gpt.layers": 4}
    without = {"optim.warmup_epochs": 0.0, "optim.warmup": 0.0} if "warmup" in name else {}

    assert trunk_problems(of({**fits, **without}, 4)) == []
    (problem,) = trunk_problems(of({**fits, **without}, 4, **{name: value}))
    assert problem.startswith(name.replace("replay_passes", "replay_start"))
