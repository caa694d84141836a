"""What orchestration costs: the quickstart's trials through `sweep run` and through plain Ray Tune.

    python benchmarks/orchestration.py                  # about 15 minutes on two cores
    python benchmarks/orchestration.py --trials 6 --only same

Every variant is a process of its own on the same `--cores` cores, one trial to a core, timed from
its start to its exit: imports, starting and stopping Ray, and logging to a fresh MLflow SQLite file
are all in the wall time. Seconds in training are the trainer's own, the same code in every variant,
and  lost = 1 - training / (wall x cores).  The baseline section is left out: stock Tune has none.

same   Every variant trains the same settings in the same order, to the end: `sweep` proposes with
       its random sampler and prunes nothing; OptunaSearch is given those settings, and its ASHA may
       stop nothing. What was trained is compared, not assumed. As the work is equal, `lost to bare`
       divides by what it takes without orchestration (`bare`: a process pool, no search, no log):
       a driver that takes CPU from its trials makes them slower, which their own seconds hide.
own    Each as people run it: `sweep` as in the YAML; OptunaSearch's TPE with an ASHA that, like the
       YAML, stops nothing in the first half. The trials differ, so that only shares compare.

`ray` is Tune as commonly written. `ray-reused` is the strongest stock form we know: actors are
reused and only the MLflow callback logs. Neither starts the dashboard nor copies workers' output.

Columns are seconds; all but `wall` and `first step` are core-seconds and add up to wall x cores.
Anything else that runs on these cores distorts them: use an idle machine, or --repeats for medians.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from model.config.config import Config
from model.progress import WHOLE, Progress
from sweep.folder import JOURNAL
from sweep.journal import read_view
from sweep.space.hyperparameter import Choice, Hyperparameter
from sweep.space.language.reader import read_space
from sweep.space.space import Space

SPACE = Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml"
ON_CPU = ("baseline.multiples=", "train.device=cpu", "trial.gpus=0")
SAME = ("sampler.name=random", "prune.rule=none")
TRAINED = "trained.jsonl"
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",  # what Ray gives a worker of one core
}
ELSEWHERE = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")  # would move a variant to another machine
VARIANTS = ("ray", "ray-reused", "sweep")
Row = dict[str, float]


class Trained(NamedTuple):
    """One trial, and of each evaluation (seconds since 1970, seconds in training so far)."""

    settings: dict[str, Any]
    evaluations: list[tuple[float, float]]

    @property
    def begin(self) -> float:
        at, seconds = self.evaluations[0]
        return at - seconds

    @property
    def end(self) -> float:
        return self.evaluations[-1][0]

    @property
    def seconds(self) -> float:
        return self.evaluations[-1][1]


def account(trials: list[Trained], started: float, ended: float, cores: int) -> Row:
    """Where the core-seconds went; all but `wall` and `first step` add up to wall x cores."""
    ends = [started] * cores
    starting = between = 0.0
    for trial in sorted(trials, key=lambda trial: trial.begin):
        slot = ends.index(min(ends))
        if ends[slot] == started:
            starting += trial.begin - started
        else:
            between += trial.begin - ends[slot]
        ends[slot] = trial.end
    return {
        "wall": ended - started,
        "first step": min(trial.begin for trial in trials) - started,
        "training": sum(trial.seconds for trial in trials),
        "starting": starting,
        "between steps": sum(t.end - t.begin - t.seconds for t in trials),
        "between trials": between,
        "waiting for the last": sum(max(ends) - end for end in ends),
        "ending": cores * (ended - max(ends)),
    }


def recorded(settings: dict[str, Any], folder: Path) -> Iterator[Progress]:
    """Train in `folder`, noting there when each evaluation was made."""
    from model.training.train import train

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / TRAINED).open("w", buffering=1) as file:
        print(json.dumps(settings), file=file)
        for progress in train(Config.from_settings(settings), folder):
            print(json.dumps([time.time(), progress.seconds]), file=file)
            yield progress


def run_bare(space: Space, folder: Path, cores: int) -> None:
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        runs = [pool.submit(train_bare, s, folder / str(n)) for n, s in enumerate(propose(space))]
        for run in runs:
            run.result()


def train_bare(settings: dict[str, Any], folder: Path) -> None:
    for _ in recorded(settings, folder):
        pass


def parameter(hp: Hyperparameter) -> str:
    """Its name for OptunaSearch: MLflow refuses our brackets, Tune splits at slashes."""
    return ":".join(
        [
            hp.setting,
            *(str(value) for _, values in hp.when for value in values),
        ]
    )


def define_space(space: Space, trial: Any) -> dict[str, Any]:
    """The quickstart's space by define-by-run; what is returned joins what was suggested."""
    chosen: dict[str, Any] = {}
    for hp in space.hyperparameters:
        if not hp.active(chosen):
            continue
        name, domain = parameter(hp), hp.domain
        if isinstance(domain, Choice):
            chosen[hp.setting] = trial.suggest_categorical(name, list(domain.values))
        else:
            chosen[hp.setting] = trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    return dict(space.fixed)


