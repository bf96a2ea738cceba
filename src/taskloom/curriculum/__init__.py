"""Curricula: in which order tasks enter a run and leave it, and how many of a task's items are open.

A curriculum changes when rows are drawn, and never what a row is. `order` is pure; `measuring` asks the model before it
is trained; `beginning` applies both to a run's plan; `drawing` says it in lines, `recorder` in the run folder.
"""

from taskloom.curriculum.beginning import apply, begin_curriculum, known_difficulty
from taskloom.curriculum.drawing import curriculum_lines
from taskloom.curriculum.order import Competence, Entry, entries, order_of_tasks, pace
from taskloom.curriculum.recorder import CurriculumRecorder

__all__ = [
    "Competence",
    "CurriculumRecorder",
    "Entry",
    "apply",
    "begin_curriculum",
    "curriculum_lines",
    "entries",
    "known_difficulty",
    "order_of_tasks",
    "pace",
]
