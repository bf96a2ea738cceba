"""Who is served worse: scores by group, gaps with intervals, answers that flip when words are swapped, thresholds.

`comparing` and `rates` are numpy, scipy and fairlearn alone; `auditing`, `swapping` and `thresholds` do it for a
finished run, and write what they find into fairness.json; see `note`.
"""
