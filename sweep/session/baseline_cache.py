"""Baseline runs that an earlier sweep measured under the same conditions, so that none is repeated.

What a loss depends on is its name: every setting of the run, the digest of its tokens and that of
the trainer's code. Where the corpus lies is no part of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from model.config import Config, Value
from model.files import replaced

FORMAT = 1
ELSEWHERE = ("data.path",)  # the digest of the tokens says what they are, wherever they lie


@dataclass(frozen=True)
class BaselineCache:
    """A folder of measured baseline runs, a file each."""

    folder: Path
    trainer: str  # digest of the trainer's code

    def recall(self, settings: Mapping[str, Value]) -> float | None:
        """Validation loss that was measured with `settings`, or None. A damaged file is none."""
        try:
            record = json.loads(self._path(settings).read_text())
            loss = float(record["val_loss"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return loss if record.get("identity") == self._identity(settings) else None

    def remember(self, settings: Mapping[str, Value], val_loss: float) -> None:
        """Keep a measured loss, in nats per token. What is not finite or not pinned is not kept."""
        if not math.isfinite(val_loss) or not settings.get("data.digest"):
            return
        path = self._path(settings)
        record = {"identity": self._identity(settings), "val_loss": val_loss}
        with suppress(OSError):  # a home that nobody may write to; others measure it again
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(path) as beside:
                beside.write_text(json.dumps(record, indent=1))

    def _identity(self, settings: Mapping[str, Value]) -> dict[str, object]:
        every = dict(Config.from_settings(settings).settings())
        for name in ELSEWHERE:
            every.pop(name)
        identity: dict[str, object] = json.loads(
            json.dumps({"format": FORMAT, "trainer": self.trainer, "settings": every})
        )
        return identity

    def _path(self, settings: Mapping[str, Value]) -> Path:
        text = json.dumps(self._identity(settings), sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
