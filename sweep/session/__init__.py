"""The sweep without Ray: one Optuna study that proposes and prunes, and what runs next."""

from sweep.session import warm_start
from sweep.session.baseline_cache import BaselineCache
from sweep.session.failures import ending_of, kind_of, reason_of, shortened
from sweep.session.ledger_file import (
    LedgerTrial,
    disagreements,
    read_ledger,
    require_agreement,
)
from sweep.session.rebuilding import rebuild
from sweep.session.roles import Confirming, FinalistTrials, Searching
from sweep.session.session import DISK_FULL, Session
from sweep.session.storage import open_storage

__all__ = [
    "DISK_FULL",
    "BaselineCache",
    "Confirming",
    "FinalistTrials",
    "LedgerTrial",
    "Searching",
    "Session",
    "disagreements",
    "ending_of",
    "kind_of",
    "open_storage",
    "read_ledger",
    "reason_of",
    "rebuild",
    "require_agreement",
    "shortened",
    "warm_start",
]
