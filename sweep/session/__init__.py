"""The sweep without Ray: one Optuna study that proposes and prunes, and what runs next."""

from sweep.session.baseline_cache import BaselineCache
from sweep.session.ledger import LEDGER, Ledger, open_storage
from sweep.session.session import DISK_FULL, Session

__all__ = ["DISK_FULL", "LEDGER", "BaselineCache", "Ledger", "Session", "open_storage"]
