"""What each command does; imported when it is called."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console
from rich.markup import escape

from taskloom.cli.check_lines import ESTIMATE, SHARED, batch_line, batch_table, label_hints, row_lines, shared_table
from taskloom.cli.tables import beats_baseline, difference_lines, fact_lines, rehearsal_lines, score_table, task_table
from taskloom.config import read_config
from taskloom.data import read
from taskloom.data.columns import ABSENT, value_at
from taskloom.environment import EXTRAS, environment, version_of
from taskloom.errors import DataError, Fault, listed, nearest
from taskloom.gradients.ranks import rank
from taskloom.inspection import check, check_gradients, preview, rehearse
from taskloom.model.bundled import BUNDLED_NAME, bundled_folder
from taskloom.record import write_text
from taskloom.run import Run
from taskloom.run import evaluate as evaluate_run
from taskloom.run import train as train_run
from taskloom.types import Score

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.filterwarnings("ignore", module=r"(transformers|peft|torch|accelerate)\b.*")

console = Console(highlight=False)


def run_quickstart(out: Path, write: Path | None, assignments: Sequence[str]) -> None:
    """Write the help desk, train on it, and show what came of it."""
    from taskloom import helpdesk

    folder = write or out.parent / f"{out.name}-data"
    helpdesk.write(folder)
    text = resources.files("taskloom.helpdesk").joinpath("quickstart.yaml").read_text(encoding="utf-8")
    run = folder / "run.yaml"
    write_text(run, text.replace("\ntasks:", f"\ndata_root: {json.dumps(str(folder.resolve()))}\n\ntasks:", 1))
    if write:
        console.print(f"wrote {folder}; go on with `taskloom train {run}`")
        return
    run_train(run, out, assignments)


def run_train(run: Path, out: Path, assignments: Sequence[str], *, accept_changes: bool = False) -> None:
    """Train, and show the scores."""
    if read_config(run, assignments).evaluation.cross_validation is not None:
        from taskloom.cli.evaluating import run_cross_validation

        run_cross_validation(run, out, None, assignments)
        return
    started = time.monotonic()
    finished = train_run(run, out, assignments=assignments, console=console, accept_changes=accept_changes)
    if rank():  # the first process of several speaks for all
        return
    _show_scores(finished.scores)
    minutes = (time.monotonic() - started) / 60
    console.print(f"\n{minutes:.1f} minutes. Report: {finished.record.report_html}", soft_wrap=True)


def run_rehearsal(run: Path, assignments: Sequence[str]) -> None:
    """Rehearse, and show what was measured."""
    for line in rehearsal_lines(rehearse(run, assignments=assignments)):
        console.print(line, soft_wrap=True)


def run_check(run: Path, assignments: Sequence[str], *, gradients: bool = False, rehearsal: bool = False) -> None:
    """Show what a run's data and first batches are; where asked for, how exact its gradients, and what it costs."""
    facts = check(run, assignments=assignments)
    console.print(task_table(facts.tasks))
    _say([*fact_lines(facts), *label_hints(facts), *facts.curriculum])
    if facts.shared:
        _say(["", SHARED])
        console.print(shared_table(facts.shared))
    for step in facts.first:
        _say(["", batch_line(step)])
        console.print(batch_table(step))
        _say(row_lines(step))
    console.print()
    if gradients:
        _say(difference_lines(check_gradients(run, assignments=assignments)))
    _say(rehearsal_lines(rehearse(run, assignments=assignments)) if rehearsal else [ESTIMATE])


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        console.print(escape(line), soft_wrap=True)


def run_preview(run: Path, rows: int, assignments: Sequence[str]) -> None:
    """Show rows as the model sees them."""
    for shown in preview(run, rows, assignments=assignments):
        windows = f", first of {shown.windows} windows" if shown.windows > 1 else ""
        console.print(f"[bold]{shown.task}[/bold]  {escape(shown.place)}{windows}")
        for sequence in shown.sequences:
            console.print(f"  [dim]reads[/dim]   {escape(sequence)}", soft_wrap=True)
        for name, value in shown.trained:
            console.print(f"  [dim]trains[/dim]  {name}: [green]{escape(value)}[/green]", soft_wrap=True)
        console.print()


