"""Sweeps over recorded curves, in virtual time."""

from sweep.replay.bank import Bank, make_bank
from sweep.replay.curves import read_about, read_curves
from sweep.replay.simulator import Replay, simulate
from sweep.replay.summary import Summary, summarise

__all__ = [
    "Bank",
    "Replay",
    "Summary",
    "make_bank",
    "read_about",
    "read_curves",
    "simulate",
    "summarise",
]
