"""What a journal comes to: which trial is best, how sure that is, what it cost."""

__all__ = [
    "budget",
    "confirmation",
    "confirmation_report",
    "curves_plot",
    "edges",
    "efficiency",
    "efficiency_plot",
    "efficiency_report",
    "external",
    "external_reader",
    "laws_of_runs",
    "laws_plot",
    "laws_report",
    "paired",
    "ranking",
    "report",
    "sequential",
    "settling",
    "significance",
    "time_left",
]
