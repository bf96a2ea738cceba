"""A curriculum in a few lines of text, as far as it is known before training."""

from __future__ import annotations

from collections.abc import Mapping

from taskloom.config.sections import CurriculumSection, ItemCurriculum, TaskCurriculum
from taskloom.curriculum.beginning import known_difficulty
from taskloom.curriculum.order import DIRECTIONS, entries, order_of_tasks
from taskloom.preparation import Prepared

WIDTH = 40
"""Signs of a bar, which is the whole run."""

TRAINED, RESTS = "█", "·"
MEASURED = {"loss": "their zero-shot losses", "speed": "their learning speeds"}


def curriculum_lines(section: CurriculumSection, prepared: Prepared, updates: int) -> list[str]:
    """Draw which task is trained when, and say how items are paced; nothing where there is no curriculum.

    Args:
        section: of the run file.
        prepared: the run's data.
        updates: optimizer steps of the run.
    """
    lines = []
    if section.tasks is not None:
        difficulty = known_difficulty(section, prepared).tasks
        lines += _task_lines(section.tasks, difficulty, len(prepared.tasks), updates)
    if section.items is not None:
        lines.append(_item_line(section.items, updates))
    return lines


def _task_lines(section: TaskCurriculum, difficulty: Mapping[str, float] | None, tasks: int, updates: int) -> list[str]:
    if difficulty is None:
        return [
            f"curriculum: {section.first} of {tasks} tasks at the start, all by step {section.until * updates:.0f}, "
            f"{DIRECTIONS[section.direction]}; {MEASURED[section.by]} are measured when training starts"
        ]
    order = order_of_tasks(section, difficulty)
    changes: dict[str, list[tuple[int, float]]] = {name: [] for name in order}
    for entry in entries(order, section, updates, difficulty):
        changes[entry.task].append((entry.update, entry.factor))
    by = "as listed" if section.by == "listed" else f"by {section.by}, {DIRECTIONS[section.direction]}"
    width = max(map(len, order))
    lines = [f"curriculum: tasks enter {by}"]
    for name, held in changes.items():
        lines.append(f"  {name:{width}}  {_bar(held, updates)}  {_said(held)}")
    return lines


def _bar(held: list[tuple[int, float]], updates: int) -> str:
    signs = []
    for place in range(WIDTH):
        update = place * updates / WIDTH
        factor = [factor for start, factor in held if start <= update][-1]
        signs.append(TRAINED if factor else RESTS)
    return "".join(signs)


def _said(held: list[tuple[int, float]]) -> str:
    words = ["from the start"] if held[0][1] else []
    words += [f"{'enters' if factor else 'leaves'} after {start} steps" for start, factor in held[1:]]
    return ", ".join(words)


def _item_line(section: ItemCurriculum, updates: int) -> str:
    what = "tokens" if section.by == "length" else "zero-shot loss, which is measured when training starts"
    tasks = f" of {', '.join(section.tasks)}" if section.tasks else ""
    share = f"{section.start:.0%} at the start, all after {section.until * updates:.0f} steps"
    return f"curriculum: items{tasks} {DIRECTIONS[section.direction]}: {share}; by {what}"