def run_evaluate(folder: Path, splits: Sequence[str]) -> None:
    """Score again, and show the scores."""
    known = ("train", "validation", "test")
    wrong = [split for split in splits if split not in known]
    if wrong:
        raise DataError(Fault("--split", "be train, validation or test", f"`{wrong[0]}`", nearest(wrong[0], known)))
    _show_scores(evaluate_run(folder, splits or None))


def run_predict(
    folder: Path, task: str, source: str, out: Path | None, *, calibrated: bool = True, thresholds: bool = False
) -> None:
    """Answer rows from a file, from standard input, or one text."""
    run = Run(folder)
    rows = rows_of(run, task, source)
    if thresholds:
        from taskloom.fairness.thresholds import predict_fairly

        answers = predict_fairly(run, task, rows)
    else:
        answers = run.predict(task, rows, calibrated=calibrated)
    lines = [
        json.dumps({"prediction": answer.value, **answer.detail}, ensure_ascii=False, default=str) for answer in answers
    ]
    if out:
        write_text(out, "".join(f"{line}\n" for line in lines))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))


def run_report(folders: Sequence[Path], out: Path | None) -> None:
    """Write the page."""
    from taskloom.reports import report

    console.print(f"wrote {report(folders, out)}", soft_wrap=True)


def run_doctor() -> None:
    """Show the environment."""
    for key, value in environment().items():
        console.print(f"{key:14} {value if value is not None else 'absent'}")
    console.print()
    for extra, (package, purpose) in EXTRAS.items():
        version = version_of(package)
        state = version or f"absent; `pip install 'taskloom\\[{extra}]'` gives {purpose}"
        console.print(f"extra {extra:8} {package} {state}", soft_wrap=True)
    if bundled_folder() is not None:
        console.print(f"\n`{BUNDLED_NAME}` is here without a network, its digest verified.", soft_wrap=True)


def _show_scores(scores: Sequence[Score]) -> None:
    console.print(score_table(scores))
    first: dict[tuple[str, str], Score] = {}
    for score in scores:
        first.setdefault((score.task, score.split), score)
    verdicts = [beats_baseline(score) for score in first.values() if score.baseline is not None]
    if verdicts:
        console.print(
            f"\n{sum(map(bool, verdicts))} of {len(verdicts)} tasks beat their baseline outside the interval."
        )


def rows_of(run: Run, task: str, source: str) -> list[dict[str, Any]]:
    """Read rows to be answered, their columns brought under the task's own names."""
    _, tasks, _ = run.loaded()
    path = Path(source)
    if source == "-":
        with tempfile.TemporaryDirectory() as folder:
            held = Path(folder) / "standard_input.jsonl"
            held.write_bytes(sys.stdin.buffer.read())
            records = read("source", str(held))["train"]
    elif path.suffix.lower() in {".jsonl", ".json", ".csv", ".parquet"}:
        if not path.is_file():
            raise DataError(Fault("source", "be a file that exists, or a text", f"`{source}`", "Check the path"))
        records = read("source", source)["train"]
    else:
        asked = tasks.get(task)
        wanted = [column for column in asked.columns if column not in asked.answer_columns] if asked else []
        if wanted in (["text"], ["tokens"]):
            return [{wanted[0]: source if wanted == ["text"] else source.split()}]
        if task in tasks:
            requirement = f"be a file of rows with {listed(wanted)}"
            raise DataError(Fault("source", requirement, f"`{source}`", "Write a .jsonl file, or give rows on `-`"))
        return [{"text": source}]
    mapping = read_config(run.record.run_yaml).tasks[task].columns if task in tasks else {}
    return [_renamed(record.row, mapping) for record in records]


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Bring a row under its task's names, by the columns of the run file; answers may be absent."""
    found = {ours: value_at(row, theirs) for ours, theirs in columns.items()}
    taken = set(columns.values())
    return {key: value for key, value in row.items() if key not in taken} | {
        ours: value for ours, value in found.items() if value is not ABSENT
    }
