"""The report: run folders in, one page out that opens anywhere, without a network and for years."""

from taskloom.reports.page import report

__all__ = ["report"]
