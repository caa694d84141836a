"""Which trained network a word of the user names, and how it is opened."""

from sweep.models.named import Named, named
from sweep.models.source import Source, find, of_trial

__all__ = ["Named", "Source", "find", "named", "of_trial"]
