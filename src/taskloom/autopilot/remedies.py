"""What is tried against each cause: one remedy for each cause, and all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taskloom.autopilot.diagnosis import Diagnosis
from taskloom.config import Config
from taskloom.study.budget import Budget
from taskloom.study.description import Arm

MORE = 3.0
"""How much larger the share of a starved task becomes."""

FEWER = 0.5
"""What is left of the epochs of a task that was repeated too often."""

WIDER = 4
"""How much larger the rank of an adapter becomes."""

TOGETHER = "all remedies"


@dataclass(frozen=True)
class Remedy:
    """Something to be tried.

    Attributes:
        arm: as studies have them.
        against: what it is for, in words.
        task: whom it is for; empty where it is for several.
    """

    arm: Arm
    against: str
    task: str = ""


def remedies(found: Sequence[Diagnosis], base: Config, budget: Budget) -> list[Remedy]:
    """Give a remedy for each cause, and, where there are several, one arm of all of them.

    Labels that cannot be learned and rows that were repeated too often are each task's own affair.

    Args:
        found: what ails which task.
        base: the run of all tasks.
        budget: of the joint run, whose rows are the shares that are changed.
    """
    made: list[tuple[Diagnosis, dict[str, Any], bool]] = []
    for each in found:
        overrides = _overrides(each, base, budget.rows)
        if overrides or each.cause == "unlearnable":
            made.append((each, overrides, each.cause == "unlearnable"))
    tried: list[Remedy] = []
    for group in _alike(made):
        first, overrides, alone = group[0]
        names = [each.task for each, _, _ in group]
        arm = Arm(_name(first.cause, names), _groups(base, set(names) if alone else set()), overrides)
        if first.cause == "starved":
            arm = replace(arm, overrides={"mixture": _ratios(_shares([each for each, _, _ in group], budget.rows))})
        tried.append(Remedy(arm, f"{' and '.join(names)}: {first.cause}", first.task))
    if len(tried) > 1:
        apart = {each.task for each, _, left in made if left}
        merged: dict[str, Any] = {}
        for _, overrides, _ in made:
            merged |= overrides
        _widen_sharing(merged)
        shares = _shares([each for each, _, _ in made], budget.rows)
        if shares != dict(budget.rows):
            merged["mixture"] = _ratios({name: rows for name, rows in shares.items() if name not in apart})
        tried.append(Remedy(Arm(TOGETHER, _groups(base, apart), merged), "all of these"))
    return tried


def shortened(arm: Arm, share: float) -> Arm:
    """Give an arm for a share of the steps, in which limits of epochs are reached as they would be in all of them."""
    ends = ".max_epochs"
    return replace(
        arm,
        overrides={key: share * value if key.endswith(ends) else value for key, value in arm.overrides.items()},
    )


def _widen_sharing(overrides: dict[str, Any]) -> None:
    """Give the rank that an adapter was to have to the scheme of sharing that stands in its place."""
    if "model.sharing" not in overrides:
        return
    wider = {key: overrides.pop(f"model.adapter.{key}", None) for key in ("r", "lora_alpha")}
    known = {key: value for key, value in wider.items() if value is not None}
    overrides["model.sharing"] = {**overrides["model.sharing"], **known}


def _alike(
    made: Sequence[tuple[Diagnosis, dict[str, Any], bool]],
) -> list[list[tuple[Diagnosis, dict[str, Any], bool]]]:
    """Bring together what one arm remedies; tasks that cannot be learned are each left out for themselves."""
    found: dict[str, list[tuple[Diagnosis, dict[str, Any], bool]]] = {}
    for each in made:
        cause = each[0].cause
        own = cause in {"unlearnable", "over-repeated"}
        found.setdefault(f"{cause} {each[0].task}" if own else cause, []).append(each)
    return list(found.values())


def _name(cause: str, tasks: Sequence[str]) -> str:
    words = {"unlearnable": "without", "starved": "more", "over-repeated": "fewer epochs of"}
    return f"{words.get(cause, f'against {cause} of')} {' and '.join(tasks)}"


def _groups(base: Config, apart: set[str]) -> tuple[tuple[str, ...], ...]:
    """Give the joint model's tasks, and those that are trained apart."""
    kept = tuple(name for name in base.tasks if name not in apart)
    alone = tuple((name,) for name in base.tasks if name in apart)
    return (kept, *alone) if kept else alone


def _overrides(found: Diagnosis, base: Config, rows: Mapping[str, float]) -> dict[str, Any]:
    """Give what is changed in the joint run against one cause; nothing where there is nothing to change."""
    adapter = base.model.adapter or {}
    lora = adapter.get("type") == "lora"
    if found.cause == "starved":
        return {"mixture": _ratios(_shares([found], rows))}
    if found.cause == "over-repeated":
        return {f"tasks.{found.task}.max_epochs": FEWER * found.epochs}
    if found.cause == "capacity" and lora:
        return {"model.adapter.r": WIDER * adapter["r"], "model.adapter.lora_alpha": WIDER * adapter["lora_alpha"]}
    if found.cause in {"conflict", "format"} and lora:
        shared = {key: adapter[key] for key in ("r", "lora_alpha", "target_modules") if adapter.get(key) is not None}
        return {"model.adapter": None, "model.sharing": {"scheme": "shared_and_task", **shared}}
    if found.cause in {"conflict", "capacity"}:
        return {"balance": {"method": "upgrad"}}
    return {}


def _shares(found: Sequence[Diagnosis], rows: Mapping[str, float]) -> dict[str, float]:
    """Raise the rows of starved tasks."""
    starved = {each.task for each in found if each.cause == "starved"}
    return {name: count * (MORE if name in starved else 1.0) for name, count in rows.items()}


def _ratios(rows: Mapping[str, float]) -> dict[str, Any]:
    return {"strategy": "fixed", "ratios": {name: round(count, 3) for name, count in rows.items()}}
