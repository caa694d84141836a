"""The end of a network that several processes train, where one of them is lost."""

from __future__ import annotations


class RanksFailed(RuntimeError):
    """A rank crashed, was killed or is not heard of, and so all ended.

    The checkpoint is that of the last evaluation: the run can go on from there.
    """
