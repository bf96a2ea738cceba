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


def assistant_study_table(result: dict[str, Any]) -> str:
    """Give each task's verdict, joint against alone, and what both cost."""
    arms = {arm["name"]: arm for arm in result["arms"]}
    (found,) = (each for each in result["comparisons"] if each["arm"] == "joint")
    seeds = len(result["seeds"])
    lines = [
        "| task | test metric | six models | one model | difference | p, Holm | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["tasks"]:
        alone, joint = (arms[name]["tasks"][row["task"]] for name in ("single", "joint"))
        cells = [f"{np.mean(each['raw']):.3f}" for each in (alone, joint)]
        lines.append(f"| {row['task']} | {joint['metric']} | {' | '.join(cells)} | {_difference(row)} |")
    lines.append(f"| composite | | | | {_difference(found['composite'])} |")
    costs = {name: arms[name]["cost"] for name in ("single", "joint")}
    size, minutes = (
        [f"{costs[name][key] / unit:.{digits}f}" for name in ("single", "joint")]
        for key, unit, digits in (("parameters", 1e6, 2), ("minutes", 1, 1))
    )
    lines += [
        "",
        f"{seeds} paired seeds of {result['steps']} steps, the same rows of every task drawn in both; intervals by "
        f"bootstrap over seeds and test rows, p by exact sign flips. Trained parameters {size[0]} M and {size[1]} M, "
        f"minutes of steps {minutes[0]} and {minutes[1]} a seed. Δm {100 * np.mean(found['delta_m']):+.1f} %.",
    ]
    return "\n".join([*lines, "", place(result)])


def _difference(row: dict[str, Any]) -> str:
    return f"{row['difference']:+.3f} ({row['low']:+.3f} … {row['high']:+.3f}) | {row['adjusted']:.3f} | {row['word']}"


def plans_table(result: dict[str, Any]) -> str:
    """Give the composite of every plan, as it was trained, beside all plans of as many groups."""
    lines = [
        f"{len(result['tasks'])} tasks, {result['seeds']} seeds. A plan made of one seed's run, valued by what that "
        "seed trained, and by the mean of what the others did; the bar is the mean of all plans of as many groups and "
        "two standard errors of the mean of ten; the best is chosen in hindsight. Pairs were measured by the other "
        "seeds, so that for them the own seed is the one held out. Few probes are of every fifth step, many of every "
        "step, with 16 rows a task:",
        "",
        "| plan by | probes | groups | its own seed | bar | other seeds | bar | best | share of best | better than |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    held = [(name, rows) for name, rows in result["plans"].items() if not name.startswith("advised")]
    lines += [_plan_row(name, rows) for name, rows in sorted(held, key=_by_groups_and_value)]
    together, alone = (f"{np.mean(result[key]):.4f}" for key in ("together", "alone"))
    advised = []
    for name, probes in (("advised", "few"), ("advised, dense", "many")):
        rows = result["plans"][name]
        counts = ", ".join(str(len(row["groups"])) for row in rows)
        advised.append(f"{counts} groups from {probes} probes ({np.mean([row['own']['plan'] for row in rows]):.4f})")
    lines += [
        "",
        f"One group of all: {together}; each task alone: {alone}. `taskloom plan` without a number of groups advised, "
        f"seed by seed, {'; '.join(advised)}.",
        "",
        "What measured pairs foretell of every task in every group of three and more, against what was measured:",
        "",
        "| rule | Spearman's correlation | measured over foretold | root mean square error |",
        "|---|---|---|---|",
    ]
    for rule, row in result["rules"].items():
        lines.append(f"| {rule} | {row['spearman']:.2f} | {row['slope']:.2f} | {row['error']:.4f} |")
    return "\n".join([*lines, "", place(result)])


def _plan_row(name: str, rows: list[dict[str, Any]]) -> str:
    """Give one plan's means over seeds."""
    estimator, groups, *dense = name.split(", ")
    measured = estimator == "measured pairs"
    shown = estimator if measured else f"`{estimator}`"
    probes = "" if measured else "many" if dense else "few"
    own, others = (
        {key: float(np.mean([row[side][key] for row in rows])) for key in rows[0][side]} for side in ("own", "others")
    )
    bars = [side["mean"] + 2 * side["deviation"] / 10**0.5 for side in (own, others)]
    values = (own["plan"], bars[0], others["plan"], bars[1], others["best"])
    share = f"{others['plan'] / others['best']:.1%} | {others['above']:.0%} of all"
    return f"| {shown} | {probes} | {groups} | {' | '.join(f'{value:.4f}' for value in values)} | {share} |"


def _by_groups_and_value(held: tuple[str, list[dict[str, Any]]]) -> tuple[str, float]:
    name, rows = held
    return name.split(", ")[1], -float(np.mean([row["others"]["plan"] for row in rows]))


def structure_table(result: dict[str, Any]) -> str:
    """Give scores by arm where five of ten tasks share a planted structure, and what the plans found of it."""
    lines = [
        "| adapters | trained parameters | composite | against one adapter | the five alike | the other five |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["arms"]:
        means = [f"{np.mean(row[part]['scores']):.3f}" for part in ("composite", "kin", "lone")]
        mean, low, high = row["composite"]["difference"]
        gap = "" if row["arm"] == "one adapter" else f"{mean:+.3f} ({low:+.3f} … {high:+.3f})"
        lines.append(f"| {row['arm']} | {row['trained']:,} | {means[0]} | {gap} | {means[1]} | {means[2]} |")
    lines += [
        "",
        f"{result['seeds']} paired seeds of {result['steps']} steps. What plans found of the structure, by seed: how "
        "many groups, how many of the five alike are in one of them, and the adjusted Rand index (1 for the planted "
        "groups, 0 by chance):",
        "",
        "| estimator | advised groups | of the five | index | of the five in six groups | index |",
        "|---|---|---|---|---|---|",
    ]
    for estimator, plans in result["plans"].items():
        advised, six = plans["advised"], plans["six groups"]
        counts = [len(plan["groups"]) for plan in advised]
        cells = [_listed(counts, ""), *(_found(part) for part in (advised, six))]
        lines.append(f"| `{estimator}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", place(result)])


def _found(plans: list[dict[str, Any]]) -> str:
    return (
        f"{_listed([plan['together'] for plan in plans], '')} | {_listed([plan['agreement'] for plan in plans], '.2f')}"
    )


def _listed(values: list[Any], form: str) -> str:
    return ", ".join(format(value, form) for value in values)
