"""How often a verdict is wrong where nothing differs, and how often it finds what does.

    python benchmarks/null_studies.py

Studies are simulated: six tasks and some paired seeds, whose differences have noise that a seed's tasks share, noise
of each task's own with heavy tails (Student's t, 4 degrees of freedom), six times as much of it for the last task as
for the first, and an effect in units of that noise. Each is judged by `taskloom.statistics.verdicts` at 5 %.
Figures go to benchmarks/results/null_studies.json; `python benchmarks/tables.py` puts them into docs/statistics.md.
"""

from __future__ import annotations

import numpy as np
from measuring import write

from taskloom.statistics import verdicts

STUDIES, TASKS, EFFECTS = 1000, 6, (1, 2, 3)

Study = dict[str, list[float]]


def simulated_studies(count: int, *, seeds: int = 8, effect: float = 0.0, seed: int = 0) -> list[Study]:
    """Make studies: task -> [seed] differences."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        common = generator.normal(0, 0.005, seeds)
        noise = [0.01 * (1 + place) for place in range(TASKS)]
        found.append(
            {
                f"task_{place}": (common + size * (generator.standard_t(4, seeds) + effect)).tolist()
                for place, size in enumerate(noise)
            }
        )
    return found


def alarms(studies: list[Study]) -> tuple[float, float]:
    """Give the share of studies in which any task is called harmed, and in which any is called helped."""
    words = [{each.word for each in verdicts(study)} for study in studies]
    return sum("harmed" in each for each in words) / len(words), sum("helped" in each for each in words) / len(words)


def found_share(studies: list[Study]) -> float:
    """Give the share of tasks that are called harmed."""
    words = [each.word for study in studies for each in verdicts(study)]
    return words.count("harmed") / len(words)


def main() -> None:
    """Simulate, print, and write."""
    rows = []
    for seeds in (5, 6, 8, 10, 12):
        harmed, helped = alarms(simulated_studies(STUDIES, seeds=seeds))
        found = {
            str(effect): found_share(simulated_studies(STUDIES // 5, seeds=seeds, effect=-effect)) for effect in EFFECTS
        }
        rows.append({"seeds": seeds, "false_harmed": harmed, "false_helped": helped, "found": found})
        print(rows[-1])
    figures = {"studies": STUDIES, "tasks": TASKS, "rows": rows}
    print(f"wrote {write('null_studies', 'python benchmarks/null_studies.py', figures)}")


if __name__ == "__main__":
    main()
