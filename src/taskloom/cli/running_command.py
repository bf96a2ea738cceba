"""Commands about one run: quickstart, check, preview, train, evaluate, predict, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from taskloom.cli.app import Assignments, RunFile, RunFolder, Source, TaskName, app


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/quickstart"),
    write: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Write the corpus and the run file into this folder, and train nothing."),
    ] = None,
    assignments: Assignments = None,
) -> None:
    """Train seven kinds of task in one small encoder on a generated help desk."""
    from taskloom.cli.commands import run_quickstart

    run_quickstart(out, write, assignments or [])


@app.command()
def check(
    run: RunFile,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Also hold the one-pass gradients against separate passes.")
    ] = False,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Also estimate time and memory: run the longest step and one save.")
    ] = False,
    assignments: Assignments = None,
) -> None:
    """Read the whole run and train nothing: data, labels, lengths, duplicates, padding, draws, the first batches."""
    from taskloom.cli.commands import run_check

    run_check(run, assignments or [], gradients=gradients, rehearsal=rehearse)


@app.command()
def preview(
    run: RunFile,
    rows: Annotated[int, typer.Option(min=1, help="Rows of each task.")] = 2,
    assignments: Assignments = None,
) -> None:
    """Show rows of each task as the model sees them, with what is trained on."""
    from taskloom.cli.commands import run_preview

    run_preview(run, rows, assignments or [])


@app.command()
def train(
    run: RunFile,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The run folder; by default runs/ and the run file's name."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Rehearse: longest step, one evaluation, one save.")
    ] = False,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes", help="Go on with an unfinished run though its data, backbone or packages changed."
        ),
    ] = False,
    assignments: Assignments = None,
) -> None:
    """Train a run to its end, score it and write its report; called again, go on where it stopped."""
    from taskloom.cli.commands import run_rehearsal, run_train

    if dry_run:
        run_rehearsal(run, assignments or [])
    else:
        run_train(run, out or Path("runs") / run.stem, assignments or [], accept_changes=accept_changes)


@app.command()
def evaluate(
    folder: RunFolder,
    split: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="train, validation or test; may be repeated. By default those of the run file."),
    ] = None,
) -> None:
    """Score a finished run again, with intervals."""
    from taskloom.cli.commands import run_evaluate

    run_evaluate(folder, split or [])


@app.command()
def predict(
    folder: RunFolder,
    task: TaskName,
    source: Source,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Write JSON lines there instead of printing them."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Tell probabilities as trained, also where the run was calibrated.")
    ] = False,
    thresholds: Annotated[
        bool, typer.Option("--thresholds", help="Answer by the thresholds of groups that `taskloom fairness` fitted.")
    ] = False,
) -> None:
    """Answer rows of one task with a finished run: one JSON line for each."""
    from taskloom.cli.commands import run_predict

    run_predict(folder, task, source, out, calibrated=not raw, thresholds=thresholds)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="FOLDER...")],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The page; by default report.html in the first folder."),
    ] = None,
) -> None:
    """Write one HTML page about one run or several; it opens without a network."""
    from taskloom.cli.commands import run_report

    run_report(folders, out)
