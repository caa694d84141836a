"""A run folder in Python: its trials and curves as tables, its surface, figures and networks."""

from sweep.notebook.run import Run, Runs, open_run, open_runs

__all__ = ["Run", "Runs", "open_run", "open_runs"]
