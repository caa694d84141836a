"""Secrets are not written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.secrets import has_secret, redacted, without_secrets
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import Journal, read_view

SIGNED = "https://host/a.parquet?X-Amz-Credential=AKIA%2F1&X-Amz-Signature=0123abc&part=2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://AKIA:sec/ret@bucket/a", "s3://AKIA:sec/ret@bucket/a"),  # no URI: a slash ends a host
        ("s3://AKIA:secret@bucket/a", "s3://AKIA:***@bucket/a"),
        (
            "it said: https://me:pw@host/x is gone",
            "it said: https://me:***@host/x is gone",
        ),
        (SIGNED, "https://host/a.parquet?X-Amz-Credential=***&X-Amz-Signature=***&part=2"),
        ("hf://owner/name@main/data", "hf://owner/name@main/data"),
        ("loss = 3.2 ? token=4", "loss = 3.2 ? token=4"),
    ],
)
def test_passwords_and_keys_in_addresses_are_hidden(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert has_secret(text) == (text != shown)


def test_secrets_of_the_environment_are_hidden_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "key.json"
    key.touch()
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "disabled")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    said = {"a": ["hf_0123456789 is wrong", 1], "b": f"disabled: {key}"}

    assert without_secrets(said) == {"a": ["*** is wrong", 1], "b": f"disabled: {key}"}


def test_neither_journal_nor_message_has_a_secret_that_an_error_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", 'quoted"secret')
    journal = Journal(tmp_path / JOURNAL)
    journal.append("sweep", name="s", fixed={"data.path": "hf://a/b"})
    trial = {"trial": "0000", "role": "search", "searched": {}, "settings": {}}
    journal.append("trial", **trial)
    why = f'OSError: quoted"secret at {SIGNED} of s3://k:pw12@b'
    journal.append("outcome", trial="0000", outcome="failed", reason=why)
    journal.close()

    written = (tmp_path / JOURNAL).read_text()
    for secret in ('quoted\\"secret', 'quoted"secret', "0123abc", "pw12"):
        assert secret not in written
        assert secret not in journal.view.trials["0000"].reason
        assert secret not in str(SweepError(why, [why], hint=why))
    assert read_view(tmp_path / JOURNAL).header["fixed"] == {"data.path": "hf://a/b"}


def test_a_variable_whose_value_is_a_word_of_ours_breaks_no_journal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CACHE_KEY", "complete")
    monkeypatch.setenv("STAGE_KEY", "baseline")
    journal = Journal(tmp_path / JOURNAL)
    journal.append("sweep", name="s", fixed={})
    searched = {"multiple": 1.0}
    journal.append("trial", trial="baseline-1x", role="baseline", searched=searched, settings={})
    last = {"train_loss": 3.0, "val_loss": 3.0, "val_loss_error": 0.1, "step": 9, "seconds": 1.0}
    journal.append("observation", trial="baseline-1x", basis_points=10_000, **last)
    journal.append("outcome", trial="baseline-1x", outcome="complete", reason="complete")
    journal.close()

    trial = read_view(tmp_path / JOURNAL).trials["baseline-1x"]

    assert (trial.role, trial.outcome, trial.reason) == ("baseline", "complete", "***")
