"""Which tasks to train together: from transfer, predicted or measured, to groups, advice and run files."""

from taskloom.planning.plan import Plan, make_plan, read_plan, write_plan

__all__ = ["Plan", "make_plan", "read_plan", "write_plan"]
