"""What a person sees while a sweep runs: a live view on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from textwrap import indent
from threading import Event, Lock, Thread
from typing import Protocol

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from model.progress import WHOLE
from sweep.format import bytes_text, clock_text, short_names, three_digits
from sweep.records import Event as JournalEvent
from sweep.records import Outcome, Proposal, Role, TrialEnding, read_baseline_point, read_kind
from sweep.results.confirmation_report import lowest_line
from sweep.results.report import counts, efficiency_of
from sweep.results.settling import PATIENCE, settled
from sweep.results.time_left import speed_text, time_left_text
from sweep.view import TrialView, View

REDRAWS_PER_SECOND = 2
SECONDS_BETWEEN_HEARTBEATS = 60.0
SECONDS_BETWEEN_BEATS = 5.0
BASELINE = {"measured": "measured", "table": "given", "slowrun": "of NanoGPT Slowrun"}


class Console(Protocol):
    """Shows every journal event, each after it was written."""

    def __enter__(self) -> Console: ...
    def __exit__(self, *error: object) -> None: ...
    def show(self, event: JournalEvent) -> None: ...


def open_console(view: View, plain: bool = False) -> Console:
    """The live view if standard error is a terminal, else lines."""
    return PlainConsole(view) if plain or not sys.stderr.isatty() else LiveConsole(view)


class PlainConsole:
    """One line for each trial that starts or ends, and a heartbeat in a silent minute."""

    def __init__(
        self,
        view: View,
        write: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view, self._write, self._clock = view, write, clock
        self._started = self._spoke = clock()
        self._ended = Event()

    def __enter__(self) -> PlainConsole:
        Thread(target=self._keep_beating, name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()

    def show(self, event: JournalEvent) -> None:
        text = describe(self._view, event)
        if text:
            self._say(text)

    def beat(self) -> None:
        """Say how the sweep stands if no line was written for a minute."""
        if self._view.header and self._clock() - self._spoke >= SECONDS_BETWEEN_HEARTBEATS:
            self._say(progress_line(self._view))

    def _keep_beating(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_BEATS):
            self.beat()

    def _say(self, text: str) -> None:
        self._spoke = self._clock()
        self._write(f"[{clock_text(self._spoke - self._started)}] {text}")


class LiveConsole:
    """A panel redrawn in place; what ends scrolls by above it."""

    def __init__(self, view: View, console: RichConsole | None = None) -> None:
        """console: where to draw; by default on standard error."""
        self._view = view
        self._started = time.monotonic()
        self._console = console or RichConsole(stderr=True, highlight=False)
        # Rich takes no lock between reading how high the panel is and drawing it again, so that a
        # line printed meanwhile by another thread would leave a part of the panel behind.
        self._lock, self._ended = Lock(), Event()
        self._live = Live(
            console=self._console, get_renderable=self._panel, auto_refresh=False, transient=True
        )
        self._redrawing = Thread(target=self._keep_redrawing, name="live view", daemon=True)

    def __enter__(self) -> LiveConsole:
        self._live.start()
        self._redrawing.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._redrawing.join()
        self._live.stop()

    def show(self, event: JournalEvent) -> None:
        text = describe(self._view, event)
        if text:
            with self._lock:
                self._console.print(text, markup=False)

    def redraw(self) -> None:
        """Draw the panel as things stand now."""
        with self._lock:
            self._live.refresh()

    def _keep_redrawing(self) -> None:
        while not self._ended.wait(1 / REDRAWS_PER_SECOND):
            self.redraw()

    def _panel(self) -> RenderableType:
        view, elapsed = self._view, time.monotonic() - self._started
        if not view.header:
            return Text("starting")
        head = f"{view.header['name']}  {clock_text(elapsed)}  {progress_line(view)}"
        panel = Group(Text(head, style="bold"), Text(best(view)), running_table(view))
        # A terminal writes ^C where the cursor is, which must not begin a line of its own.
        return Constrain(panel, self._console.width - len("^C^C"))


def progress_line(view: View) -> str:
    """What has ended, the time left, and how fast trials train."""
    left = time_left_text(view, time.time_ns() // 1_000_000)
    return ", ".join(filter(None, [counts(view), left, speed_text(view)]))


def running_table(view: View) -> Table:
    """One row for each running trial: how far, how well, what it is, as far as there is room."""
    grid = Table.grid(padding=(0, 2))
    for _ in range(5):
        grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for trial in view.running():
        last = trial.last
        done = last["basis_points"] if last else 0
        loss = f"{last['val_loss']:.4f}" if last else "-"
        epoch = f"epoch {last['epoch']:.1f}" if last else ""
        bar = ProgressBar(total=WHOLE, completed=done, width=20)
        grid.add_row(trial.name, bar, f"{done / 100:.0f} %", loss, epoch, short_text(trial))
    return grid


def short_text(trial: TrialView) -> str:
    """What makes the trial different, settings under their short names."""
    if not isinstance(trial.kind, Proposal):
        return str(trial.kind)
    short = short_names(list(trial.searched))
    return " ".join(f"{short[name]}={three_digits(v)}" for name, v in trial.searched.items())


def best(view: View) -> str:
    """The best complete trial so far, in a line; of a confirmation, every finalist's mean."""
    if view.role is Role.CONFIRM:
        return lowest_line(view)
    ranked = view.ranked()
    if not ranked:
        return "no trial is complete yet"
    multiplier = efficiency_of(view, ranked[0])
    worth = f", {multiplier} data" if multiplier else ""
    error = ranked[0].last["val_loss_error"] if ranked[0].last else float("nan")
    return (
        f"best so far: {ranked[0].name} with val loss {ranked[0].val_loss:.4f} ± {error:.4f}{worth}"
    )


