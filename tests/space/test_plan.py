"""What a sweep will take, said before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from sweeps import make_space

from model.config.config import Config
from model.config.cost import trial_cost, trial_flops
from model.config.memory import peak_bytes
from model.config.presets import PRESETS
from sweep.cli.main import cli
from sweep.cli.space import describe_plan
from sweep.errors import SweepError
from sweep.format import bytes_text, time_text
from sweep.space.language.reader import read_space
from sweep.space.plan import disk, plan, pruning, totals
from sweep.space.settings import PruneConfig
from sweep.space.speed import Speed, stated

SPACE = """
search:
  train.epochs: [1, 2, 4]
  gpt.scale: [1, 2]
  optim.lr: {min: 1e-3, max: 1e-2, log: true}
budget: {trials: 12}
baseline: {multiples: [1, 2]}
"""


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def test_the_cheapest_and_the_dearest_trial_are_corners(tmp_path: Path) -> None:
    found = plan(make_space(tmp_path, SPACE))

    flops = [row.cost.flops for row in found.rows]
    assert [row.label for row in found.rows][::4] == ["cheapest", "dearest"]
    assert flops == sorted(flops)
    assert flops[0] == trial_flops({"train.epochs": 1, "gpt.scale": 1})
    assert flops[-1] == trial_flops({"train.epochs": 4, "gpt.scale": 2})


def test_totals_are_trials_times_what_random_draws_expect(tmp_path: Path) -> None:
    text = SPACE + "prune: {rule: none}"
    found = plan(make_space(tmp_path, text))

    spent = totals(found, stated(1e9))

    costs = [trial_cost({"train.epochs": e, "gpt.scale": s}) for e in (1, 2, 4) for s in (1, 2)]
    expected = 12 * sum(cost.flops for cost in costs) / len(costs)
    assert spent["search, nothing pruned"]["flops"] == pytest.approx(expected, rel=0.1)
    assert spent["search, pruned"] == spent["search, nothing pruned"]
    baseline = sum(cost.flops for _, cost in found.baseline)
    assert spent["all, pruned"]["flops"] == spent["search, pruned"]["flops"] + baseline
    evaluated = [cost.flops + cost.evaluation_flops for cost in found.drawn]
    seconds = 12 * sum(evaluated) / len(evaluated) / 1e9
    assert spent["search, pruned"]["seconds"] == pytest.approx(seconds)


def test_what_pruning_leaves_is_said_with_its_assumption() -> None:
    left, assumption = pruning(PruneConfig(startup_trials=4, grace=0.7), 12, strata=1, evals=8)

    assert left == pytest.approx((4 + 8 * 0.875) / 12)
    assert "after the first 4 stop at 75% of their schedule" in assumption
    assert pruning(PruneConfig(rule="none"), 12, 1, 8) == (1.0, "nothing is pruned")
    assert pruning(PruneConfig(), 12, strata=6, evals=8)[0] == 1


def test_proposals_that_break_constraints_are_left_out(tmp_path: Path) -> None:
    text = SPACE + "constraints: [gpt.block_parameters <= 120k]\nrepeat: 2"
    space = make_space(tmp_path, text)
    found = plan(space)

    assert found.infeasible == pytest.approx(0.5, abs=0.1)
    assert {row.searched["gpt.scale"] for row in found.rows} == {1}
    text = describe_plan(space, found, stated(1e12), workers=4)
    assert "12 trials, 2 seeds each" in text
    assert "break gpt.block_parameters <= 120000: replaced, free" in text
    assert "4 at a time" in text


def test_a_space_without_a_feasible_point_is_refused_before_that(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="gpt.parameters <= 1000 is broken by"):
        make_space(tmp_path, SPACE + "constraints: [gpt.parameters <= 1k]")


def test_speed_is_read_between_measured_sizes_and_not_beyond() -> None:
    speed = Speed(((1e6, 1e9), (1e8, 1e11)), "measured")

    assert speed.rate(1e7) == pytest.approx(1e10)
    assert (speed.rate(1e3), speed.rate(1e12)) == (1e9, 1e11)


def test_the_plan_as_data_has_all_that_the_text_has(tmp_path: Path) -> None:
    make_space(tmp_path, SPACE)

    result = invoke("plan", tmp_path / "space.yaml", "--rate", "1T", "--json")

    found = json.loads(result.stdout)
    assert [point["point"] for point in found["points"]][::2] == ["cheapest", "median", "dearest"]
    assert {"parameters", "steps", "tokens", "flops", "memory", "seconds"} <= found["points"][
        0
    ].keys()
    assert found["speed"] == "1e+12 FLOP/s a trial, as given"
    assert set(found["total"]["all_pruned"]) == {"tokens", "flops", "seconds"}


def test_the_speed_that_is_assumed_is_said(tmp_path: Path) -> None:
    make_space(tmp_path, SPACE)

    result = invoke("plan", tmp_path / "space.yaml")

    assert "Time: assuming 25% of the" in result.stdout
    assert "--measure trains for some seconds instead" in result.stdout


def test_measuring_trains_some_steps_here(
    small: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.space.speed.MEASURED_SECONDS", 0.01)
    sets = [word for item in small.items() for word in ("--set", "=".join(map(str, item)))]
    path = tmp_path / "lr.yaml"
    path.write_text("search: {optim.lr: [0.001, 0.01], gpt.scale: [1, 4]}")

    result = invoke("plan", path, "--measure", "--json", *sets)

    found = json.loads(result.stdout)
    assert found["speed"].startswith("measured on this machine (CPU)")
    assert all(0 < point["seconds"] < 60 for point in found["points"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "fast"], "--rate: expected FLOP/s such as 100T"),
        (["--rate", "0"], "--rate: expected FLOP/s"),
        (["--measure", "--set", "data.path=nowhere.txt"], "no such file or folder: nowhere.txt"),
    ],
)
def test_a_plan_that_cannot_be_made_says_why(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    make_space(tmp_path, SPACE)

    result = invoke("plan", tmp_path / "space.yaml", *arguments)

    assert isinstance(result.exception, SweepError)
    assert message in str(result.exception)


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_what_init_writes_is_sound(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "my space.yaml"

    result = invoke("init", path, *(["--preset", preset] if preset else []))

    assert result.exception is None, result.exception
    space = read_space(path)
    assert space.name == "my-space"
    assert {"optim.weight_decay_multiplier", "train.epochs", "optim.lr"} == set(space.searched)


def test_init_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("mine")

    result = invoke("init", path)

    assert "is there already" in str(result.exception)
    assert path.read_text() == "mine"


def test_init_knows_its_presets(tmp_path: Path) -> None:
    result = invoke("init", tmp_path / "space.yaml", "--preset", "cpu-tny")

    assert "did you mean cpu-tiny?" in str(result.exception)
    assert not (tmp_path / "space.yaml").exists()


def test_the_schema_is_printed_as_json() -> None:
    assert json.loads(invoke("schema").stdout)["title"] == "Search space of sweep"


def test_check_says_what_a_file_says_in_vain(tmp_path: Path) -> None:
    make_space(tmp_path, SPACE + "program: train.py")

    assert "note: program: not used" in invoke("check", tmp_path / "space.yaml").stderr


def test_memory_grows_with_what_it_is_made_of() -> None:
    plain = peak_bytes(Config())
    for more in (
        {"train.batch_tokens": 4096},
        {"gpt.scale": 4},
        {"train.ema_epochs": 1},
        {"optim.name": "soap"},
        {"gpt.mlp": "swiglu"},
        {"data.tokenizer": "gpt2"},
    ):
        assert peak_bytes(Config.from_settings(more)) > plain
    micro = {"train.batch_tokens": 4096, "train.micro_batch_tokens": 1024}
    assert peak_bytes(Config.from_settings(micro)) == plain
    assert peak_bytes(Config.from_settings({"optim.name": "lion"})) < plain


def test_units_are_those_of_people() -> None:
    assert [bytes_text(n) for n in (12, 3.2e6, 9e9, 4e13)] == ["12 B", "3.2 MB", "9 GB", "40 TB"]
    assert [time_text(s) for s in (0.5, 90, 150, 7200, 2e6)] == [
        "0.5 s",
        "90 s",
        "2.5 min",
        "2 h",
        "23.1 d",
    ]


def test_a_grid_ends_when_each_of_its_points_was_tried(tmp_path: Path) -> None:
    text = "search: {train.epochs: [1, 2, 4], gpt.scale: [1, 64]}\nsampler: {name: grid}\n"

    assert plan(make_space(tmp_path, text)).trials == 6
    assert plan(make_space(tmp_path, text + "budget: {trials: 4}")).trials == 4
    assert (
        plan(make_space(tmp_path, text + "repeat: 2\nconstraints: gpt.parameters <= 1M")).trials
        == 6
    )


def test_the_plan_says_what_the_sweep_needs_of_the_disk(tmp_path: Path) -> None:
    """Log-probabilities stay of the best trials alone, trunks as long as there is room."""
    space = make_space(tmp_path, SPACE)
    found = plan(space)
    few = make_space(tmp_path, SPACE, "trial.keep_log_probs=2")

    kept, more = disk(space, found)

    weights = sum(cost.disk for cost in found.drawn) / len(found.drawn)
    assert kept == pytest.approx(12 * weights + sum(cost.disk for _, cost in found.baseline))
    assert more == max(row.cost.disk_while_running for row in found.rows)
    assert disk(few, plan(few))[0] == pytest.approx(kept - 10 * 2 * 16_384)
    best = make_space(tmp_path, SPACE, "keep.best=2")
    baseline = [cost.disk - 2 * 16_384 for _, cost in found.baseline]
    fewer = kept - 10 * (weights - 2 * 16_384) - sum(baseline)
    assert disk(best, plan(best))[0] == pytest.approx(fewer)
    small = make_space(tmp_path, SPACE, "keep.max_gb=0.0001")
    assert disk(small, plan(small))[0] == pytest.approx(100_000 + 14 * 2 * 16_384)
    make_space(tmp_path, SPACE)
    text = describe_plan(space, found, stated(1e12), workers=4)
    assert f"Disk: {bytes_text(kept)} in the end" in text
    assert "That is more than" not in text
    told = json.loads(invoke("plan", tmp_path / "space.yaml", "--json").stdout)["disk"]
    assert told == {"kept": pytest.approx(kept), "more_for_each_running": more}


def test_a_sweep_that_the_disk_cannot_hold_is_told_in_its_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=1000)
    monkeypatch.setattr("sweep.cli.space.shutil.disk_usage", lambda path: free)
    space = make_space(tmp_path, SPACE)

    text = describe_plan(space, plan(space), stated(1e12), workers=1)

    assert "That is more than the 1 kB that are free here." in text


def test_steps_are_timed_with_as_many_threads_as_a_trial_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before, with every core of the machine, of which a trial has one."""
    import torch

    from model.training import timing
    from sweep.space import speed

    seen: list[int] = []

    def time_steps(config: object, seconds: float) -> timing.Timing:
        seen.append(torch.get_num_threads())
        return timing.Timing(0.1, None, "CPU")

    monkeypatch.setattr(timing, "time_steps", time_steps)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        for cpus in (1.0, 2.0, 0.5):
            speed.measured([{}], cpus)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)

    assert seen == [1, 2, 1]


