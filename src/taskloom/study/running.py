"""A study from its file to its outcome; called again, it trains only what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from taskloom.composite import build_composite
from taskloom.errors import Fault, RunFolderError
from taskloom.growth.merging import Mix, merge
from taskloom.record import VERSION, Record, read_note, write_json
from taskloom.reports import report
from taskloom.run import evaluate
from taskloom.study.budget import Budget
from taskloom.study.comparison import ArmFacts, as_row, compare, over_examples, ranks, regret, scores_of
from taskloom.study.description import SINGLE, Arm, Study, read_study
from taskloom.study.members import Member, digest_of, train_members
from taskloom.study.tuning import tuned

STUDY = "study.json"
MERGED = "merged"

Records = Mapping[tuple[str, int], Record]


def run_study(
    source: Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    assignments: Sequence[str] = (),
    workers: int | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train a study's runs under one budget, and say what they show.

    Args:
        source: a study's file, or a mapping with its content.
        out: the study's folder.
        assignments: ``a.b=value`` texts that override keys of the file.
        workers: runs side by side; by default what the file says.
        console: where progress is shown.

    Returns:
        what `STUDY` in the folder holds: ``arms`` (name -> scores and cost), ``comparisons`` with each task alone,
        ``ranks``, ``regret``, ``tuning``, ``seeds`` and ``budget``.

    Raises:
        ConfigError: the file or one of its runs is wrong; nothing was trained.
        RunFolderError: the folder holds something else.
        StudyError: runs failed; the others are trained.
    """
    console = console or Console(quiet=True)
    study, folder = read_study(source, assignments), Path(out)
    section = study.section
    budget = Budget.of(study.base, section.budget.rule, section.budget.limit)
    begun = {"version": VERSION, "seeds": list(study.seeds), "budget": asdict(budget)}
    _begin(folder, begun)
    count = workers or section.workers
    chosen = tuned(study, budget, folder, console) if section.tuning else {}
    arms = [_with(arm, chosen) for arm in study.arms]
    members = [each for arm in arms for seed in study.seeds for each in members_of(arm, seed)]
    how: dict[str, Any] = {"workers": count, "executor": section.executor, "console": console}
    records = dict(train_members(study.base, members, folder, budget=budget, **how))
    for arm in arms:
        if arm.merge is not None:
            records |= _merged(arm, study, records, folder)
    outcome = begun | _outcome(study, arms, records)
    outcome["tuning"] = dict(chosen)
    write_json(folder / STUDY, outcome)
    report([folder])
    return read_note(folder / STUDY)


def _begin(folder: Path, begun: Mapping[str, Any]) -> None:
    """Make a study's folder, unless it is one already."""
    if (folder / STUDY).is_file():
        return
    if folder.exists() and any(folder.iterdir()):
        fix = "Name a new folder, so that nothing of yours is written over"
        raise RunFolderError(Fault(str(folder), "be a study's folder, or one to be made", "other files", fix))
    write_json(folder / STUDY, begun)


def _with(arm: Arm, chosen: Mapping[str, Mapping[str, Any]]) -> Arm:
    """Give an arm what its trials chose; what it says itself comes first."""
    best = chosen.get(arm.name, {}).get("best", {})
    return Arm(arm.name, arm.groups, {**best, **arm.overrides}, arm.merge)


def members_of(arm: Arm, seed: int) -> list[Member]:
    """Give the runs of an arm; those of a merged one are each task's own."""
    return [Member(member_name(arm, group), group, arm.overrides, seed) for group in arm.groups]


def member_name(arm: Arm, group: Sequence[str]) -> str:
    """Give what the run of some of an arm's tasks is called."""
    return arm.name if len(arm.groups) == 1 else f"{arm.name}:{'+'.join(group)}"


def _merged(arm: Arm, study: Study, records: Records, folder: Path) -> dict[tuple[str, int], Record]:
    """Add up the adapters of an arm's single-task runs, and score the sum; made again where it was cut short."""
    found = {}
    for seed in study.seeds:
        runs = [records[member_name(arm, group), seed].folder for group in arm.groups]
        mix = {"seed": seed, **(arm.merge or {})}
        place = folder / MERGED / digest_of({"runs": [run.name for run in runs], "mix": mix})
        if not (place / "scores.jsonl").is_file():
            if place.exists():
                shutil.rmtree(place)
            merge(runs, place, Mix(**mix))
            evaluate(place, ["test"])
        found[arm.name, seed] = Record.open(place)
    return found


