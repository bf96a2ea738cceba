"""The command line: `taskloom COMMAND`. Commands import what they need when they run, so that help is instant."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from taskloom import __version__
from taskloom.errors import TaskloomError

app = typer.Typer(
    name="taskloom",
    help="Fine-tune one language model on many tasks at once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunFile = Annotated[Path, typer.Argument(help="The run file (YAML).", metavar="RUN.yaml")]
RunFolder = Annotated[Path, typer.Argument(help="The run folder.", metavar="FOLDER")]
Assignments = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this form
    typer.Option("--set", metavar="A.B=VALUE", help="Override a key of the run file; may be repeated."),
]


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    if debug:
        os.environ["TASKLOOM_DEBUG"] = "1"
    if version:
        typer.echo(f"taskloom {__version__}")
        raise typer.Exit


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
    task: Annotated[str, typer.Argument(help="The task's name.")],
    source: Annotated[
        str, typer.Argument(help="A .jsonl, .csv or .parquet file, - for JSON lines on standard input, or a text.")
    ],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Write JSON lines there instead of printing them."),
    ] = None,
) -> None:
    """Answer rows of one task with a finished run: one JSON line for each."""
    from taskloom.cli.commands import run_predict

    run_predict(folder, task, source, out)


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


@app.command(name="add-task")
def add_task(
    run: RunFolder,
    task: Annotated[Path, typer.Argument(help="The file of one new task (YAML).", metavar="TASK.yaml")],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The new run folder; by default beside the run, named after both."),
    ] = None,
    init_from: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--init-from", help="A task whose parts it begins with; auto for the most related one."),
    ] = None,
    proof: Annotated[bool, typer.Option(help="Compare the outputs of the other tasks bit by bit.")] = True,
    assignments: Assignments = None,
) -> None:
    """Train one more task on a finished run, whose other tasks answer as before to the bit."""
    from taskloom.cli.growing import run_add_task

    run_add_task(run, task, out, init_from, assignments or [], prove=proof)


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders of finished runs.", metavar="FOLDER...")],
    out: Annotated[Path, typer.Option(help="The merged run's folder.")],
    method: Annotated[
        str, typer.Option(help="linear, ties, dare_linear, dare_ties, task_arithmetic, cat or svd.")
    ] = "linear",
    weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="One number for each run, with commas between; by default alike."),
    ] = None,
    density: Annotated[float, typer.Option(help="Share of entries that ties and dare keep.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of what dare drops.")] = 0,
) -> None:
    """Merge the adapters of runs on one backbone into a run with the tasks of all."""
    from taskloom.cli.growing import run_merge

    run_merge(folders, out, method, weights, density, seed)


@app.command(name="list")
def list_(
    room: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="tasks, metrics, mixtures or balance; by default all."),
    ] = None,
) -> None:
    """List task types, metrics, mixtures and balancing methods, each in one sentence."""
    from taskloom.cli.listing import run_list

    run_list(room)


@app.command()
def doctor() -> None:
    """Show versions, devices, and which extras are missing and what they would give."""
    from taskloom.cli.commands import run_doctor

    run_doctor()


@app.command()
def schema() -> None:
    """Print the JSON Schema of a run file, for editors that complete and check YAML."""
    import json

    from taskloom.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def main() -> None:
    """Run the command line; the user's faults end with 2, our own with 1, an interruption with 130, by typer."""
    # So that `my_tasks:Triage` finds my_tasks.py here; last, so that nothing here hides an installed package.
    sys.path.append(str(Path.cwd()))
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # where it is installed, it warns at every command
    try:
        app()
    except TaskloomError as error:
        if os.environ.get("TASKLOOM_DEBUG"):
            raise
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if os.environ.get("TASKLOOM_DEBUG"):
            raise
        text = f"Taskloom met a fault of its own: {type(error).__name__}: {error}"
        typer.echo(f"{text}\nCall again as `taskloom --debug …` for the traceback.", err=True)
        sys.exit(1)
