from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from fakes import fake_train
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from model.config.config import Config
from model.progress import Progress
from sweep.search.forecast import Forecast
from sweep.session.enqueue import SETTINGS_ATTR
from sweep.session.expectation import Expectation
from sweep.session.pruner import (
    FairPruner,
    compared_loss,
    make_pruner,
)
from sweep.space.settings import PruneConfig


def trial(losses: list[float], state: TrialState, **settings: object) -> FrozenTrial:
    """A trial that reported `losses` at equal fractions of its schedule."""
    steps = {round(10_000 * (i + 1) / 4): loss for i, loss in enumerate(losses)}
    return create_trial(
        value=losses[-1] if state is TrialState.COMPLETE else None,
        state=state,
        user_attrs={SETTINGS_ATTR: settings},
        intermediate_values=steps,
    )


def study_of(*trials: FrozenTrial) -> optuna.Study:
    study = optuna.create_study(storage=InMemoryStorage())
    study.add_trials(list(trials))
    return study


DECAY = "optim.weight_decay_multiplier"
COMPLETE, RUNNING = TrialState.COMPLETE, TrialState.RUNNING
GOOD = [[4.0, 3.0, 2.5, 2.0 + i / 10] for i in range(4)]


def test_a_trial_behind_the_median_of_its_peers_is_stopped() -> None:
    study = study_of(*(trial(losses, COMPLETE) for losses in GOOD))
    pruner = make_pruner(PruneConfig(signal="val", startup_trials=4, grace=0.5))

    assert pruner.prune(study, running(study, [5.0, 4.9]))
    assert not pruner.prune(study, running(study, [3.9, 2.9]))
    assert not pruner.prune(study, running(study, [5.0]))


def test_too_few_peers_stop_nobody() -> None:
    study = study_of(*(trial(losses, COMPLETE) for losses in GOOD[:3]))

    assert not make_pruner(PruneConfig(startup_trials=4)).prune(study, running(study, [9, 9]))


def test_only_peers_of_the_same_stratum_count() -> None:
    """One-epoch trials must not be judged by those that read the text eight times."""
    peers = [trial(losses, COMPLETE, **{"train.epochs": 8}) for losses in GOOD]
    study = study_of(*peers)
    pruner = make_pruner(PruneConfig(signal="val", peers=("train.epochs",)))

    assert not pruner.prune(study, running(study, [5.0, 4.9], **{"train.epochs": 1}))
    assert pruner.prune(study, running(study, [5.0, 4.9], **{"train.epochs": 8}))


CYCLES = {"optim.schedule": "cyclic", "optim.cycles": 4}


@pytest.mark.parametrize(
    ("others", "stopped"),
    [
        ({"optim.schedule": "linear"}, False),  # one fall
        ({"optim.schedule": "cyclic", "optim.cycles": 2}, False),
        (CYCLES, True),
    ],
)
def test_a_trial_in_mid_cycle_is_judged_by_those_of_as_many_cycles_alone(
    others: dict[str, object], stopped: bool
) -> None:
    """Its rate is high where theirs is low, and low again before the end."""
    study = study_of(*(trial(losses, COMPLETE, **others) for losses in GOOD))
    pruner = make_pruner(PruneConfig(signal="val", startup_trials=4, grace=0.5))

    assert pruner.prune(study, running(study, [5.0, 4.9], **CYCLES)) is stopped


def test_cycles_of_a_space_that_fixes_how_many_are_one_kind() -> None:
    """Searched is the schedule alone."""
    study = study_of(*(trial(ls, COMPLETE, **{"optim.schedule": "cyclic"}) for ls in GOOD))
    pruner = make_pruner(PruneConfig(signal="val", startup_trials=4, grace=0.5))

    assert pruner.prune(study, running(study, [5.0, 4.9], **{"optim.schedule": "cyclic"}))
    assert not pruner.prune(study, running(study, [5.0, 4.9], **{"optim.schedule": "linear"}))


def test_the_rule_none_stops_nobody() -> None:
    study = study_of(*(trial(losses, COMPLETE) for losses in GOOD))

    assert not make_pruner(PruneConfig(rule="none")).prune(study, running(study, [9, 9, 9]))


@pytest.mark.parametrize(
    "rule",
    [
        optuna.pruners.PercentilePruner(25.0, n_startup_trials=2),
        optuna.pruners.SuccessiveHalvingPruner(min_resource=2500, reduction_factor=2),
        optuna.pruners.ThresholdPruner(upper=6.0),
    ],
    ids=lambda rule: type(rule).__name__,
)
@pytest.mark.parametrize("peers", [(), ("train.epochs",)])
def test_optunas_own_rules_work_inside(
    rule: optuna.pruners.BasePruner, peers: tuple[str, ...]
) -> None:
    """Through a real study: some rules keep notes in its storage."""
    config = PruneConfig(rule="asha", signal="val", peers=peers, grace=0, startup_trials=1)
    study = optuna.create_study(pruner=FairPruner(rule, config))
    verdicts = []
    for losses in (*GOOD, [9.0] * 4):
        live = study.ask()
        for step, loss in zip((2500, 5000, 7500, 10_000), losses, strict=True):
            live.report(loss, step)
            verdict = live.should_prune()
        verdicts.append(verdict)
        study.tell(live, losses[-1])

    assert verdicts[0] is False
    assert verdicts[-1] is True


