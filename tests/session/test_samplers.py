from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import fakes
import pytest
from sweeps import finished, make_space

from model.config.config import MULTIPLIER, Config
from model.config.cost import trial_flops
from model.config.setting import Value
from model.progress import Progress
from sweep.errors import SweepError
from sweep.records import Trial, TrialEnding
from sweep.session.roles import SearchTrials
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.space.constraint import read_constraint
from sweep.space.hyperparameter import Choice, Hyperparameter
from sweep.space.settings import SamplerConfig
from sweep.space.space import Space

NAMES = ["surface", "tpe", "gp", "cmaes", "random", "grid", "qmc", "coordinate"]
TRIALS = 8


def with_sampler(space: Space, name: str, **about: Value) -> Space:
    if name == "cmaes":
        pytest.importorskip("cmaes")
    startup = 5 if name == "gp" else 4  # the slowest by far
    config = SamplerConfig(name=name, startup_trials=startup, **about)  # type: ignore[arg-type]
    return replace(space, sampler=config)


def finish(search: SearchTrials, trial: Trial) -> None:
    """Every fourth is pruned, every sixth fails."""
    loss = fakes.final_loss(Config.from_settings(trial.settings))
    search.ledger.report(trial, 5000, loss + 1)
    if trial.number % 6 == 5:
        search.ledger.tell(trial, TrialEnding.FAILED, "no luck", None)
    elif trial.number % 4 == 3:
        search.ledger.tell(trial, TrialEnding.BEHIND, "behind", None)
    else:
        search.ledger.tell(trial, TrialEnding.FINISHED, "", loss)


def proposals(
    folder: Path | None, space: Space, stops: tuple[int, ...] = ()
) -> list[dict[str, Value]]:
    """What is proposed with two trials at once; after `stops` trials the driver dies."""
    path = folder / f"{space.sampler.name}-{len(stops)}.db" if folder else None
    search, running, found = SearchTrials(open_storage(path), space), [], []
    for number in range(TRIALS):
        if number in stops:
            search = SearchTrials(open_storage(path), space)
            running = search.unfinished()
        trial = search.ask()
        found.append(dict(trial.searched))
        running.append(trial)
        if len(running) == 2:
            finish(search, running.pop(0))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_continued_sweep_proposes_what_an_unbroken_one_would(
    tmp_path: Path, space: Space, name: str
) -> None:
    space = with_sampler(space, name, prior=True)

    unbroken = proposals(tmp_path, space)

    assert proposals(tmp_path, space, stops=(3, 7)) == unbroken
    assert len({str(point) for point in unbroken}) > TRIALS / 2


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_stays_within_domains_and_conditions(space: Space, name: str) -> None:
    space = with_sampler(space, name)

    for point in proposals(None, space):
        active = [hp for hp in space.hyperparameters if hp.active(point)]
        assert point.keys() == {hp.setting for hp in active}
        for hp in active:
            assert hp.domain.has(point[hp.setting])


@pytest.mark.parametrize("name", ["surface", "random", "qmc", "grid"])
def test_another_seed_proposes_other_trials(space: Space, name: str) -> None:
    first, other = (proposals(None, with_sampler(space, name, seed=seed)) for seed in (0, 1))

    assert first != other


def test_the_grid_gives_every_point_once(space: Space) -> None:
    space = replace(
        space,
        hyperparameters=(
            Hyperparameter("train.epochs", Choice((1, 2, 4))),
            Hyperparameter("gpt.scale", Choice((1.0, 2.0))),
        ),
    )
    search = SearchTrials(open_storage(None), with_sampler(space, "grid"))

    points = {str(search.ask().searched) for _ in range(6)}

    assert len(points) == 6


def test_the_grid_is_over_once_with_seeds_and_points_beside_it(space: Space) -> None:
    """Numbers of trials are no places on the grid: repeats and points take numbers too."""
    hyperparameters = (
        Hyperparameter("train.epochs", Choice((1, 2, 4))),
        Hyperparameter("gpt.scale", Choice((1.0, 2.0))),
    )
    points = ({"train.epochs": 4, "gpt.scale": 2.0},)
    space = replace(
        with_sampler(space, "grid"), hyperparameters=hyperparameters, repeat=2, points=points
    )
    search, asked = SearchTrials(open_storage(None), space), []

    while not search.nothing_left() and len(asked) < 20:
        asked.append(search.ask())
        search.ledger.tell(asked[-1], TrialEnding.FINISHED, "", 3.0)

    assert search.nothing_left() == "every point of the grid was tried"
    assert len(asked) == 12
    assert len({str(trial.searched) for trial in asked}) == 12


def test_a_grid_without_end_is_refused(space: Space) -> None:
    values = tuple(n / 1000 for n in range(400))
    names = ("gpt.dropout", "optim.warmup", "optim.final_rate")
    space = replace(
        space, hyperparameters=tuple(Hyperparameter(name, Choice(values)) for name in names)
    )

    with pytest.raises(SweepError, match="more than 100,000 points"):
        SearchTrials(open_storage(None), with_sampler(space, "grid")).ask()


