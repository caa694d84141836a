"""The command line: a file for each verb."""

__all__ = ["main"]
