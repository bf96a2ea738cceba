"""Many runs under one budget, and what they show of each other: members, ground truth, comparison."""

from taskloom.study.members import Member, train_members
from taskloom.study.running import run_study

__all__ = ["Member", "run_study", "train_members"]
