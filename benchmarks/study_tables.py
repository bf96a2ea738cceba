"""Tables of the benchmarks about transfer, fairness and the autopilot; `tables.py` puts them into the pages."""

from __future__ import annotations

from typing import Any

import numpy as np
from measuring import place


def transfer_table(result: dict[str, Any]) -> str:
    """Give how well each estimator foretells measured transfer, and what both cost."""
    seeds, seconds = result["seeds"], result["seconds"]
    lines = [
        f"Spearman's correlation with measured transfer over all ordered pairs of {len(result['tasks'])} tasks, mean "
        f"over {seeds} seeds with Student's interval; over the pairs of real tasks alone; and in how many seeds the "
        "task with flipped labels was foretold to be the worst for its twin:",
        "",
        "| estimator | probes | all pairs | real tasks | worst found |",
        "|---|---|---|---|---|",
    ]
    held = sorted(result["estimators"].items(), key=lambda each: -np.mean(each[1]["all"]))
    for name, entry in held:
        estimator, _, budget = name.partition(", ")
        low, high = entry["interval"]
        within = "within 5 % of the time" if budget == "5 %" else "all"
        probes = f"{np.mean(entry['probes']):.0f}, {within}"
        found = f"{sum(entry['harm_found'])} of {seeds}"
        shown = f"{np.mean(entry['all']):+.2f} ({low:+.2f} … {high:+.2f})"
        lines.append(f"| `{estimator}` | {probes} | {shown} | {np.mean(entry['real']):+.2f} | {found} |")
    reliability = ", ".join(f"{value:+.2f}" for value in result["reliability"])
    times = seconds["ground_truth"] / seconds["joint"]
    lines += [
        "",
        "Measured transfer itself repeats only so well: each seed's matrix against the mean of the others correlates "
        f"by {reliability}, so that a perfect prediction would correlate with the mean by about "
        f"{result['ceiling']:.2f}. The measurement took {times:.0f} times as long as the joint runs.",
    ]
    lines += [
        "",
        "Plans made of one seed's probes, valued by what the other seeds measured of pairs (mean gain of a task, in "
        "points of its score), mean over seeds; beside the best plan in hindsight and random plans of as many groups:",
        "",
        "| estimator | groups | plan | best | random | better than |",
        "|---|---|---|---|---|---|",
    ]
    for name, entry in sorted(result["plans"].items(), key=lambda each: -np.mean(each[1]["above"])):
        estimator, groups = name.split(", ")
        plan, best, random = (f"{100 * np.mean(entry[key]):+.2f}" for key in ("plan", "best", "random"))
        above = f"{100 * min(entry['above']):.0f} to {100 * max(entry['above']):.0f} % of random plans"
        lines.append(f"| `{estimator}` | {groups} | {plan} | {best} | {random} | {above} |")
    return "\n".join([*lines, "", place(result)])


def autopilot_table(result: dict[str, Any]) -> str:
    """Give what the autopilot found of each task, and what it shipped."""
    causes = {each["task"]: each["cause"] for each in result["causes"]}
    lines = ["| task | cause | answered by | test score against alone | verdict |", "|---|---|---|---|---|"]
    for row in result["test"]:
        gap = f"{row['difference']:+.3f}"
        cause = causes.get(row["task"], "none")
        lines.append(f"| {row['task']} | {cause} | `{result['shipped'][row['task']]}` | {gap} | {row['word']} |")
    lines += ["", f"{result['spent']:.2f} of {result['units']:g} units, {result['minutes']} minutes."]
    return "\n".join([*lines, "", place(result)])


def fairness_table(result: dict[str, Any]) -> str:
    """Give score and gap of every mitigation, on the planted corpus and on BBQ."""
    seeds = len(result["planted"][0]["score"]["values"])
    lines = [
        f"The planted corpus, {seeds} paired seeds of {result['settings']['planted']['max_steps']} steps; means with "
        "95 % intervals over seeds (Student's t). The gap is that of equalised odds of `take`:",
        "",
        "| mitigation | accuracy | difference | gap | difference | answers that flip |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["planted"]:
        flips = f"{row['flips']['mean'][0]:.3f}" if "flips" in row else ""
        lines.append(f"| {_arm(row)} | {_measured(row, 'score')} | {_measured(row, 'gap')} | {flips} |")
    lines += [
        "",
        f"BBQ, {seeds} seeds of {result['settings']['bbq']['max_steps']} steps. The gap is that of accuracy between "
        "questions that the context answers and those that it leaves open; the last columns are of kinds of people:",
        "",
        "| mitigation | accuracy | difference | gap | difference | answered | left open | gap of kinds | shown in |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["bbq"]:
        sides = f"{row['groups']['disambig']:.3f} | {row['groups']['ambig']:.3f}"
        kinds = f"{row['people']['mean'][0]:.3f} | {row['people_shown']} of {seeds} seeds"
        lines.append(f"| {_arm(row)} | {_measured(row, 'score')} | {_measured(row, 'gap')} | {sides} | {kinds} |")
    return "\n".join([*lines, "", place(result)])


def _arm(row: dict[str, Any]) -> str:
    return row["arm"] if row["arm"] in {"none", "thresholds"} else f"`{row['arm']}`"


def _measured(row: dict[str, Any], key: str) -> str:
    """Give a mean over seeds with its interval, and the paired difference to no mitigation."""
    mean, low, high = row[key]["mean"]
    shown = f"{mean:.3f} ({low:.3f} … {high:.3f})"
    if row["arm"] == "none":
        return f"{shown} | "
    mean, low, high = row[key]["difference"]
    return f"{shown} | {mean:+.3f} ({low:+.3f} … {high:+.3f})"
