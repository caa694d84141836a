from __future__ import annotations

import json
from pathlib import Path

import fakes
import pytest
import yaml
from sweeps import make_space, problems

from model.config.config import Config
from model.config.presets import PRESETS
from sweep.errors import SweepError
from sweep.records import BaselinePoint
from sweep.space.baseline import baseline_points, baseline_settings
from sweep.space.hyperparameter import Choice, Range
from sweep.space.space import Space, derived


def test_a_space_is_read_with_its_conditions(space: Space) -> None:
    by_parameter = {hp.parameter: hp for hp in space.hyperparameters}

    assert by_parameter["train.epochs"].domain == Choice((1, 2, 4))
    muon = by_parameter["optim.lr [optim.name=muon]"]
    assert muon.domain == Range(1e-2, 1e-1, log=True)
    assert muon.active({"optim.name": "muon"})
    assert not muon.active({"optim.name": "adamw"})
    assert space.searched == [
        "optim.name",
        "optim.weight_decay_multiplier",
        "train.epochs",
        "optim.lr",
    ]


def test_every_problem_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = """
serch: {}
search:
  optim.weight_decy: [1, 2]
  optim.lr: {min: 0.01, max: 0.001}
  train.epochs: [1, two]
  gpt.dropout: {min: 0, max: 0.2, when: {gpt.layers: 3}}
  optim.name: [adamw, mun]
  optim.momentum: {min: 0.9, max: 0.99, wen: {optim.name: muon}}
  gpt.scale: {min: 0.5, max: 2, log: maybe}
  data.path: [a, b]
fixed:
  train.epochs: 3
budget: {trials: lots}
prune: {rule: mediann, peers: [train.epoch]}
"""

    found = problems(tmp_path, text)

    assert found == [
        "line 2: serch: no such section; did you mean search?",
        "line 4: optim.weight_decy: no such setting; did you mean optim.weight_decay_multiplier?",
        "line 5: optim.lr: a range needs min < max, got [0.01, 0.001]",
        "line 6: train.epochs: expected a whole number, got 'two'",
        "line 6: train.epochs: is both searched and fixed; keep one",
        "line 7: gpt.dropout: when: gpt.layers is not searched by values",
        "line 8: optim.name: expected one of adamw, muon, soap, shampoo, lion, magma, "
        "schedule_free, got 'mun'; did you mean muon?",
        "line 9: optim.momentum: unknown key wen; did you mean when?",
        "line 10: gpt.scale: log is true or false, got 'maybe'",
        "line 11: data.path: trials that differ in it cannot be compared; fix it",
        "line 14: budget.trials: expected a whole number, got 'lots'",
        "line 15: prune.rule: expected one of best, median, percentile, asha, hyperband, "
        "threshold, patient, none, got 'mediann'; did you mean median?",
        "line 15: prune.peers: train.epoch is no such setting; did you mean train.epochs?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("search: {optim.lr: 0.1}", "move to fixed"),
        ("search: {gpt.width: {min: 32, max: 64}}", "must be a multiple, so no range"),
        ("search: {data.val_tokens: [32K, 64K]}", "cannot be compared"),
        (
            "search: {data.train_tokens: [32K, 64K]}\nprune: {peers: []}",
            "prune.peers: must name data.train_tokens",
        ),
        ("search: {optim.lr: !!python/name:os.system []}", "YAML"),
        ("search: &a {optim.lr: *a}", "YAML"),
        ("search: {train.epochs: [2020-13-45]}", "YAML"),
        ("search: {train.epochs: [" + "9" * 400 + "]}", "expected a whole number"),
        ("search: {train.epochs: [1]}\nprune: {peers: [[a]]}", "is no such setting"),
        ("search: {train.epochs: [1]}\nbaseline: {multiples: [²]}", "whole numbers"),
        ("search: {optim.name: [adamw], optim.lr: {values: [1], when: {1: 2}}}", "no such setting"),
        (
            "search: {optim.name: [adamw], optim.lr: {values: [1], when: {optim.name: []}}}",
            "has no values",
        ),
        ("search: {optim.lr: []}", "expected a list of values"),
        ("search: {optim.lr: [1, 1]}", "lists a value twice"),
        ("search: {optim.name: {min: 1, max: 2}}", "has no order"),
        ("search: {optim.lr: {min: 0.1}}", "expected either values, or both min and max"),
        ("search: {gpt.dropout: {min: 0, max: 0.1, log: true}}", "a log range needs min > 0"),
        ("search: {optim.lr: [1], optim.lr: [2]}", "is given twice"),
        ("search: [1, 2]", "expected `key: value` lines"),
        ("search: {}", "nothing to search"),
        ("", "expected `key: value` lines"),
        ("search: {optim.lr: [1, 2}", "YAML"),
        ("search: {train.batch_tokens: [64, 100]}", "must be a multiple of gpt.context"),
        ("name: ../up\nsearch: {train.epochs: [1, 2]}", "use letters, digits"),
        ("search: {train.epochs: [1, 2]}\nbaseline: {multiples: [1, half]}", "whole numbers"),
        (
            "search: {optim.name: [adamw, muon], optim.lr: [{min: 1e-3, max: 1e-2, "
            "when: {optim.name: muon}}, {min: 1e-3, max: 1e-1}]}",
            "may apply together",
        ),
        (
            "search: {train.epochs: {values: [1], when: {gpt.layers: 1}}, "
            "gpt.layers: {values: [1], when: {train.epochs: 1}}}",
            "conditions go in a circle",
        ),
        (
            "search: {optim.name: [adamw], optim.lr: {min: 1e-3, max: 1e-2, "
            "when: {optim.name: muon}}}",
            "when: optim.name is never muon here",
        ),
    ],
)
def test_what_cannot_be_searched_is_explained(text: str, expected: str, tmp_path: Path) -> None:
    assert any(expected in problem for problem in problems(tmp_path, text))


