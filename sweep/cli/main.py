"""The command line. Thin: it parses, calls, prints. Slow imports wait until they are needed."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback

import click

from model.secrets import redacted
from sweep.cli.ask import ask, tell
from sweep.cli.best import best
from sweep.cli.cluster import cluster
from sweep.cli.compare import compare
from sweep.cli.confirm import confirm
from sweep.cli.convert import convert
from sweep.cli.data import data
from sweep.cli.doctor import doctor
from sweep.cli.efficiency import efficiency
from sweep.cli.ensemble import ensemble
from sweep.cli.evaluate import evaluate
from sweep.cli.external import import_
from sweep.cli.gc import gc
from sweep.cli.laws import laws
from sweep.cli.list import list_
from sweep.cli.options import same_command
from sweep.cli.page import page
from sweep.cli.publish import publish
from sweep.cli.remove import remove
from sweep.cli.replay import replay
from sweep.cli.report import report
from sweep.cli.reproduce import reproduce
from sweep.cli.run import run
from sweep.cli.sample import sample
from sweep.cli.settings import settings
from sweep.cli.shrink import shrink
from sweep.cli.space import check, init, plan, schema
from sweep.cli.status import status
from sweep.cli.train import presets, train
from sweep.cli.ui import ui
from sweep.errors import BAD_INPUT, SweepError

# What the system says of a place that its user can mend: full, over quota, not to be written to,
# or of a name that no file can have.
OF_THE_PLACE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
)
# Every verb, under the heading that `sweep --help` shows it, in the order in which one needs them.
VERBS: dict[str, tuple[click.Command, ...]] = {
    "A search": (init, check, plan, cluster, run, status, best, list_, gc, remove, doctor),
    "What it is worth": (
        report,
        confirm,
        reproduce,
        compare,
        ensemble,
        efficiency,
        laws,
        import_,
        replay,
    ),
    "Its curves in MLflow": (ui, publish),
    "A loop of your own that trains": (ask, tell),
    "One model, and its text": (train, sample, page, shrink, evaluate, convert, data),
    "What there is to set": (settings, presets, schema),
}


class Grouped(click.Group):
    """A group whose help lists verbs under headings, each with the whole sentence that it has."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does, but for the headings and for summaries that are not cut."""
        for heading, verbs in VERBS.items():
            with formatter.section(heading):
                formatter.write_dl([(str(verb.name), _summary(verb)) for verb in verbs])


def _summary(verb: click.Command) -> str:
    """The first sentence of a verb's help."""
    return (verb.help or "").partition("\n\n")[0].partition(". ")[0].replace("\n", " ").rstrip(".")


@click.group(
    cls=Grouped,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.version_option(package_name="sweep", message="%(prog)s %(version)s")
def cli() -> None:
    """Find the recipe that makes a fixed, small corpus go furthest.

    \b
      sweep run search_spaces/quickstart.yaml
      sweep status
      sweep ui
    """


for verb in (verb for verbs in VERBS.values() for verb in verbs):
    cli.add_command(verb)


def main() -> None:
    """Entry point: one message for what the user can mend, a traceback for what we must."""
    signal.signal(signal.SIGTERM, _stop)  # before there is anything to save
    # Matrices here are small: threads would only take cores from training. Read by numpy's import.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SweepError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.code)
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"stopped; nothing is lost. Continue: {same_command()}", err=True)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left early
        sys.exit(1)
    except OSError as error:
        if error.errno not in OF_THE_PLACE or error.filename is None:
            click.echo(redacted(traceback.format_exc()), err=True, nl=False)
            sys.exit(1)
        where, why = os.fspath(error.filename), error.strerror or error
        click.echo(redacted(f"Error: cannot use {where}: {why}"), err=True)
        sys.exit(BAD_INPUT)
    except Exception:
        click.echo(redacted(traceback.format_exc()), err=True, nl=False)
        sys.exit(1)


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)