def records_of(arm: Arm, task: str, seeds: Sequence[int], records: Records) -> list[Record]:
    """Give the runs that answer for a task in an arm: [seed]."""
    if arm.merge is not None:
        return [records[arm.name, seed] for seed in seeds]
    group = next(each for each in arm.groups if task in each)
    return [records[member_name(arm, group), seed] for seed in seeds]


def _outcome(study: Study, arms: Sequence[Arm], records: Records) -> dict[str, Any]:
    """Hold every arm against each task alone."""
    tasks, seeds, section = list(study.base.tasks), study.seeds, study.section
    facts = {arm.name: _facts(arm, tasks, seeds, records) for arm in arms}
    weights = {name: each.importance for name, each in study.base.tasks.items()}
    settings = study.base.evaluation
    how = build_composite(settings.composite)
    reference = next(arm for arm in arms if arm.name == SINGLE)
    comparisons = []
    for arm in arms:
        if arm.name == SINGLE:
            continue
        intervals = {}
        for task in tasks:
            found = over_examples(
                records_of(arm, task, seeds, records),
                records_of(reference, task, seeds, records),
                task,
                facts[SINGLE].tasks[task].metric,
                resamples=settings.resamples,
                confidence=settings.confidence,
            )
            if found is not None:
                intervals[task] = found
        made = compare(
            facts[arm.name],
            facts[SINGLE],
            weights,
            how=how,
            margin=section.margin,
            level=section.level,
            intervals=intervals,
        )
        comparisons.append(as_row(made))
    held = list(facts.values())
    return {
        "tasks": tasks,
        "reference": SINGLE,
        "margin": section.margin,
        "level": section.level,
        "arms": [_arm_row(arm, facts[arm.name]) for arm in arms],
        "comparisons": comparisons,
        "ranks": ranks(held),
        "regret": regret(held),
    }


def _facts(arm: Arm, tasks: Sequence[str], seeds: Sequence[int], records: Records) -> ArmFacts:
    scores = {task: scores_of(records_of(arm, task, seeds, records), task) for task in tasks}
    runs = {record.folder: record for task in tasks for record in records_of(arm, task, seeds, records)}
    costs = [cost_of(record) for record in runs.values()]
    total = {key: sum(cost[key] for cost in costs) / len(seeds) for key in costs[0]}
    if arm.merge is not None:  # it costs what training its runs did
        sources = [cost_of(records[member_name(arm, group), seed]) for group in arm.groups for seed in seeds]
        total |= {key: sum(cost[key] for cost in sources) / len(seeds) for key in total if key != "parameters"}
    return ArmFacts(arm.name, scores, total, len(arm.groups) if arm.merge is None else 1)


def cost_of(record: Record) -> dict[str, float]:
    """Give what a run trained and used: parameters, optimizer steps, rows, tokens and minutes of steps."""
    steps = [row for row in record.steps() if "tasks" in row]
    parameters = record.environment().get("parameters", {})
    each = [task for row in steps for task in row["tasks"].values()]
    return {
        # What a sharing scheme counts by parts is among those of the backbone that are trained.
        "parameters": float(sum(n for key, n in parameters.items() if key != "backbone" and key[:6] != "parts ")),
        "steps": float(len(steps)),
        "rows": float(sum(task.get("examples", 0) for task in each)),
        "tokens": float(sum(task.get("tokens", 0) for task in each)),
        "minutes": sum(row.get("seconds", 0.0) for row in steps) / 60,
    }


def _arm_row(arm: Arm, facts: ArmFacts) -> dict[str, Any]:
    scores = {
        name: {"metric": each.metric, "raw": each.raw.tolist(), "scores": each.scores.tolist(),
               "floor": float(np.mean(each.floor))}
        for name, each in facts.tasks.items()
    }  # fmt: skip
    return {
        "name": arm.name,
        "groups": [list(group) for group in arm.groups],
        "overrides": dict(arm.overrides),
        "merge": arm.merge,
        "models": facts.models,
        "cost": dict(facts.cost),
        "tasks": scores,
    }