def test_numbers_that_yaml_takes_for_text_are_understood(tmp_path: Path) -> None:
    text = "search: {optim.lr: {min: 1e-4, max: 1e-3, log: true}}\nfixed: {data.train_tokens: 1M}"

    space = make_space(tmp_path, text)

    assert space.hyperparameters[0].domain == Range(1e-4, 1e-3, log=True)
    assert space.train_tokens == 1_000_000


def test_fixing_a_searched_setting_decides_the_conditions_on_it(tmp_path: Path) -> None:
    space = make_space(tmp_path, fakes.SPACE, "optim.name=muon", "budget.trials=3")

    assert space.fixed == {"optim.name": "muon"}
    assert [hp.parameter for hp in space.hyperparameters if hp.setting == "optim.lr"] == [
        "optim.lr"
    ]
    assert space.budget.trials == 3


def test_an_unknown_override_is_told_with_a_suggestion(tmp_path: Path) -> None:
    found = problems(tmp_path, fakes.SPACE, "optim.nam=muon", "train.epochs=many")

    assert found == [
        "--set optim.nam=muon: no such setting; did you mean optim.name?",
        "--set train.epochs: expected a whole number, got 'many'",
    ]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    from sweep.space.language.reader import read_space

    with pytest.raises(SweepError, match="No such file"):
        read_space(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[3] / "search_spaces").glob("*.yaml")),
    ids=lambda p: p.stem,
)
def test_every_space_that_is_shipped_is_sound(path: Path) -> None:
    from sweep.space.language.reader import read_space

    assert read_space(path).hyperparameters


def test_the_quickstart_searches_the_four_axes_of_the_mission() -> None:
    from sweep.space.language.reader import read_space

    space = read_space(Path(__file__).parents[3] / "search_spaces" / "quickstart.yaml")

    domains = {hp.parameter: hp.domain for hp in space.hyperparameters}
    assert domains["optim.weight_decay_multiplier"] == Range(1, 32, log=True)
    assert domains["train.epochs"] == Choice((1, 2, 4, 8))
    assert domains["gpt.scale"] == Choice((0.5, 1, 2))
    assert domains["optim.name"] == Choice(("adamw", "muon"))
    assert {"optim.lr [optim.name=adamw]", "optim.lr [optim.name=muon]"} <= domains.keys()
    assert space.baseline.multiples == (1, 2, 4, 8)
    assert space.budget.trials >= 12


def test_settings_that_conditions_keep_apart_are_not_tried_together(tmp_path: Path) -> None:
    text = """
search:
  gpt.context: [64, 96]
  train.batch_tokens:
    - {when: {gpt.context: 64}, values: [512, 1024]}
    - {when: {gpt.context: 96}, values: [480, 960]}
"""

    assert len(make_space(tmp_path, text).hyperparameters) == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lr", "expected KEY=VALUE"),
        ("reference.seeds=2", "--set reference.seeds=2: is called baseline.seeds now"),
        ("baseline.multiples=1,half", "expected different whole numbers"),
        ("prune.peers=train.epoch", "did you mean train.epochs?"),
        ("data.val_tokens=1", "must be >= 2"),
        ("gpt.head_width=847354356", "must be >= 2, <= 131072"),  # its divisors are tried
        ("baseline.seeds=26952021", "must be >= 1, <= 100"),  # they are written down one by one
    ],
)
def test_overrides_are_checked_like_the_file(override: str, message: str, tmp_path: Path) -> None:
    assert any(message in problem for problem in problems(tmp_path, fakes.SPACE, override))


