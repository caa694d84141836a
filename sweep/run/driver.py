"""A run folder, from a space to a result: opened or continued, driven, reported."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from textwrap import indent
from typing import TYPE_CHECKING

from model.config import Config, ConfigError, Value, trial_flops
from model.files import cache_folder, write_text
from model.secrets import without_password, without_secrets
from sweep.errors import TOO_MANY_FAILED, UNREACHABLE, SweepError
from sweep.folder import ERROR, JOURNAL, LEDGER, RESOLVED, SWEEP_ID, TRIALS, locked
from sweep.journal import Journal
from sweep.records import End, Ending, Event, Outcome, Role
from sweep.run import trunk_files
from sweep.run.checkpoints import Checkpoints
from sweep.run.interrupt import Interrupt, Interrupted
from sweep.run.local import Train, on_gpus
from sweep.run.log_probs import LogProbs
from sweep.run.manifest import digest_of_trainer, environment, read_resolved, write_or_compare
from sweep.session import BaselineCache, require_agreement, warm_start
from sweep.space import Range, Space, corpus, plan
from sweep.space.baseline import baseline_points, baseline_settings, with_known_table
from sweep.tracking import process

if TYPE_CHECKING:
    from sweep.run.ray_cluster import Cluster
    from sweep.session import Session

SECONDS_TO_END = 5.0  # for a publisher that has nothing to say


@dataclass(frozen=True)
class Options:
    """How a sweep is driven, as opposed to what it searches."""

    runs: Path = Path("runs")
    address: str | None = None  # of a Ray cluster; None: one of our own
    here: bool = False  # one trial at a time in this process, without Ray
    plain: bool = False  # lines even on a terminal
    command: tuple[str, ...] = ()  # that began this process and can begin it anew; empty: not


def run(space: Space, source: str, options: Options) -> tuple[int, Path]:
    """Run `space`, or continue it if its folder has begun; the exit code and the run folder.

    source   the YAML text, kept beside the results
    Raises SweepError for what the user can mend.
    """
    folder = options.runs / space.name
    earlier = warm_start.take_over(space, folder)
    space = _with_data(_with_weights(space), folder)
    text = corpus.corpus(space)
    _say(str(text))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweepError(f"cannot make the run folder {folder}: {error.strerror}") from None
    with locked(folder), _disk_full_explained(folder):
        write_or_compare(folder, space, source)
        warm_start.keep(folder, earlier)
        cache = BaselineCache(cache_folder() / "baseline", digest_of_trainer())
        job = Job(space, folder, search(space, folder, cache), text=asdict(text))
        return drive(job, options, trunk_files.trainer(space, folder)), folder


@contextmanager
def _disk_full_explained(folder: Path) -> Iterator[None]:
    """One message where the disk is full before a session is there to note it."""
    from sweep.session import DISK_FULL

    try:
        yield
    except SweepError:
        raise
    except Exception:
        if not DISK_FULL.search(traceback.format_exc()):
            raise
        raise _no_space(folder) from None


def _no_space(folder: Path) -> SweepError:
    return SweepError(
        f"no space left for {folder}",
        hint="Free some; the same command continues, each trial from its last checkpoint.",
        code=1,
    )


OpenSession = Callable[[Journal, Callable[[Event], None]], "Session"]


@dataclass(frozen=True)
class Job:
    """One task of a driver in a run folder: a search, or a confirmation."""

    space: Space
    folder: Path
    open: OpenSession
    role: Role = Role.SEARCH
    finish: Callable[[Session, Interrupt], None] = lambda session, interrupt: None
    text: Event | None = None  # what is known of it; None: what the last driver knew


def search(
    space: Space, folder: Path, cache: BaselineCache | None = None, notes: bool = True
) -> OpenSession:
    """Open the session that searches `space` in `folder`.

    cache   of baseline runs by the same trainer; None: each sweep measures its own
    notes   whether the journal is to say which earlier sweeps inform it
    """

    def open_session(journal: Journal, watch: Callable[[Event], None]) -> Session:
        from sweep.session import Searching, Session, open_storage

        sweeps = warm_start.informing(space, folder)
        searching = Searching.open(open_storage(folder / LEDGER), space, sweeps)
        session = Session(space, searching, journal, watch, cache)
        for sweep in warm_start.described(space, sweeps) if notes else ():
            session.note("informed", **sweep)
        return session

    return open_session


def drive(job: Job, options: Options, train: Train) -> int:
    """Drive `job` to its end or to an interruption; the exit code."""
    from sweep.run.console import open_console
    from sweep.session import DISK_FULL

    folder = job.folder
    journal = open_journal(folder)
    publishing = process.start(folder)
    # Baseline and trials begin once the header is written: a reader of the journal needs it first.
    with Interrupt() as interrupt, open_console(journal.view, options.plain) as console:
        begins = {**header(job, journal.view.header), "ray": not options.here}
        console.show(journal.append("sweep", **begins))
        kept = LogProbs(folder / TRIALS, journal.view, job.space.trial.keep_log_probs)
        kept.make_room()
        checkpoints = Checkpoints(folder, journal.view, job.space.keep)
        sharing = job.space.trial.share_trunks and job.role is Role.SEARCH

        def watch(event: Event) -> None:
            console.show(event)
            _keep_error(folder, event)
            kept.take(event)
            checkpoints.take(event)
            if sharing and event["event"] == "outcome":
                trunk_files.tidy(job.space, folder, journal.view)

        try:
            session = job.open(journal, watch)
        except BaseException:
            process.finish(publishing, SECONDS_TO_END)
            checkpoints.close()
            journal.close()
            raise
        end = End(Ending.CRASHED)
        checkpoints.make_room()  # not before: the session notes what is promised to whom
        with _cluster(options) if session.has_work else nullcontext() as cluster:
            try:
                trainer = on_gpus(train, job.space.trial)
                _run_trials(session, trainer, folder / TRIALS, interrupt, cluster)
                job.finish(session, interrupt)
                end = session.end
            except Interrupted:
                end = End(Ending.INTERRUPTED)
            except SweepError as error:
                if error.code == UNREACHABLE:
                    end = End(Ending.NO_CLUSTER)
                raise
            except Exception:
                if not DISK_FULL.search(traceback.format_exc()):
                    raise
                session.disk_full = True
            finally:
                with suppress(OSError):  # on a full disk the next driver sees the end missing
                    session.close(End(Ending.DISK_FULL) if session.disk_full else end)
                process.close(publishing)  # it ends while the cluster does
                checkpoints.close()
    for line in session.certificate():
        _say(line)
    if not process.finish(publishing):
        _say(
            f"MLflow at {without_password(process.store_uri(options.runs))} lacks the "
            f"last points; they are safe in the journal. To send them: sweep publish {folder}"
        )
    if session.disk_full:
        raise _no_space(folder)
    if end.ending is Ending.INTERRUPTED:
        return interrupt.exit_code
    if session.gave_up:
        _say(without_secrets(_why_it_gave_up(session, folder)))
        return TOO_MANY_FAILED
    ours = [t for t in journal.view.trials.values() if t.role is job.role]
    if any(t.outcome is Outcome.COMPLETE for t in ours):
        return 0
    if end.ending is Ending.NO_MEMORY:
        _say(str(end))
        return TOO_MANY_FAILED
    return 1


def _keep_error(folder: Path, event: Event) -> None:
    """Leave the traceback of a trial that failed in its folder, for people; the journal has it."""
    if event["event"] == "outcome" and event.get("error"):
        with suppress(OSError):
            path = folder / TRIALS / event["trial"] / ERROR
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, event["error"])


def _why_it_gave_up(session: Session, folder: Path) -> str:
    """The first failure with its traceback, and how to go on."""
    from sweep.session import shortened

    first = session.first_failure
    if first is None:
        return str(session.end)
    shown = indent(shortened(first.error), "  ")
    return (
        f"{session.end}\nThe first, trial {first.trial}:\n\n{shown}"
        f"\n\nAll of it: {folder / TRIALS / first.trial / ERROR}\n"
        "Once the cause is mended, the same command continues."
    )


def open_journal(folder: Path) -> Journal:
    """The journal in `folder`, to be gone on with.

    Raises SweepError if it is damaged, or if the ledger has less than it has.
    """
    journal = Journal(folder / JOURNAL)
    try:
        require_agreement(folder, journal.view)
    except SweepError:
        journal.close()
        raise
    return journal


def _cluster(options: Options) -> AbstractContextManager[Cluster | None]:
    if options.here:
        return nullcontext()
    from sweep.run.ray_cluster import Cluster

    return Cluster(options.address, options.command)


def _run_trials(
    session: Session, train: Train, folder: Path, interrupt: Interrupt, cluster: Cluster | None
) -> None:
    if cluster is None:
        from sweep.run import local

        # As Ray does: one GPU where there is any. Looking imports torch: only if there is work.
        if session.has_work and session.space.trial.gpus < 0:
            session.queue.budget.resources["gpu"] = float(_has_gpu())
        local.run(session, train, folder, interrupt)
    else:
        from sweep.run import ray_tune

        ray_tune.run(session, train, folder, interrupt, cluster)


def _has_gpu() -> bool:
    from model.training.device import has_gpu

    return has_gpu()


def _with_weights(space: Space) -> Space:
    """The space with the weights of `gpt.init` here and pinned by digest, their path absolute."""
    word = str(space.fixed.get("gpt.init", ""))
    if not word:
        return space
    from model.pretrained import pin, published

    fixed = dict(space.fixed)
    if not published(word) and (path := Path(word).expanduser()).exists():
        fixed["gpt.init"] = str(path.absolute())
    try:
        return replace(space, fixed=pin(fixed))
    except ConfigError as error:
        raise SweepError("the weights cannot be used", error.problems) from None


def _with_data(space: Space, folder: Path) -> Space:
    """The space with its corpus prepared and pinned by digest, the path made absolute.

    Where the corpus is gone, its token table does, if that is in the cache: `folder` knows which.
    """
    from model.data.batches import open_table
    from model.data.prepare import is_gone, table_path
    from model.pretrained import check_tokens

    fixed = dict(space.fixed)
    if fixed.get("data.path") and "://" not in str(fixed["data.path"]):
        fixed["data.path"] = str(Path(str(fixed["data.path"])).expanduser().absolute())
    if is_gone(str(fixed.get("data.path", ""))):
        fixed = {**fixed, **_digest_before(folder, fixed)}
    smallest, largest = space.budgets
    most = max(largest, *(multiple * smallest for multiple in (1, *space.baseline.multiples)))
    settings = {**fixed, "data.train_tokens": most}
    try:
        data = Config.from_settings(settings).data
        if not table_path(data).exists():
            _say(f"preparing tokens of {data.path or 'the embedded corpus'} (once)")
        table = open_table(data, verify=True)
        if init := str(fixed.get("gpt.init", "")):
            check_tokens(init, table.recorded["tokenizer"])
    except ConfigError as error:
        raise SweepError("the data cannot be used", error.problems) from None
    baseline = with_known_table(space.baseline, table.recorded)
    return replace(space, fixed={**fixed, "data.digest": table.digest}, baseline=baseline)


def _digest_before(folder: Path, fixed: Mapping[str, Value]) -> dict[str, Value]:
    """The digest of the tokens that the sweep in `folder` reads, if it is of this very text."""
    before = read_resolved(folder / RESOLVED)["fixed"] if (folder / RESOLVED).exists() else {}
    names = {name for name in {*before, *fixed} if name.startswith("data.")}
    names -= {"data.digest", "data.train_tokens"}
    digest = before.get("data.digest", "")
    if not digest or any(before.get(name) != fixed.get(name) for name in names):
        return {}
    _say(f"{fixed['data.path']} is gone; its tokens are those that were prepared, by their digest")
    return {"data.digest": digest}


def header(job: Job, before: Event) -> Event:
    """The first event of a driver; `before` is that of the last driver."""
    space, searches = job.space, job.role is Role.SEARCH
    return {
        "id": _sweep_id(job.folder),
        "resolved": _definition(job.folder),
        "name": space.name,
        "role": job.role,
        "trials": space.budget.trials if searches else before["trials"],
        "budget": asdict(space.budget),
        "fixed": dict(space.fixed),
        "train_tokens": space.train_tokens if searches else before["train_tokens"],
        "data": space.fixed.get("data.digest", ""),
        "text": before.get("text") if job.text is None else job.text,
        "cpus": space.trial.cpus,
        "gpus": space.trial.gpus,
        "noise": space.baseline.noise if searches else before.get("noise", 0.0),
        "searched": space.searched if searches else before.get("searched", []),
        "log_scaled": _log_scaled(space) if searches else before.get("log_scaled", []),
        "environment": environment(),
        **(_foreseen(space) if searches else {}),
    }


def _definition(folder: Path) -> str:
    """What defines the sweep, word for word: a journal alone says what was searched."""
    path = folder / RESOLVED
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _log_scaled(space: Space) -> list[str]:
    """Settings whose factors matter and not their differences."""
    ranges = [(hp.setting, hp.domain) for hp in space.hyperparameters]
    return [name for name, its in ranges if isinstance(its, Range) and its.log]


def _foreseen(space: Space) -> Event:
    """FLOPs of each baseline run and, on average, of a trial: what tells the time left at first."""
    runs = [
        [dict(point.searched), trial_flops(baseline_settings(space, point))]
        for point in baseline_points(space)
    ]
    try:
        expected = plan.plan(space)
    except SweepError:  # no trial of it can be trained, which it says when it tries
        return {"baseline_runs": runs}
    flops = fmean(cost.flops for cost in expected.drawn) * expected.pruned
    return {"baseline_runs": runs, "expected_flops": flops}


def _sweep_id(folder: Path) -> str:
    """Random, made with the folder: another sweep of the same name is another sweep."""
    path = folder / SWEEP_ID
    if not path.exists():
        write_text(path, os.urandom(8).hex())
    return path.read_text()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