LOSSES = st.floats(1.0, 9.0).map(lambda loss: round(loss, 2))
CURVE = st.lists(LOSSES, min_size=4, max_size=4)
KINDS = st.sampled_from([1, 2])
# Rules that compare, and keep no notes of their own.
COMPARING = ["best", "median", "percentile"]
RULES = [*COMPARING, "asha", "hyperband", "threshold", "patient"]
SIGNALS = ["val", "corrected"]
CONFIG = PruneConfig(
    signal="val", peers=(), startup_trials=2, grace=0.25, upper=2.0, patience=1, confidence=0.0
)


@given(curves=st.lists(CURVE, min_size=3, max_size=7), at=st.integers(1, 3))
@pytest.mark.parametrize("rule", RULES)
def test_the_best_so_far_is_never_stopped(rule: str, curves: list[list[float]], at: int) -> None:
    """Whatever the rule: also one above a threshold, or that has not got better for long."""
    best = min(range(len(curves)), key=lambda number: curves[number][at - 1])
    study = study_of(*(trial(c, COMPLETE) for n, c in enumerate(curves) if n != best))
    pruner = make_pruner(replace(CONFIG, rule=rule))

    assert not pruner.prune(study, running(study, curves[best][:at]))


@given(curves=st.lists(CURVE, min_size=3, max_size=6), mine=CURVE, at=st.integers(1, 3))
@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("rule", COMPARING)
def test_the_order_of_peers_is_irrelevant(
    rule: str, signal: str, curves: list[list[float]], mine: list[float], at: int
) -> None:
    pruner = make_pruner(replace(CONFIG, rule=rule, signal=signal))
    verdicts = set()
    for order in (curves, curves[::-1], sorted(curves)):
        study = study_of(*(trial(losses, COMPLETE, **{"optim.lr": losses[0]}) for losses in order))
        one = running(study, mine[:at], **{"optim.lr": mine[0]})
        verdicts.add(bool(pruner.prune(study, one)))

    assert len(verdicts) == 1


@given(
    curves=st.lists(st.tuples(CURVE, KINDS), min_size=3, max_size=8),
    mine=CURVE,
    at=st.integers(1, 3),
)
@pytest.mark.parametrize("rule", COMPARING)
def test_inside_a_stratum_a_rule_is_optunas_own_on_the_narrowed_study(
    rule: str, curves: list[tuple[list[float], int]], mine: list[float], at: int
) -> None:
    config = replace(CONFIG, rule=rule, peers=("train.epochs",))
    share = {"best": 0.0, "median": 50.0, "percentile": config.percentile}[rule]
    own = optuna.pruners.PercentilePruner(share, n_startup_trials=2, n_warmup_steps=2500)
    mixed = study_of(*(trial(c, COMPLETE, **{"train.epochs": kind}) for c, kind in curves))
    narrowed = study_of(*(trial(c, COMPLETE) for c, kind in curves if kind == 1))
    one = running(mixed, mine[:at], **{"train.epochs": 1})

    assert make_pruner(config).prune(mixed, one) == own.prune(narrowed, one)


@given(others=st.lists(CURVE, max_size=4), mine=CURVE, at=st.integers(1, 3))
@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("rule", RULES)
def test_trials_of_another_kind_change_no_verdict(
    rule: str, signal: str, others: list[list[float]], mine: list[float], at: int
) -> None:
    pruner = make_pruner(replace(CONFIG, rule=rule, signal=signal, peers=("train.epochs",)))
    same = [trial(losses, COMPLETE, **{"train.epochs": 1}) for losses in GOOD]
    other = [trial(losses, COMPLETE, **{"train.epochs": 8}) for losses in others]
    verdicts = {
        bool(pruner.prune(study, running(study, mine[:at], **{"train.epochs": 1})))
        for study in (study_of(*same), study_of(*same, *other))
    }

    assert len(verdicts) == 1


def test_the_only_one_of_its_kind_is_never_stopped() -> None:
    peers = [trial(losses, COMPLETE, **{"train.epochs": 8}) for losses in GOOD]
    study = study_of(*peers)
    pruner = make_pruner(replace(CONFIG, rule="threshold", peers=("train.epochs",)))

    assert not pruner.prune(study, running(study, [9.0, 9.0], **{"train.epochs": 1}))
    assert pruner.prune(study, running(study, [9.0, 9.0], **{"train.epochs": 8}))


def test_a_rule_that_keeps_notes_takes_the_step_of_rungs_from_the_grace() -> None:
    study = optuna.create_study(pruner=make_pruner(replace(CONFIG, rule="asha", grace=0.5)))
    for losses in (*GOOD, *GOOD):
        live = study.ask()
        for step, loss in zip((2500, 5000, 7500, 10_000), losses, strict=True):
            live.report(loss, step)
            live.should_prune()
        study.tell(live, losses[-1])
    rungs = {key for t in study.trials for key in t.system_attrs if "rung" in key}

    assert rungs == {"completed_rung_0"}


