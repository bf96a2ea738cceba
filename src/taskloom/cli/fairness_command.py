"""The command about groups: fairness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from taskloom.cli.app import RunFolder, app


@app.command()
def fairness(
    folder: RunFolder,
    task: Annotated[str, typer.Option(help="The task's name.")],
    group: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A column of the data; repeated, groups are made of all. By default that of `fairness`."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    positive: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The label whose rates are compared; by default each against all others."),
    ] = None,
    swaps: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A YAML file with sets of words, such as `- [he, she]`: which answers flip?"),
    ] = None,
    thresholds: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Fit thresholds by group so that this is alike: demographic_parity, equalized_odds, …"),
    ] = None,
) -> None:
    """Show who is served worse: scores and rates by group, gaps with intervals, answers that flip."""
    from taskloom.cli.fairness import Asked, run_fairness

    run_fairness(folder, Asked(task, group or [], split, positive, swaps, thresholds))
