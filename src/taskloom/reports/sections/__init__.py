"""Sections of the report, one file each; see `taskloom.reports.section`."""