def test_a_section_by_its_old_name_is_refused_with_the_new_one(tmp_path: Path) -> None:
    found = problems(tmp_path, "search: {train.epochs: [1, 2]}\nreference: {multiples: [1]}")

    assert found == ["line 2: reference: is called baseline now"]


def test_a_searched_budget_need_not_tell_peers_apart_where_nothing_is_pruned(
    tmp_path: Path,
) -> None:
    text = "search: {data.train_tokens: [32K, 64K]}\nprune: {rule: none, peers: []}"

    assert make_space(tmp_path, text).prune.peers == ()


def test_a_space_with_everything_fixed_has_nothing_to_search(tmp_path: Path) -> None:
    found = problems(tmp_path, "search: {train.epochs: [1, 2]}", "train.epochs=2")

    assert found == ["search: nothing is left to search; `sweep train` trains one model"]


def test_lists_on_the_command_line_are_separated_by_commas(tmp_path: Path) -> None:
    space = make_space(tmp_path, fakes.SPACE, "baseline.multiples=4,1", "prune.peers=train.epochs")

    assert space.baseline.multiples == (1, 4)
    assert space.prune.peers == ("train.epochs",)


TINY = PRESETS["slowrun-tiny"].settings
PRESET_SPACE = """
preset: slowrun-tiny
search:
  train.epochs: [8, 16]
fixed:
  optim.lr: 0.01
"""


def test_a_preset_is_written_out_under_what_the_space_says(tmp_path: Path) -> None:
    space = make_space(tmp_path, PRESET_SPACE, "gpt.dropout=0.2")

    assert space.fixed["gpt.width"] == TINY["gpt.width"] == 1024
    assert (space.fixed["optim.lr"], space.fixed["gpt.dropout"]) == (0.01, 0.2)
    assert "train.epochs" not in space.fixed
    assert space.train_tokens == 100_000_000
    assert Config.from_settings({**space.fixed, "train.epochs": 16}).gpt.layers == 16


def test_a_preset_holds_where_a_conditional_axis_does_not_apply(tmp_path: Path) -> None:
    """Else a trial of another branch would get the default, which is part of no recipe."""
    text = """
preset: slowrun-tiny
search:
  optim.name: [muon, adamw]
  optim.lr: {min: 1e-3, max: 1e-2, when: {optim.name: adamw}}
"""

    assert make_space(tmp_path, text).fixed["optim.lr"] == TINY["optim.lr"]


def test_a_misspelled_preset_is_told_with_its_line(tmp_path: Path) -> None:
    text = "search: {train.epochs: [1, 2]}\npreset: slowrun-tin"

    assert problems(tmp_path, text) == [
        "line 2: preset: slowrun-tin: no such preset; did you mean slowrun-tiny?"
    ]


def test_lists_survive_the_study_the_journal_and_the_run_folder(tmp_path: Path) -> None:
    """As text they are what --set takes, and what a continued sweep finds again."""
    text = "search: {optim.decay_points: [['0:1', '1:2'], ['0:1']]}\npreset: slowrun-tiny"

    space = make_space(tmp_path, text, "data.train_tokens=10M")

    assert space.hyperparameters[0].domain == Choice(("0:1,1:2", "0:1"))
    fixed = make_space(tmp_path, PRESET_SPACE).fixed
    again = Config.from_settings(json.loads(json.dumps({**fixed, "train.epochs": 16})))
    assert again.optim.decay_points == TINY["optim.decay_points"]
    resolved = space.resolved()
    assert yaml.safe_load(yaml.safe_dump(resolved)) == resolved


DECAY = "search: {train.epochs: [1, 2], optim.lr: [0.001, 0.01]}\n"


def test_decay_fixed_as_a_timescale_holds_whatever_the_rate(tmp_path: Path) -> None:
    fixed = make_space(tmp_path, DECAY + "fixed: {optim.decay_timescale: 0.5}").fixed

    slow, fast = (derived({**fixed, "optim.lr": lr}) for lr in (0.001, 0.01))

    assert slow["optim.decay_timescale"] == fast["optim.decay_timescale"] == 0.5
    ratio = slow["optim.weight_decay_multiplier"] / fast["optim.weight_decay_multiplier"]
    assert ratio == pytest.approx(10)