def describe(view: View, event: JournalEvent) -> str:
    """`event` in a line for people; empty for events that matter only in bulk."""
    kind = event["event"]
    if kind == "sweep":
        # Trials that ended before a continuation are only counted.
        if view.role is Role.CONFIRM:
            return ""  # what is confirmed comes with the plan
        ended = sum(t.outcome is not None for t in view.trials.values())
        begun = f"continues; {counts(view)}" if ended else f"begins; {event['trials']} trials"
        return f"sweep {event['name']} {begun}"
    if kind == "confirm":
        names = event["finalists"]
        again = f"its {len(names)} best recipes run" if len(names) > 1 else "its best recipe runs"
        most = event["seeds"] * len(names)
        return f"sweep {view.header['name']}: {again} again with fresh seeds, at most {most} runs"
    if kind == "ready" and view.header.get("ray"):
        return f"Ray is ready; {event['slots']} at a time"
    if kind == "trial":
        trial = view.trials[event["trial"]]
        last = trial.last
        does = f"goes on from {last['basis_points'] / 100:g} %" if last else "starts"
        return f"{event['trial']} {does}: {trial.kind}{_describe_settling(view, event)}"
    if kind == "baseline":
        points = ", ".join(
            f"{int(tokens):,} tokens: {loss:.4f}" for tokens, loss in event["points"]
        )
        return f"baseline {BASELINE[event['source']]}: {points}"
    if kind == "recalled":
        point = read_baseline_point(event["searched"])
        return f"{point} was measured before: {event['val_loss']:.4f}"
    if kind == "informed":
        left_out = [f"{count} left out, {why}" for why, count in event["left_out"].items()]
        about = f" ({'; '.join(left_out)})" if left_out else ""
        return f"informed by {event['trials']} trials of {event['from']}{about}"
    if kind == "rejected" and view.rejected == 1:  # others would say the same
        rejected = read_kind(Role(event["role"]), event["searched"])
        return f"a proposal is not begun, as it {event['reason']}: {rejected}"
    if kind == "observation":
        trial = view.trials[event["trial"]]
        return f"{trial.name} begins {trial.trunk}" if trial.trunk and trial.first is event else ""
    if kind == "cluster":
        return (
            f"Ray is lost: {event['lost']}; a fresh one starts (restart {event['restart']}), "
            "trials go on from their checkpoints"
        )
    if kind == "quarantine":
        last = list(event["failures"].values())[-1]
        return (
            f"node {event['node']} is used no further: {len(event['failures'])} trials failed "
            f"there in a row, the last of {last}; {len(event['trained_elsewhere'])} of them train "
            f"on other nodes. {event['slots']} at a time now; the next driver begins without "
            "quarantine."
        )
    if kind == "tried elsewhere":
        return (
            f"{event['trial']}: {event['reason']}; another trial failed on that node, too, so that "
            "it is tried on another one"
        )
    if kind in ("lost", "worker lost"):
        ends = event["reason"].startswith(TrialEnding.OUT_OF_MEMORY)  # which its outcome says
        return "" if ends else f"{event['trial']}: {event['reason']}"
    if kind == "outcome":
        return _describe_outcome(view, view.trials[event["trial"]], event)
    return ""


def _describe_settling(view: View, event: JournalEvent) -> str:
    """That the search has just settled, and what one may do about it; else empty."""
    if "expected_gain" not in event:
        return ""
    its = settled(view)
    if its is None or its.proposals != PATIENCE:
        return ""
    return (
        f"\nThe search has {its}.\nIt goes on to the end of its budget. Ctrl-C ends it now, with "
        "--set budget.settled=stop it ends itself."
    )


def _describe_outcome(view: View, trial: TrialView, event: JournalEvent) -> str:
    reason = f": {trial.reason}" if trial.reason else ""
    text = f"{trial.name} {trial.outcome}{reason}"
    if trial.outcome is Outcome.FAILED:
        if needs := event.get("needs"):
            return f"{text}; from now on nothing is begun that needs {bytes_text(needs)} or more"
        return f"{text}{_describe_failure(view, trial, str(event.get('error', '')))}"
    text += f", val loss {trial.val_loss:.4f}"
    if trial.role is Role.SEARCH and trial.outcome is Outcome.COMPLETE:
        multiplier = efficiency_of(view, trial)
        text += f", {multiplier} data" if multiplier else ""
        text += "  <- best so far" if view.ranked()[0] is trial else ""
    return text


def _describe_failure(view: View, trial: TrialView, error: str) -> str:
    """The traceback of a trial that failed, if none before it failed in the same way."""
    from sweep.session import kind_of, shortened

    failed = [t for t in view.trials.values() if t.outcome is Outcome.FAILED and t is not trial]
    if kind_of(trial.reason) in {kind_of(other.reason) for other in failed}:
        return ""
    return "\n" + indent(shortened(error), "  ")