def train_with_tune(config: dict[str, Any], folder: Path) -> None:
    """The function trainable: one report for each evaluation."""
    from ray import tune

    settings = {name.partition(":")[0]: value for name, value in config.items()}
    for progress in recorded(settings, folder / tune.get_context().get_trial_id()):
        tune.report(progress.to_dict())


def run_ray(space: Space, folder: Path, cores: int, reuse: bool) -> None:
    """Plain Ray Tune with OptunaSearch, ASHA and the MLflow callback."""
    if reuse:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    import optuna
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    same = trains_same(space)
    points = [
        {parameter(hp): settings[hp.setting] for hp in space.hyperparameters if hp.active(settings)}
        for settings in (propose(space) if same else ())
    ]
    sampler = optuna.samplers.RandomSampler if same else optuna.samplers.TPESampler
    grace = 1.0 if same else space.prune.grace
    store = f"sqlite:///{folder.absolute()}/mlflow.db"
    ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
    tune.Tuner(
        tune.with_resources(tune.with_parameters(train_with_tune, folder=folder), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="val_loss",
            mode="min",
            search_alg=OptunaSearch(
                partial(define_space, space),
                metric="val_loss",
                mode="min",
                points_to_evaluate=points or None,
                sampler=sampler(seed=space.sampler.seed),
            ),
            scheduler=ASHAScheduler(
                time_attr="basis_points",
                max_t=WHOLE,
                grace_period=round(grace * WHOLE),
                reduction_factor=2,
            ),
            num_samples=space.budget.trials,
            max_concurrent_trials=cores,
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder.absolute()),
            verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=store, experiment_name="stock")],
        ),
    ).fit()


def propose(space: Space) -> list[dict[str, Any]]:
    """The settings that `sweep run` will propose: its random sampler knows only seed and number."""
    from sweep.session.roles import SearchTrials
    from sweep.session.storage import open_storage

    search = SearchTrials(open_storage(None), space)
    return [dict(search.ask().settings) for _ in range(space.budget.trials)]


def trains_same(space: Space) -> bool:
    """Whether the part `same` is asked, in which every variant is given the same work."""
    return space.sampler.name == "random" and space.prune.rule == "none"


def read_trained(variant: str, folder: Path) -> list[Trained]:
    if variant == "sweep":
        view = read_view(next(folder.glob(f"*/{JOURNAL}")))
        return [
            Trained(t.settings, [(e["time"] / 1000, e["seconds"]) for e in t.observations])
            for t in view.trials.values()
        ]
    files = [[json.loads(line) for line in path.open()] for path in folder.rglob(TRAINED)]
    return [Trained(settings, evaluations) for settings, *evaluations in files]


