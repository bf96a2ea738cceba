"""From a run file and a budget to a model that harms no task: profile, try, confirm, ship."""

from taskloom.autopilot.pilot import auto

__all__ = ["auto"]
