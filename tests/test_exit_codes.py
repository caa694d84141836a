"""What is said of a process that ended."""

from __future__ import annotations

import pytest

from model.exit_codes import how_it_ended


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "SIGKILL"), (-63, "signal 63"), (1, "exit code 1")]
)
def test_how_a_process_ended_is_said_in_words(code, words):
    assert how_it_ended(code) == words
