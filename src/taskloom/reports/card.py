"""A model card in the Hub's form, from a run folder alone."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from taskloom.config.document import parse_document
from taskloom.record import Record, read_note, write_text
from taskloom.reports.facts import COMPOSITE, RunFacts, ScoreLine, read_run
from taskloom.reports.writing import FILTERS
from taskloom.room import shown

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

FEW_ROWS = 300
"""A test split with fewer rows tells little, and the card says so."""

PIPELINES = {
    "classification": "text-classification",
    "multi_label": "text-classification",
    "pair": "text-classification",
    "regression": "text-classification",
    "token_classification": "token-classification",
    "extractive_qa": "question-answering",
    "similarity": "sentence-similarity",
    "multiple_choice": "multiple-choice",
    "text_to_text": "text-generation",
    "completion": "text-generation",
    "chat": "text-generation",
}
"""Task type -> what the Hub calls it."""

OTHER = "other"
GAP_FILE, CALIBRATION_FILE = "fairness.json", "calibration.json"


def model_card(folder: Path | str, out: Path | None = None, *, license_name: str | None = None) -> Path:
    """Write a model card of a finished run.

    Its head is the metadata that the Hub reads: backbone, tags and every test score. Its body says what the model is,
    which tasks it has, how data was split, how it scores beside a constant answer, what differs between groups, what
    its probabilities are worth, and what is not known. Paths of this machine are left out.

    Args:
        folder: of the run.
        out: the card; README.md beside the model by default.
        license_name: as the Hub names licenses; the card leaves it open where none is given.

    Raises:
        RunFolderError: the folder is no run folder, or of another version.
    """
    record = Record.open(folder)
    name = record.folder.resolve().name
    run = read_run(record.folder, name)
    config = parse_document(run.run_yaml, "run.yaml").values if run.run_yaml else {}
    text = f"---\n{_metadata(run, config, license_name)}\n---\n\n{_body(record, run, config)}"
    path = out or record.model / "README.md"
    write_text(path, text)
    return path


def _metadata(run: RunFacts, config: Mapping[str, Any], license_name: str | None) -> str:
    from huggingface_hub import ModelCardData

    kinds = {task: PIPELINES.get(run.data[task].type, OTHER) for task in run.tasks if task in run.data}
    results = list(_results(run, kinds))
    model = config.get("model") or {}
    data = ModelCardData(
        model_name=run.name if results else None,
        eval_results=results or None,
        base_model=_public(str(model.get("name_or_path", ""))) or None,
        library_name="peft" if model.get("adapter") else "transformers",
        license=license_name,
        pipeline_tag=next(iter(kinds.values()), None) if len(set(kinds.values())) == 1 else None,
        tags=["taskloom", "multi-task", *sorted({kind for kind in kinds.values() if kind != OTHER})],
    )
    return str(data.to_yaml())


def _results(run: RunFacts, kinds: Mapping[str, str]) -> Iterator[EvalResult]:
    """Give every test score as the Hub has it."""
    from huggingface_hub import EvalResult

    for task, lines in run.scores.items():
        for line in lines:
            score = line.score
            if score.value == score.value:  # not NaN
                yield EvalResult(
                    task_type=kinds.get(task, OTHER),
                    dataset_type=task,
                    dataset_name=task,
                    dataset_split=score.split,
                    metric_type=shown(score.metric),
                    metric_value=round(score.value, 6),
                )


def _body(record: Record, run: RunFacts, config: Mapping[str, Any]) -> str:
    model = config.get("model") or {}
    fairness = read_note(record.folder / GAP_FILE).get("tasks", {})
    calibration = read_note(record.folder / CALIBRATION_FILE).get("tasks", {})
    environment = Environment(
        loader=PackageLoader("taskloom.reports", "."),
        autoescape=False,  # noqa: S701 - Markdown; what comes from data is written by `_plain`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({**FILTERS, "plain": _plain, "shown": shown})
    return environment.get_template("card.md.jinja").render(
        run=run,
        backbone=_public(str(model.get("name_or_path", ""))) or "a local backbone",
        adapter=(model.get("adapter") or {}).get("type") if isinstance(model.get("adapter"), dict) else None,
        parameters=record.environment().get("parameters") or {},
        gaps=list(_gaps(fairness)),
        calibration=calibration,
        limits=limits(run, fairness, calibration),
        training=config.get("training") or {},
        composite=COMPOSITE,
    )


def _public(name: str) -> str:
    """Give a backbone's name on the hub, or the last part of a path, which names a machine no more."""
    return name if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) else Path(name).name


def _plain(text: Any) -> str:
    """Write a text that came from data so that Markdown and HTML take nothing in it for their own."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def _gaps(fairness: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the gaps between groups that were looked for, each with whether it is shown."""
    for task, held in fairness.items():
        for entry in held.get("groups", []):
            for gap in entry.get("gaps", []):
                difference = gap["difference"]
                yield {
                    "task": task,
                    "columns": " and ".join(entry["columns"]),
                    "of": gap["of"],
                    "value": difference["value"],
                    "low": difference["low"],
                    "high": difference["high"],
                    "shown": bool(gap.get("shown")),
                }


def limits(run: RunFacts, fairness: Mapping[str, Any], calibration: Mapping[str, Any]) -> list[str]:
    """Say what a user has to know, and what nobody looked at.

    Args:
        run: what the folder says.
        fairness: task -> what was found of groups.
        calibration: task -> what was found of probabilities.
    """
    own = {task: lines[0] for task, lines in run.scores.items()}
    said = [f"`{task}` is no better than a constant answer on its test rows." for task in _weak(own)]
    small = [task for task, line in own.items() if line.score.n < FEW_ROWS]
    if small:
        said.append(
            f"Fewer than {FEW_ROWS} test rows: {', '.join(f'`{task}`' for task in small)}; their scores are rough."
        )
    for task, facts in run.data.items():
        if facts.leaks:
            said.append(f"`{task}` has texts that stand in more than one split ({'; '.join(facts.leaks)}).")
    if not fairness:
        said.append("Nobody compared groups of people, so nothing is known of who is served worse.")
    if not calibration:
        said.append("Probabilities were not calibrated.")
    said.append("It was tested on rows of the kinds it was trained on; on others it may do worse without a sign.")
    return said


def _weak(own: Mapping[str, ScoreLine]) -> Sequence[str]:
    return [task for task, line in own.items() if line.verdict in {"unclear", "worse"}]
