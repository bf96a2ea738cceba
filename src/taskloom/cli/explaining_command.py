"""Commands about why an answer is what it is: explain and influence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from taskloom.cli.app import RunFolder, Source, TaskName, app


@app.command()
def explain(
    folder: RunFolder,
    task: TaskName,
    source: Source,
    method: Annotated[str, typer.Option(help="integrated_gradients or leave_one_out.")] = "integrated_gradients",
    rows: Annotated[int, typer.Option(min=1, help="How many rows of the source, from its beginning.")] = 20,
    word: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option(help="Of tagging: the number of a word, from 0, whose tag is explained; may be repeated."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The file of JSON lines; by default explanations/TASK.jsonl in the run folder."),
    ] = None,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Also explain with random weights, and say how alike that is.")
    ] = False,
) -> None:
    """Show how much each word adds to the answers of one task, and write it down."""
    from taskloom.cli.explaining import run_explain

    run_explain(folder, task, source, method, rows, word, out, sanity=sanity)


@app.command()
def influence(
    folder: RunFolder,
    task: TaskName,
    source: Source,
    rows: Annotated[int, typer.Option(min=1, help="How many rows of the source, from its beginning.")] = 5,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The file of JSON lines; by default influence/TASK.jsonl in the run folder."),
    ] = None,
) -> None:
    """Show which tasks' training would help or harm the answers to some rows, by products of gradients."""
    from taskloom.cli.explaining import run_influence

    run_influence(folder, task, source, rows, out)