def test_devices_of_a_trial_are_timed_on_their_part_of_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two take half as long as one would with the batch of one of them in each step."""
    from model.training import timing
    from sweep.space import speed

    seen: list[tuple[int, int]] = []

    def time_steps(config: Config, seconds: float) -> timing.Timing:
        seen.append((config.train.batch_tokens, config.train.micro_batch_tokens))
        return timing.Timing(0.1, None, "CPU")

    monkeypatch.setattr(timing, "time_steps", time_steps)
    settings = {"train.batch_tokens": 2048, "train.micro_batch_tokens": 512, "gpt.context": 256}
    cost = trial_cost(settings)

    two, _ = speed.measured([settings], devices=2), speed.measured([settings], devices=3)

    assert seen == [(1024, 512), (768, 0)]
    training = two.seconds(cost) * cost.flops / (cost.flops + cost.evaluation_flops)
    assert training == pytest.approx(cost.steps * 0.1)
    assert "2 devices a trial, as if none waited for another" in two.source
    assert trial_cost(settings, 8).memory < trial_cost(settings, 2).memory <= cost.memory


@pytest.mark.parametrize(
    ("gpus", "told"),
    [
        ("1.5", "trial.gpus: above 1 a trial has whole GPUs of its own, got 1.5"),
        ("16", r"train.batch_tokens: 256 are 4 sequences, too few for 16 devices"),
    ],
)
def test_gpus_that_cannot_share_a_batch_are_refused_where_the_space_is_read(
    gpus: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(SweepError, match=told):
        make_space(tmp_path, SPACE, "train.batch_tokens=256", f"trial.gpus={gpus}")
