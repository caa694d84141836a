from __future__ import annotations

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweep.prune import SETTINGS_ATTR, FairPruner, make_pruner
from sweep.sections import PruneConfig


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
    study = optuna.create_study()
    study.add_trials(list(trials))
    return study


COMPLETE, RUNNING = TrialState.COMPLETE, TrialState.RUNNING
GOOD = [[4.0, 3.0, 2.5, 2.0 + i / 10] for i in range(4)]


def test_a_trial_behind_the_median_of_its_peers_is_stopped() -> None:
    study = study_of(*(trial(losses, COMPLETE) for losses in GOOD))
    pruner = make_pruner(PruneConfig(startup_trials=4, grace=0.5))

    assert pruner.prune(study, trial([5.0, 4.9], RUNNING))
    assert not pruner.prune(study, trial([3.9, 2.9], RUNNING))
    assert not pruner.prune(study, trial([5.0], RUNNING))


def test_too_few_peers_stop_nobody() -> None:
    study = study_of(*(trial(losses, COMPLETE) for losses in GOOD[:3]))

    assert not make_pruner(PruneConfig(startup_trials=4)).prune(study, trial([9, 9], RUNNING))


def test_only_peers_of_the_same_stratum_count() -> None:
    """One-epoch trials must not be judged by those that read the text eight times."""
    peers = [trial(losses, COMPLETE, **{"train.epochs": 8}) for losses in GOOD]
    study = study_of(*peers)
    pruner = make_pruner(PruneConfig(peers=("train.epochs",)))

    assert not pruner.prune(study, trial([5.0, 4.9], RUNNING, **{"train.epochs": 1}))
    assert pruner.prune(study, trial([5.0, 4.9], RUNNING, **{"train.epochs": 8}))


def test_the_rule_none_stops_nobody() -> None:
    study = study_of(*(trial(losses, COMPLETE) for losses in GOOD))

    assert not make_pruner(PruneConfig(rule="none")).prune(study, trial([9, 9, 9], RUNNING))


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
    study = optuna.create_study(pruner=FairPruner(rule, peers))
    verdicts = []
    for losses in (*GOOD, [9.0] * 4):
        live = study.ask()
        for step, loss in zip((2500, 5000, 7500, 10_000), losses, strict=True):
            live.report(loss, step)
        verdicts.append(live.should_prune())
        study.tell(live, losses[-1])

    assert verdicts[0] is False
    assert verdicts[-1] is True
