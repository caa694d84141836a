"""A sweep read for people: the answer in sentences, charts, and what to run next."""

from sweep.report.data import report_data
from sweep.report.markdown import markdown
from sweep.report.page import page
from sweep.report.reading import reading_of

__all__ = ["markdown", "page", "reading_of", "report_data"]
