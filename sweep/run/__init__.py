"""A run folder and what drives its sweep: Ray or a plain loop, and the live view."""

from sweep.run.confirmation import Request, confirm
from sweep.run.driver import Options, run

__all__ = ["Options", "Request", "confirm", "run"]
