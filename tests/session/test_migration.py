"""What a study of a space that grew makes of proposals that were still waiting."""

from __future__ import annotations

from pathlib import Path

import optuna
from sweeps import make_space

from sweep.session.enqueue import enqueue_next
from sweep.session.roles import Searching, SearchTrials
from sweep.session.storage import open_storage

STUDIES = ("search", "baseline")
SPACE = """
name: fake
search:
  optim.name: [adamw, muon]
  optim.lr:
    - {when: {optim.name: adamw}, min: 1e-3, max: 1e-2, log: true}
    - {when: {optim.name: muon}, min: 1e-2, max: 1e-1, log: true}
sampler: {name: random}
points: [{optim.name: adamw, optim.lr: 4e-3}]
"""


def test_a_point_that_waited_when_the_space_grew_is_asked_by_its_new_names(tmp_path: Path) -> None:
    """The driver vanished between enqueueing and asking; then an alternative was added."""
    space, storage = make_space(tmp_path, SPACE), open_storage(None)
    SearchTrials(storage, space)
    enqueue_next(optuna.load_study(study_name="search", storage=storage), space)
    text = SPACE.replace("[adamw, muon]", "[adamw, lion, muon]")
    text = text.replace("{optim.name: adamw}, min", "{optim.name: [adamw, lion]}, min")
    wider = make_space(tmp_path, text)
    assert wider.hyperparameters[1].parameter != space.hyperparameters[1].parameter

    trial = SearchTrials(storage, wider).ask()

    assert trial.searched == {"optim.name": "adamw", "optim.lr": 4e-3}


def test_the_objective_of_every_study_has_a_name_also_of_one_begun_before(tmp_path: Path) -> None:
    """Version 0.1 named none, and dashboards called it Objective 0."""
    storage = open_storage(None)
    optuna.create_study(storage=storage, study_name="search")

    Searching.open(storage, make_space(tmp_path, SPACE))

    studies = (optuna.load_study(study_name=name, storage=storage) for name in STUDIES)
    assert [study.metric_names for study in studies] == [["val_loss"]] * len(STUDIES)