def test_decay_is_derived_the_other_way_where_the_multiplier_is_given() -> None:
    low, high = (derived({"optim.weight_decay_multiplier": m}) for m in (1, 4))

    ratio = low["optim.decay_timescale"] / high["optim.decay_timescale"]
    assert ratio == pytest.approx(4)
    assert low["block_parameters"] == derived({})["block_parameters"]
    assert derived({"gpt.scale": 2})["block_parameters"] == pytest.approx(
        2 * low["block_parameters"], rel=0.1
    )


def test_decay_cannot_be_searched_one_way_and_fixed_the_other(tmp_path: Path) -> None:
    text = "search: {optim.decay_timescale: [0.5, 1]}\nfixed: {optim.weight_decay_multiplier: 3}"

    assert problems(tmp_path, text)[0] == (
        "line 1: optim.decay_timescale: follows from optim.weight_decay_multiplier, which is fixed"
    )


@pytest.mark.parametrize("base", ["fixed: {optim.weight_decay_multiplier: 3}", "preset: cpu-tiny"])
def test_decay_set_one_way_replaces_it_in_the_other(base: str, tmp_path: Path) -> None:
    space = make_space(tmp_path, DECAY + base, "optim.decay_timescale=0.5")

    assert "optim.weight_decay_multiplier" not in space.fixed
    assert space.fixed["optim.decay_timescale"] == 0.5


def test_decay_searched_one_way_replaces_the_presets_other(tmp_path: Path) -> None:
    text = "preset: slowrun-tiny\nsearch: {optim.decay_timescale: [0.5, 1]}"

    space = make_space(tmp_path, text)

    assert "optim.weight_decay_multiplier" not in space.fixed
    assert derived({**space.fixed, "optim.decay_timescale": 0.5})["optim.decay_timescale"] == 0.5


def test_decay_set_is_not_searched_the_other_way(tmp_path: Path) -> None:
    space = make_space(tmp_path, fakes.SPACE, "optim.decay_timescale=0.5")

    assert "optim.weight_decay_multiplier" not in space.searched


def test_a_plain_baseline_keeps_the_network_and_drops_the_recipe(tmp_path: Path) -> None:
    text = PRESET_SPACE + "baseline: {multiples: [1, 2], lr: 0.001}"
    space = make_space(tmp_path, text, "optim.decay_timescale=0.2")

    config = Config.from_settings(baseline_settings(space, BaselinePoint(2)))

    assert (config.gpt.width, config.gpt.windows, config.gpt.unet) == (1024, "SSSL", True)
    assert (config.gpt.dropout, config.gpt.mtp, list(config.gpt.replayed)) == (0, "no", [])
    assert (config.train.epochs, config.train.evaluate, config.train.average_last) == (1, "raw", 0)
    assert config.data.train_tokens == 200_000_000
    plain = Config.from_settings({"optim.lr": 0.001}).optim
    changed = {
        name
        for name, value in vars(config.optim).items()
        if value != getattr(plain, name) and name != "decay_timescale"
    }
    assert not changed
    assert config.optim.weight_decay_multiplier == 1


def test_the_training_budget_can_be_searched(tmp_path: Path) -> None:
    """The baseline reads multiples of the smallest; trials of another budget are no peers."""
    text = """
search: {data.train_tokens: [32K, 128K, 64K]}
prune: {peers: [data.train_tokens]}
baseline: {multiples: [1, 2]}
"""

    space = make_space(tmp_path, text)

    assert space.budgets == (32_000, 128_000)
    assert baseline_settings(space, BaselinePoint(2))["data.train_tokens"] == 64_000


def test_an_objective_of_ensembles_gives_every_trial_four_networks_unless_it_says(
    tmp_path: Path,
) -> None:
    text = "objective: ensemble\nsearch:\n  train.epochs: [1, 2]\n"

    assert make_space(tmp_path, text).fixed["train.members"] == 4
    assert make_space(tmp_path, text + "fixed: {train.members: 8}\n").fixed["train.members"] == 8
    searched = make_space(tmp_path, text + "  train.members: [1, 2]\n")
    assert "train.members" not in searched.fixed
    assert "train.members" not in make_space(tmp_path, text.replace("ensemble", "single")).fixed


def test_an_objective_that_is_none_is_refused(tmp_path: Path) -> None:
    text = "objective: loss\nsearch:\n  train.epochs: [1, 2]\n"

    assert problems(tmp_path, text) == [
        "line 1: objective: expected single or ensemble, got 'loss'"
    ]


def test_the_plain_baseline_of_an_ensemble_is_a_single_network(tmp_path: Path) -> None:
    text = "objective: ensemble\nsearch:\n  train.epochs: [1, 2]\nbaseline: {multiples: [1]}\n"
    space = make_space(tmp_path, text)

    (point,) = baseline_points(space)

    assert baseline_settings(space, point)["train.members"] == 1
