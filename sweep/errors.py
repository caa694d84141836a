"""The one error that crosses into the command line: where, what was found, what to do."""

from __future__ import annotations

from collections.abc import Iterable

from model.secrets import redacted

BAD_INPUT = 2
TOO_MANY_FAILED = 3
REFUSED_TO_CONTINUE = 4
UNREACHABLE = 5
NO_MORE = 6  # no trial to give out, or the trial should be stopped: an answer, not a mistake


class SweepError(Exception):
    """Shown as one message; `problems` are listed under the `headline`, a line each."""

    def __init__(
        self, headline: str, problems: Iterable[str] = (), *, hint: str = "", code: int = BAD_INPUT
    ) -> None:
        self.code = code
        lines = [headline, *(f"  {problem}" for problem in problems)]
        super().__init__(redacted("\n".join(lines + ([hint] if hint else []))))
