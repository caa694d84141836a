"""A bank of real curves: a full grid trained to the end, which searches can be replayed on.

    python benchmarks/bank.py make --data texts.parquet           # about an hour of one core
    python benchmarks/bank.py describe                            # what the bank says
    python benchmarks/bank.py make --data texts.parquet --size large --device cuda --workers 1 \\
        --work runs/large --out large.parquet

make      Trains every cell of the grid with this project's trainer, then more seeds: of cells that
          span the grid, and of those that ended best. `--workers` runs at a time, one thread each.
          Killed, the same command continues; `--out` is written again every few minutes, and an
          unfinished bank says in its metadata how many runs are missing. Cells come in an order
          that keeps any beginning balanced.
describe  Noise floor between seeds, the best runs, the best epoch count by decay, costs, and how
          well the loss at a part of the schedule ranks the final ones, for the last weights and for
          their EMA.

`small`, the size of the bank that is shipped, over-fits in seconds on a CPU: few tokens, a small
vocabulary, learned from them. It was made from the Python Enhancement Proposals (739 documents,
peps.parquet); its metadata has the digest of the tokens. `large` is the same experiment with gpt2
tokens and up to 100 million parameters, for a GPU; its rates are guesses, and nobody has run it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, in every worker

from bank_evidence import describe
from bank_file import write_curves
from bank_grid import GRIDS, SEED, Cell, cells, repeats, title

from model.config.config import Config
from model.config.cost import trial_flops
from model.config.setting import ConfigError, Value
from model.data.batches import open_table
from model.files import replaced
from model.progress import WHOLE
from sweep.errors import SweepError
from sweep.replay.curves import Curve, read_about, read_curves

BANK = Path(__file__).with_suffix(".parquet")
SAVE_SECONDS = 120
LISTS = ("marks", "raw", "ema", "train")


def train_cell(shared: Mapping[str, Value], cell: Cell, folder: Path) -> None:
    """Train one run to its end, or on from where it was killed, and note its curve."""
    import torch

    from model.training.train import train

    torch.set_num_threads(1)
    # Order and initialisation change together, so that seeds show all the noise there is.
    settings = {**shared, **cell, "train.data_seed": cell[SEED]}
    work = folder / title(cell)
    seen = list(train(Config.from_settings(settings), work))
    last = seen[-1]
    raw = [float("inf") if p.diverged else p.raw_loss for p in seen]
    curve = {
        "settings": dict(cell),
        "marks": [p.basis_points for p in seen],
        "raw": raw,
        "ema": [float("nan") if p.ema_loss is None else p.ema_loss for p in seen],
        "train": [p.train_loss for p in seen],
        "seconds": last.seconds * WHOLE / last.basis_points,
        "flops": trial_flops(settings),
        "complete": last.done,
    }
    with replaced(folder / f"{title(cell)}.json") as beside:
        beside.write_text(json.dumps(curve))
    shutil.rmtree(work)


def finished(folder: Path) -> dict[str, Curve]:
    """The curves noted in `folder`, by title."""
    return {path.stem: noted(path) for path in sorted(folder.glob("*.json"))}


def noted(path: Path) -> Curve:
    fields = json.loads(path.read_text())
    return Curve(**{**fields, **{name: tuple(fields[name]) for name in LISTS}})


def shared_settings(arguments: argparse.Namespace) -> dict[str, Value]:
    """The settings of all runs, checked; the token table is prepared before workers ask for it.

    Ends the program if the work folder holds runs with other settings.
    """
    overrides = dict(pair.partition("=")[::2] for pair in arguments.set)
    asked = {**GRIDS[arguments.size].shared, **overrides, "train.device": arguments.device}
    path = {"data.path": str(arguments.data)}
    config = Config.from_settings({**asked, **path})
    shared = {name: config.settings()[name] for name in asked}  # in their types
    shared["data.digest"] = open_table(config.data).digest
    before, now = arguments.work / "shared", json.dumps(shared, indent=1)
    if before.exists() and before.read_text() != now:
        sys.exit(f"{arguments.work} holds runs with other settings (see {before}); give --work")
    arguments.work.mkdir(parents=True, exist_ok=True)
    before.write_text(now)
    return {**shared, **path}


def make(arguments: argparse.Namespace) -> None:
    grid, folder = GRIDS[arguments.size], arguments.work
    shared = shared_settings(arguments)
    description = {
        "corpus": arguments.data.name,
        "digest": shared["data.digest"],
        "settings": {name: v for name, v in shared.items() if name != "data.path"},
        "seeds": "train.data_seed is train.seed in every run",
        "seconds": "wall time on one thread of a machine that did other work too: compare flops",
        "versions": versions(),
    }

    def save(missing: int) -> None:
        curves = sorted(finished(folder).values(), key=lambda c: tuple(c.settings.values()))
        if curves:
            write_curves(arguments.out, curves, {**description, "missing": missing})

    every = cells(grid)
    train_all(shared, every[: arguments.limit], arguments, save)
    if arguments.limit:
        save(len(every) - arguments.limit)
        return
    # The best are only known once the grid is whole.
    finals = {name: curve.final for name, curve in finished(folder).items()}
    train_all(shared, repeats(grid, finals), arguments, save)
    save(0)


def train_all(
    shared: Mapping[str, Value],
    work: Sequence[Cell],
    arguments: argparse.Namespace,
    save: Callable[[int], None],
) -> None:
    """Train what is not finished yet, `arguments.workers` at a time."""
    folder = arguments.work
    have = finished(folder)
    left: Iterator[Cell] = iter([cell for cell in work if title(cell) not in have])
    done, saved = sum(title(cell) in have for cell in work), time.monotonic()
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        running: dict[Future[None], Cell] = {}
        while True:
            while len(running) < arguments.workers and (cell := next(left, None)):
                running[pool.submit(train_cell, shared, cell, folder)] = cell
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = title(running.pop(future))
                future.result()
                curve, done = noted(folder / f"{name}.json"), done + 1
                print(
                    f"{time.strftime('%H:%M:%S')} {done}/{len(work)} {name} "
                    f"{curve.final:.4f} {curve.seconds:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
            if time.monotonic() - saved > SAVE_SECONDS:
                save(len(work) - done)
                saved = time.monotonic()


def versions() -> dict[str, str]:
    import torch

    return {"python": sys.version.split()[0], "torch": torch.__version__}


def tell(arguments: argparse.Namespace) -> None:
    description = read_about(arguments.bank)
    settings = " ".join(f"{name}={value}" for name, value in description.pop("settings").items())
    print("\n".join(f"{name}: {value}" for name, value in description.items()))
    print(f"settings: {settings}\n\n{describe(read_curves(arguments.bank))}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="train the grid, or go on training it")
    making.add_argument("--data", type=Path, required=True, help="text or Parquet with texts")
    making.add_argument("--out", type=Path, default=BANK)
    making.add_argument("--work", type=Path, default=Path("runs/bank"), help="finished runs, kept")
    making.add_argument("--size", choices=tuple(GRIDS), default="small")
    making.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    making.add_argument("--workers", type=int, default=2)
    making.add_argument("--limit", type=int, help="only so many cells, to try it")
    making.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    making.set_defaults(run=make)
    telling = verbs.add_parser("describe", help="what a bank says")
    telling.add_argument("bank", type=Path, nargs="?", default=BANK)
    telling.set_defaults(run=tell)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (ConfigError, SweepError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