HYPERPARAMETERS = (
    Hyperparameter("train.epochs", Choice((1, 2, 4, 8, 16, 32))),
    Hyperparameter("gpt.scale", Choice((0.5, 1.0, 2.0))),
    Hyperparameter("optim.lr", Choice((0.002, 0.004, 0.008, 0.016))),
    Hyperparameter(MULTIPLIER, Choice((1.0, 2.0, 4.0, 8.0, 16.0))),
)
LISTED = Space("listed", HYPERPARAMETERS)


def bowl(point: dict[str, Value], seed: int, number: int) -> float:
    """Best at 4 epochs, scale 2, rate 0.008 and decay 4, with noise of a thousandth."""
    best = {"train.epochs": 4, "gpt.scale": 2.0, "optim.lr": 0.008, MULTIPLIER: 4.0}
    off = [math.log2(float(point[name]) / value) for name, value in best.items()]  # type: ignore[arg-type]
    noise = 0.002 * math.sin(1000 * (seed + 1) * (number + 1))
    return 3.0 + 0.06 * sum(step**2 for step in off) + 0.03 * off[0] * off[3] + noise


def trials_to_find(name: str, seed: int) -> int:
    """Trials until the best point is tried."""
    search = SearchTrials(open_storage(None), with_sampler(LISTED, name, seed=seed))
    for number in range(1000):
        trial = search.ask()
        point = dict(trial.searched)
        search.ledger.tell(trial, TrialEnding.FINISHED, "", bowl(point, seed, number))
        if bowl(point, 0, -1) < 3.001:
            return number + 1
    raise AssertionError("the best point was never tried")


def test_the_surface_finds_the_optimum_of_a_noisy_bowl_in_fewer_trials_than_random() -> None:
    surface = median(trials_to_find("surface", seed) for seed in range(3))
    at_random = median(trials_to_find("random", seed) for seed in range(5))

    assert surface < at_random / 4


def test_cheap_evidence_comes_first_where_cost_is_weighed() -> None:
    def cost_of_first(cost_weight: float) -> float:
        space = with_sampler(LISTED, "surface", cost_weight=cost_weight, explore=0.0)
        search, cost = SearchTrials(open_storage(None), space), 0.0
        for number in range(8):
            trial = search.ask()
            point = dict(trial.searched)
            if number:  # the very first is cheap either way
                cost += trial_flops(trial.settings)
            search.ledger.tell(trial, TrialEnding.FINISHED, "", bowl(point, 0, number))
        return cost

    assert cost_of_first(1.0) < 0.5 * cost_of_first(0.0)


def test_settings_that_cannot_be_trained_are_not_proposed(tmp_path: Path) -> None:
    text = """
search:
  gpt.width: [32, 66]
  train.epochs: [1, 2, 4]
"""
    space = make_space(tmp_path, text.replace("66", "64"))
    broken = replace(
        space,
        hyperparameters=(Hyperparameter("gpt.width", Choice((32, 66))), space.hyperparameters[1]),
    )
    search = SearchTrials(open_storage(None), with_sampler(broken, "surface"))

    assert {search.ask().searched["gpt.width"] for _ in range(3)} == {32}


def test_the_surface_proposes_nothing_that_breaks_a_constraint() -> None:
    limit = read_constraint("gpt.parameters <= 150K")
    space = with_sampler(replace(LISTED, constraints=(limit,)), "surface", explore=1.0)
    search = SearchTrials(open_storage(None), space)

    assert [search.ask().number for _ in range(12)] == list(range(12))


def test_coordinate_descent_is_over_with_its_certificate(space: Space) -> None:
    space = with_sampler(space, "coordinate")
    search = SearchTrials(open_storage(None), space)
    asked = 0
    while not search.nothing_left():
        trial = search.ask()
        loss = fakes.final_loss(Config.from_settings(trial.settings))
        search.ledger.tell(trial, TrialEnding.FINISHED, "", loss)
        asked += 1

    found = search.certificate()

    assert found is not None
    assert asked < 30
    assert found.centre["optim.name"] == "muon"
    assert found.edges == ("train.epochs",)


def test_other_samplers_give_no_certificate_and_never_settle(space: Space) -> None:
    search = SearchTrials(open_storage(None), with_sampler(space, "random"))

    assert search.certificate() is None
    assert not search.nothing_left()


UNLIKE_LISTS = """
search:
  optim.name: [adamw, muon]
  optim.lr:
    - {when: {optim.name: adamw}, values: [0.004, 0.008]}
    - {when: {optim.name: muon}, values: [1.0e-3, 2.0e-3, 5.0e-3, 1.0e-2, 2.0e-2, 5.0e-2]}
budget: {trials: 3}
sampler: {name: coordinate}
prune: {rule: none}
"""


def test_coordinate_descent_ends_and_goes_on_where_alternatives_are_lists_of_other_lengths(
    tmp_path: Path, open_session: Callable[..., Session]
) -> None:
    """The last of six rates has its place among two, too."""

    def train(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in fakes.fake_train(config, folder):
            yield replace(progress, val_loss=4.0 - config.optim.lr)

    first = finished(open_session(make_space(tmp_path, UNLIKE_LISTS)), train, tmp_path)
    session = open_session(make_space(tmp_path, UNLIKE_LISTS, "budget.trials=8"))
    finished(session, train, tmp_path)

    assert len(first.searches()) == 3
    assert session.certificate()[0] == "uncertified: edge in optim.lr"
    assert "optim.lr=0.05" in session.certificate()[1]
