"""Tables of facts and scores, as the terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from taskloom.errors import listed
from taskloom.gradients.verification import Difference
from taskloom.inspection import Rehearsal, RunFacts, TaskFacts
from taskloom.metrics import METRICS
from taskloom.room import shown
from taskloom.types import Score


def score_table(scores: Sequence[Score]) -> Table:
    """Give a row for each score, with its interval, baseline and whether it lies clear of it."""
    table = Table(
        "task", "metric", "score", "95 % interval", "baseline", "n", "beats baseline", box=None, pad_edge=False
    )
    for column in (2, 4, 5):
        table.columns[column].justify = "right"
    last = ""
    for score in scores:
        name = score.task if score.split == "test" else f"{score.task} ({score.split})"
        baseline = "" if score.baseline is None else f"{score.baseline:.3f}"
        interval = f"{score.low:.3f} … {score.high:.3f}"
        row = (shown(score.metric), f"{score.value:.3f}", interval, baseline, str(score.n), _verdict(score))
        table.add_row("" if name == last else name, *row)
        last = name
    return table


def beats_baseline(score: Score) -> bool | None:
    """Say whether a score's whole interval lies on the better side of the baseline; None without a baseline."""
    if score.baseline is None:
        return None
    greater = score.greater_is_better
    if greater is None:
        greater = METRICS.load(score.metric).greater_is_better
    return score.low > score.baseline if greater else score.high < score.baseline


def _verdict(score: Score) -> str:
    verdict = beats_baseline(score)
    return "" if verdict is None else "yes" if verdict else "no"


def task_table(facts: Sequence[TaskFacts]) -> Table:
    """Give a row for each task's data."""
    headings = (
        "task",
        "type",
        "train",
        "validation",
        "test",
        "skipped",
        "tokens 50/95/100 %",
        "cut",
        "draws",
        "epochs",
    )
    table = Table(*headings, box=None, pad_edge=False)
    for fact in facts:
        rows = [
            f"{fact.rows.get(split, 0)}{'*' if split in fact.made else ''}" for split in ("train", "validation", "test")
        ]
        skipped = str(sum(fact.skipped.values()))
        tokens = "/".join(map(str, fact.tokens))
        table.add_row(
            fact.name, fact.type, *rows, skipped, tokens, f"{fact.truncated:.0%}", str(fact.draws), f"{fact.epochs:.1f}"
        )
    return table


def fact_lines(facts: RunFacts) -> list[str]:
    """Give what stands under the table of tasks."""
    lines = []
    if any(fact.made for fact in facts.tasks):
        lines.append("* made out of the training rows; near duplicates and groups are kept together")
    for fact in facts.tasks:
        if fact.labels:
            shown = [f"{label} {share:.0%}" for label, share in list(fact.labels.items())[:6]]
            more = len(fact.labels) - len(shown)
            lines.append(f"labels of {fact.name}: {', '.join(shown)}{f', and {more} more' if more > 0 else ''}")
        lines += [
            f"warning: {fact.name}: {count} rows in {pair} share their text" for pair, count in fact.leaks.items()
        ]
    lines.append(f"{facts.updates} optimizer steps of {facts.rows} rows")
    lines.append(
        f"padding: {facts.padding_cut:.0%} as cut into chunks, {facts.padding_one:.0%} in one rectangle a step"
    )
    return lines


def rehearsal_lines(found: Rehearsal) -> list[str]:
    """Give what a rehearsal measured."""
    counts = found.parameters
    heads = sum(value for key, value in counts.items() if key.startswith("head "))
    evaluation, saving = found.evaluation_seconds, found.save_seconds
    return [
        f"parameters: {counts['backbone']:,} in the backbone, {counts['trained']:,} trained, {heads:,} in heads",
        f"longest step: {found.longest_seconds:.2f} s; usual step: {found.usual_seconds:.2f} s",
        f"one evaluation batch of every task: {evaluation:.2f} s; save and load: {saving:.2f} s",
        f"most memory: {found.memory_bytes / 2**20:,.0f} MiB",
        f"the run: {found.updates} steps, about {found.run_seconds / 60:.1f} minutes with its evaluations",
    ]


def difference_lines(found: Sequence[Difference]) -> list[str]:
    """Give how far one-pass gradients are from those of separate passes."""
    split = [each for each in found if not each.separate]
    lines = []
    if split:
        worst = split[0]
        lines.append(
            f"gradients: {len(split)} shared parameters split by task in one backward pass; largest "
            f"relative difference from separate passes {worst.relative:.1e} (`{worst.name}`)"
        )
    separate = [each.name for each in found if each.separate]
    if separate:
        lines.append(f"gradients: {len(separate)} parameters take separate passes: {listed(separate, 5)}")
    return lines