def test_hyperband_compares_with_peers_alone() -> None:
    """It makes a study of its own to see one bracket; that one must be narrowed as well."""
    study = optuna.create_study(storage=InMemoryStorage())
    for number in range(120):
        kind, loss = ((1, 5 + number / 30), (8, 1.0))[number % 2]
        peer = trial([loss] * 4, COMPLETE, **{"train.epochs": kind})
        peer.system_attrs = {"completed_rung_0": loss}
        study.add_trial(peer)
    config = replace(CONFIG, rule="hyperband", peers=("train.epochs",))
    second = running(study, [5.01] * 3, **{"train.epochs": 1})
    last = running(study, [8.99] * 3, **{"train.epochs": 1})

    assert not make_pruner(config).prune(study, second)
    assert make_pruner(config).prune(study, last)


def test_stronger_decay_that_looks_worse_survives_once_its_drop_is_known() -> None:
    """Raw losses at half of the schedule stop the eventual winner; the forecast does not."""
    finished = [
        trial([4.0, 3.0 + 0.1 * d, 2.8, 2.5 - 0.1 * d], COMPLETE, **{DECAY: 2.0**d})
        for d in range(6)
    ]
    study = study_of(*finished)
    strong = running(study, [4.0, 3.7], **{DECAY: 2.0**7})
    weak = running(study, [4.0, 3.25], **{DECAY: 1.0})
    raw, fair = (
        make_pruner(replace(CONFIG, rule="median", signal=s, startup_trials=4, grace=0.5))
        for s in ("val", "corrected")
    )

    assert raw.prune(study, strong)
    assert not fair.prune(study, strong)
    assert fair.prune(study, weak)


@pytest.mark.parametrize(
    ("signal", "ema", "expected"),
    [("val", 3.0, 2.0), ("raw", 3.0, 4.0), ("ema", 3.0, 3.0), ("ema", None, 4.0)],
)
def test_the_signal_says_which_loss_is_compared(
    signal: str, ema: float | None, expected: float
) -> None:
    evaluated = next(fake_train(Config(), Path(tempfile.mkdtemp())))
    about = {**evaluated.to_dict(), "val_loss": 2.0, "raw_loss": 4.0, "ema_loss": ema}

    assert compared_loss(Progress(**about), signal) == expected


def running(study: optuna.Study, losses: list[float], **settings: object) -> FrozenTrial:
    """A trial of `study` that is under way."""
    study.add_trial(trial(losses, RUNNING, **settings))
    return study.trials[-1]


@pytest.mark.parametrize(
    ("errors_behind", "stopped"),
    [(-1.0, False), (1.0, False), (1.9, False), (2.1, True), (3, True)],
)
def test_an_expected_loss_is_stopped_only_beyond_its_confidence(
    errors_behind: float, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is a margin in the trial's favour: one standard error behind is not enough."""
    finals, error = [2.0, 2.1, 2.2], 0.05
    expected = Forecast(2.1 + errors_behind * error, error)  # against the median of its peers
    monkeypatch.setattr(Expectation, "of", lambda self, trial: expected)
    study = study_of(*(trial([4.0, 3.0, 2.5, final], COMPLETE) for final in finals))
    config = PruneConfig(signal="corrected", confidence=2.0, startup_trials=3, peers=())

    assert make_pruner(config).prune(study, running(study, [4.1, 3.1])) is stopped


@pytest.mark.parametrize("config", [PruneConfig(), PruneConfig(signal="val", rule="asha")])
def test_looking_at_what_changed_alone_gives_the_verdicts_of_looking_at_everything(
    config: PruneConfig,
) -> None:
    draw, study = random.Random(3), study_of()
    kept = make_pruner(config)
    live: list[tuple[optuna.Trial, int, float]] = []
    verdicts = []
    for _ in range(160):
        if len(live) < 6:
            begun, decay = study.ask(), draw.choice([1.0, 4.0, 16.0])
            begun.set_user_attr(SETTINGS_ATTR, {DECAY: decay, "data.train_tokens": 100})
            live.append((begun, 0, 3 + draw.random() / (1 + decay)))
        at = draw.randrange(len(live))
        its, mark, end = live.pop(at)
        its.report(end + (1 - (mark + 1) / 4) ** 2 + draw.gauss(0, 0.01), 2500 * (mark + 1))
        frozen = study.get_trials(deepcopy=False)[its.number]
        verdict = kept.prune(study, frozen)
        assert verdict == make_pruner(config).prune(study, frozen)
        verdicts.append(verdict)
        if mark == 3:
            study.tell(its, end)
        elif verdict:
            study.tell(its, state=TrialState.PRUNED)
        else:
            live.append((its, mark + 1, end))

    assert {True, False} == {*verdicts}