def measure(variant: str, space: Space, overrides: list[str], folder: Path, cores: int) -> Row:
    """Run one variant as a process of its own in `folder`."""
    folder.mkdir(parents=True)
    command = [__file__, "--child", variant, "--folder", folder]
    if variant == "sweep":
        command = [
            "-c",
            "from sweep.cli.main import main; main()",
            "run",
            SPACE,
            "--plain",
            "--runs",
        ]
        command += [folder]
    command += [part for override in overrides for part in ("--set", override)]
    environment = {k: v for k, v in os.environ.items() if k not in ELSEWHERE} | ENVIRONMENT
    log = folder / "output.log"
    with log.open("w") as output:
        started = time.time()
        code = subprocess.call(
            [sys.executable, *command], env=environment, stdout=output, stderr=output
        )
        ended = time.time()
    trials = read_trained(variant, folder)
    if code or len(trials) != space.budget.trials:
        sys.exit(f"{variant}: exit code {code}, {len(trials)} trials\n{log.read_text()[-2000:]}")
    if trains_same(space):
        check_same(variant, propose(space), trials)
    return account(trials, started, ended, cores)


def check_same(variant: str, expected: list[dict[str, Any]], trials: list[Trained]) -> None:
    """Fail unless just the expected settings were trained, each with every evaluation."""

    def key(settings: dict[str, Any]) -> str:
        return json.dumps(Config.from_settings(settings).settings() | {"data.digest": ""})

    if sorted(map(key, expected)) != sorted(key(trial.settings) for trial in trials):
        sys.exit(f"{variant} trained other settings than the rest")
    if len({len(trial.evaluations) for trial in trials}) > 1:
        sys.exit(f"{variant} did not train every trial to the end")


def report(part: str, rows: dict[str, Row], cores: int) -> bool:
    """Print one line for each variant; whether sweep lost less than every stock one."""
    lost, to_bare = {}, {}
    seconds = next(iter(rows.values())).keys()
    print(f"\n{part:10} " + "  ".join(seconds) + "    lost  lost to bare")
    for variant, row in rows.items():
        lost[variant] = 1 - row["training"] / (row["wall"] * cores)
        if "bare" in rows:
            to_bare[variant] = 1 - rows["bare"]["training"] / (row["wall"] * cores)
        shown = "  ".join(f"{row[name]:{len(name)}.1f}" for name in seconds)
        compared = f"{to_bare[variant]:12.1%}" if to_bare else f"{'-':>12}"
        print(f"{variant:10} {shown}  {lost[variant]:6.1%}  {compared}", flush=True)
    stock = [variant for variant in rows if variant.startswith("ray")]
    return all(share["sweep"] < share[v] for share in (lost, to_bare) if share for v in stock)


def compare(part: str, asked: argparse.Namespace, scratch: Path) -> bool:
    """Run one part with every variant; whether sweep lost less than plain Ray Tune."""
    same = part == "same"
    overrides = [*asked.sets, *ON_CPU, f"budget.trials={asked.trials}", *(SAME if same else ())]
    space = read_space(SPACE, overrides)
    measured: dict[str, list[Row]] = {}
    for repeat in range(asked.repeats):
        for variant in ("bare", *VARIANTS) if same else VARIANTS:
            folder = scratch / f"{variant}-{repeat}"
            row = measure(variant, space, overrides, folder, asked.cores)
            measured.setdefault(variant, []).append(row)
    rows = {v: {k: median(row[k] for row in ran) for k in ran[0]} for v, ran in measured.items()}
    return report(part, rows, asked.cores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1, help="medians of so many runs are shown")
    parser.add_argument("--only", choices=("same", "own"), help="one of the two comparisons")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        run = run_bare if asked.child == "bare" else partial(run_ray, reuse="reused" in asked.child)
        cores = len(os.sched_getaffinity(0))
        return run(read_space(SPACE, asked.sets), asked.folder, cores)

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.cores])
    # Every file is read once before anything is timed, and the token table is made.
    warm = (
        "import mlflow, optuna, ray.tune, torch, model.data.batches as d\n"
        "d.open_table(d.DataConfig())"
    )
    subprocess.run([sys.executable, "-c", warm], check=True)
    parts = (asked.only,) if asked.only else ("same", "own")
    with tempfile.TemporaryDirectory() as scratch:
        lost_less = [compare(part, asked, Path(scratch) / part) for part in parts]
    print(f"\nsweep loses {'less' if all(lost_less) else 'NO LESS'} than plain Ray Tune")
    sys.exit(not all(lost_less))


if __name__ == "__main__":
    main()
