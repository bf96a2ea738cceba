"""What may be concluded from runs that were paired by seed: tests, corrections, intervals, verdicts; no torch."""

from taskloom.statistics.pairs import paired_interval
from taskloom.statistics.signs import detectable, equivalence, holm, sign_flip, smallest_p, t_interval
from taskloom.statistics.verdicts import Verdict, verdicts

__all__ = [
    "Verdict",
    "detectable",
    "equivalence",
    "holm",
    "paired_interval",
    "sign_flip",
    "smallest_p",
    "t_interval",
    "verdicts",
]
