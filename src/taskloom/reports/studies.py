"""What the page shows of a study: verdicts in words, scores by arm, differences drawn, ranks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskloom.record import read_note
from taskloom.reports.section import Chart, Placed, Section, render
from taskloom.reports.writing import number

FILE = "study.json"


def is_study(folder: Path) -> bool:
    """Say whether a folder is that of a study."""
    return (folder / FILE).is_file()


def study_section(folder: Path, key: str) -> Placed:
    """Show a study's outcome; of one that is not finished, that it is not."""
    held = read_note(folder / FILE)
    name = f"What {folder.resolve().name} shows"
    if "comparisons" not in held:
        return Placed(key, name, Section(render("study.html.jinja", study=held, words="", finished=False)))
    charts = [_differences(held), _ranks(held)]
    return Placed(key, name, Section(render("study.html.jinja", study=held, words=words(held), finished=True), charts))


def words(study: Mapping[str, Any]) -> str:
    """Say in one sentence what training together did."""
    joint = next((each for each in study["comparisons"] if each["arm"] == "joint"), None)
    if joint is None:
        return "There is one task, and nothing to compare."
    found = [row["word"] for row in joint["tasks"]]
    seeds = f"{len(study['seeds'])} paired seed{'s' * (len(study['seeds']) > 1)}"
    if set(found) == {"cannot tell"}:
        return f"{seeds} of {len(found)} tasks cannot tell whether training together helped or harmed."
    counts = {word: found.count(word) for word in ("helped", "harmed", "no difference shown") if word in found}
    told = ", ".join(f"{word} {count}" for word, count in counts.items())
    return f"Training together: {told} of {len(found)} tasks, by {seeds}."


def _differences(study: Mapping[str, Any]) -> Chart:
    """Draw how much better each arm is than each task alone, with intervals."""
    values, rows = [], [["arm", "task", "difference", "low", "high", "verdict"]]
    for found in study["comparisons"]:
        for row in found["tasks"]:
            found_ends = {key: row[key] for key in ("difference", "low", "high")}
            values.append({"arm": found["arm"], "task": row["task"], "verdict": row["word"], **found_ends})
            rows.append([found["arm"], row["task"], *(number(each) for each in found_ends.values()), row["word"]])
    names = [each["arm"] for each in study["comparisons"]]
    difference = {"type": "quantitative", "title": "difference of normalised score"}
    place = {
        "y": {"field": "task", "type": "nominal", "sort": study["tasks"], "title": None},
        "yOffset": {"field": "arm", "type": "nominal", "sort": names},
        "color": {"field": "arm", "type": "nominal", "sort": names, "legend": {"title": None, "orient": "bottom"}},
    }
    told = [{"field": key} for key in ("arm", "task", "verdict", "difference", "low", "high")]
    ends = {"x": {"field": "low", **difference}, "x2": {"field": "high"}}
    middle = {"x": {"field": "difference", **difference}, "tooltip": told}
    spec = {
        "data": {"values": values},
        "height": len(study["tasks"]) * (14 * len(names) + 16),
        "layer": [
            {"mark": {"type": "rule", "strokeDash": [4, 4]}, "encoding": {"x": {"datum": 0, **difference}}},
            {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {**place, **ends}},
            {"mark": {"type": "point", "filled": True, "size": 50}, "encoding": {**place, **middle}},
        ],
    }
    return Chart("differences", spec, f"Each arm against `{study['reference']}`, task by task", rows)


def _ranks(study: Mapping[str, Any]) -> Chart:
    """Draw mean ranks, the best first."""
    held = sorted(study["ranks"].items(), key=lambda each: each[1])
    spec = {
        "data": {"values": [{"arm": arm, "rank": rank} for arm, rank in held]},
        "height": 24 * len(held),
        "mark": {"type": "point", "filled": True, "size": 90},
        "encoding": {
            "y": {"field": "arm", "type": "nominal", "sort": [arm for arm, _ in held], "title": None},
            "x": {"field": "rank", "type": "quantitative", "scale": {"domain": [1, max(2, len(held))]},
                  "title": "mean rank over tasks and seeds, 1 for the best"},
            "tooltip": [{"field": "arm"}, {"field": "rank", "format": ".2f"}],
        },
    }  # fmt: skip
    label = "Mean ranks; they depend on which arms there are"
    return Chart("ranks", spec, label, [["arm", "mean rank"], *([arm, number(rank)] for arm, rank in held)])
