"""What `taskloom plan` shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from taskloom.affinity import Transfer
from taskloom.affinity.reading import DEFAULT
from taskloom.cli.commands import console
from taskloom.cli.transfer import predicted
from taskloom.config import read_config
from taskloom.errors import ConfigError, Fault, RunFolderError, listed, nearest
from taskloom.planning import Plan, make_plan, write_plan
from taskloom.planning.adapter_similarity import adapter_similarity
from taskloom.planning.files import run_files
from taskloom.planning.plan import FILE
from taskloom.planning.size_rule import size_lines
from taskloom.record import Record
from taskloom.study.ground_truth import read_measured


def run_plan(
    folder: Path,
    groups: int | None,
    adapters: bool,
    estimator: str | None,
    measured: Path | None,
    singles: Sequence[Path],
    out: Path,
) -> None:
    """Make a plan, show it, and write it with its run files."""
    record = Record.open(folder)
    config = read_config(record.run_yaml)
    transfer, truth = _transfer(folder, estimator, measured, singles)
    strangers = [name for name in transfer.tasks if name not in config.tasks]
    if strangers:
        raise RunFolderError(Fault(str(folder), f"have the task `{strangers[0]}`", listed(list(config.tasks))))
    if len(transfer.tasks) < 2:
        raise RunFolderError(Fault(str(folder), "have two tasks or more", "one"))
    if groups is not None and groups > len(transfer.tasks):
        requirement = f"be at most the {len(transfer.tasks)} tasks of the run"
        raise ConfigError(Fault("--groups", requirement, f"`{groups}`"))
    rows = {name: facts["splits"]["train"]["kept"] for name, facts in record.data().items()}
    weights = {name: section.importance for name, section in config.tasks.items()}
    plan = make_plan(transfer, weights=weights, rows=rows, parameters=_parameters(record), truth=truth, k=groups)
    paths = run_files(config, plan.best, "adapters" if adapters else "models", out)
    write_plan(plan, out / FILE)
    console.print(plan_table(plan))
    for line in plan_lines(plan):
        console.print(line, soft_wrap=True, markup=False)
    for line in size_lines(rows):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"\nWrote {out / FILE}. Train it:", soft_wrap=True)
    for path in paths:
        console.print(f"  taskloom train {path} --out runs/{path.stem}", soft_wrap=True)


def _transfer(
    folder: Path, estimator: str | None, measured: Path | None, singles: Sequence[Path]
) -> tuple[Transfer, Transfer | None]:
    """Give what is planned by, and transfer as measured where it was."""
    truth = read_measured(measured).get("score") if measured else None
    if measured and truth is None:
        fix = "`taskloom measure-transfer RUN.yaml --out FOLDER` makes one"
        raise RunFolderError(Fault(str(measured), "hold measured transfer", "none", fix))
    if singles:
        return adapter_similarity(singles), truth
    if truth is not None and estimator is None:
        return truth, truth
    found = predicted(folder)
    name = estimator or DEFAULT
    if name not in found:
        fix = nearest(name, found)
        raise ConfigError(Fault("--estimator", "be one that this run's probes serve", f"`{name}`", fix))
    return found[name], truth


def _parameters(record: Record) -> dict[str, int] | None:
    """Give how many parameters the run trains: shared ones, and each task's head."""
    counts = record.environment().get("parameters")
    if not counts:
        return None
    heads = {key.removeprefix("head "): number for key, number in counts.items() if key.startswith("head ")}
    return {"shared": counts["trained"], **heads}


def plan_table(plan: Plan) -> Table:
    """Give a row for each number of groups; `>` stands before the one that is advised."""
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.title = f"Plans by {'measured' if plan.is_measured else 'predicted'} transfer ({plan.estimator}, {plan.unit})"
    for heading in ("", "models", "composite", "95 % interval", "above joint", "parameters", "groups"):
        table.add_column(heading, justify="left" if heading in {"", "groups"} else "right")
    for each in plan.plans:
        groups = " | ".join(", ".join(group) for group in each.groups)
        size = "" if each.parameters is None else f"{each.parameters / 1e6:.2f} M"
        known = math.isfinite(each.low)
        told = f"{100 * each.above_joint:.0f} %" if each.k > 1 and known else ""
        interval = f"{each.low:+.3g} … {each.high:+.3g}" if known else "not known"
        mark = ">" if each.k == plan.chosen else ""
        table.add_row(mark, str(each.k), f"{each.composite:+.3g}", interval, told, size, groups)
    return table


def plan_lines(plan: Plan) -> Iterator[str]:
    """Say what to do with each task, and what the figures are worth."""
    yield ""
    for each in plan.advice:
        yield f"{each.task}: {each.action}: {each.reason}."
    if plan.best.measured is not None:
        yield ""
        for name in plan.tasks:
            foretold, found = plan.best.gains[name], plan.best.measured[name]
            yield f"{name}: foretold {foretold:+.3g}, measured by pairs {found:+.3g}"
    yield ""
    if not plan.is_measured:
        yield "Foretold from gradients; `taskloom measure-transfer` or a study tells whether it is so."
    if not plan.exact:
        yield "So many tasks are not parted in every way: groups were merged and mended step by step."
    if plan.unknown:
        yield f"{plan.unknown} effects are not known and count as none."
