"""Looking before training: what the data is, what the model sees of it, and a rehearsal of the run."""

from __future__ import annotations

import math
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taskloom.batches.plan import Drawn, Plan
from taskloom.batches.steps import Steps
from taskloom.config import Config
from taskloom.curriculum import apply, curriculum_lines, known_difficulty
from taskloom.data.shared_texts import SharedTexts, shared_texts
from taskloom.errors import Fault, ModelError
from taskloom.first_steps import FirstStep, first_steps
from taskloom.gradients import BalancedStep
from taskloom.gradients.verification import Difference
from taskloom.model import load_model
from taskloom.preparation import InMemory, Prepared, prepare
from taskloom.run import ConfigLike, as_config
from taskloom.session import Session
from taskloom.training.arguments import run_length, training_arguments
from taskloom.types import Chunk

SAMPLED_STEPS = 50
"""Steps of the plan that are built to measure padding."""


@dataclass(frozen=True)
class TaskFacts:
    """What is known of one task's data.

    Attributes:
        name: the task's name.
        type: its type.
        rows: split -> rows kept.
        skipped: split -> rows left out.
        made: splits made out of train.
        labels: label -> share of the training rows' labels, most frequent first; empty for numbers and places.
        tokens: 50th, 95th and 100th percentile of a sequence's tokens in training.
        truncated: share of training items that are as long as `max_length` allows.
        draws: training items drawn over the run.
        epochs: how often each training item is seen on average.
        leaks: "a and b" -> rows of b whose text stands in a.
    """

    name: str
    type: str
    rows: dict[str, int]
    skipped: dict[str, int]
    made: list[str]
    labels: dict[str, float]
    tokens: tuple[int, int, int]
    truncated: float
    draws: int
    epochs: float
    leaks: dict[str, int]


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run before it starts.

    Attributes:
        tasks: facts of each task.
        updates: optimizer steps.
        rows: rows of one optimizer step.
        padding_one: share of padding if each micro-batch were one rectangle.
        padding_cut: share of padding as it is cut.
        shared: rows that a task is scored on and another is trained on.
        first: the first micro-batches.
        curriculum: lines that draw which task is trained when.
    """

    tasks: list[TaskFacts]
    updates: int
    rows: int
    padding_one: float
    padding_cut: float
    shared: list[SharedTexts]
    first: list[FirstStep]
    curriculum: list[str] = field(default_factory=list)


def check(config: ConfigLike, *, rows: InMemory | None = None, assignments: Sequence[str] = ()) -> RunFacts:
    """Read a whole run and train nothing; reads no weights.

    Args:
        config: a run file's path, a mapping, or a `Config`.
        rows: task -> rows in memory, as for `taskloom.train`.
        assignments: ``a.b=value`` overrides.

    Raises:
        TaskloomError: with everything that is wrong.
    """
    config = as_config(config, assignments)
    prepared = prepare(config, rows=rows)
    arguments = training_arguments(config.training, Path("unused"), evaluates=False)
    length = run_length(arguments, prepared.training_items(), prepared.rows())
    plan = prepared.plan(length)
    apply(plan.plan, config.curriculum, known_difficulty(config.curriculum, prepared))
    totals = plan.plan.totals()
    facts = [_facts(config, prepared, name, totals[name]) for name in prepared.tasks]
    one, cut = _padding(plan)
    drawn = prepared.rows() * arguments.gradient_accumulation_steps
    shared = shared_texts(prepared.corpora, {name: task.identity_columns for name, task in prepared.tasks.items()})
    ordered = curriculum_lines(config.curriculum, prepared, length.updates)
    return RunFacts(facts, length.updates, drawn, one, cut, shared, first_steps(prepared, plan), ordered)


def _facts(config: Config, prepared: Prepared, name: str, draws: int) -> TaskFacts:
    corpus, items, task = prepared.corpora[name], prepared.items[name]["train"], prepared.tasks[name]
    lengths = items.lengths
    counts: Counter[str] = Counter()
    if hasattr(task, "labels_of"):
        counts.update(str(label) for row in corpus.splits["train"] for label in task.labels_of(row))
    total = sum(counts.values())
    skipped = {split: each.read - each.kept for split, each in corpus.counts.splits.items() if each.read > each.kept}
    return TaskFacts(
        name,
        config.tasks[name].type,
        {split: len(rows) for split, rows in corpus.splits.items()},
        skipped,
        [made.split for made in corpus.made],
        {label: count / total for label, count in counts.most_common()},
        (int(np.percentile(lengths, 50)), int(np.percentile(lengths, 95)), int(lengths.max())),
        float((lengths >= task.max_length).mean()),
        draws,
        draws / len(items),
        {f"{first} and {second}": count for (first, second), count in corpus.leaks.items() if count},
    )


def _padding(plan: Steps) -> tuple[float, float]:
    useful = one = cut = 0
    for index in np.linspace(0, len(plan) - 1, min(SAMPLED_STEPS, len(plan))).astype(int):
        step = plan[int(index)]
        shapes = [chunk.mask.shape for chunk in step.chunks]
        useful += sum(step.tokens.values())
        cut += sum(chunk.inputs["input_ids"].numel() for chunk in step.chunks)
        one += sum(sequences for sequences, _ in shapes) * max(tokens for _, tokens in shapes)
    return 1 - useful / one, 1 - useful / cut


# --- preview ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """One item as the model sees it.

    Attributes:
        task: the task's name.
        place: where the row stands.
        sequences: the input's tokens, special ones included, each sequence as one text.
        trained: what is trained on, as pairs of name and value in the user's terms.
        windows: how many items the row became.
    """

    task: str
    place: str
    sequences: list[str]
    trained: list[tuple[str, str]]
    windows: int


def preview(config: ConfigLike, count: int = 2, *, assignments: Sequence[str] = ()) -> list[Shown]:
    """Show the first `count` training rows of every task as the model sees them."""
    prepared = prepare(as_config(config, assignments), splits=("train",))
    shown = []
    for name, task in prepared.tasks.items():
        corpus, items = prepared.corpora[name], prepared.items[name]["train"]
        owners = items.rows
        for row in range(min(count, len(corpus.splits["train"]))):
            own = [items[int(index)] for index in np.flatnonzero(owners == row)]
            for item in own[:1]:
                sequences = [" ".join(prepared.tokenizer.convert_ids_to_tokens(ids)) for ids in item["input_ids"]]
                trained = task.describe(corpus.splits["train"][row], item)
                shown.append(Shown(name, corpus.places["train"][row], sequences, trained, len(own)))
    return shown


# --- rehearsal ----------------------------------------------------------------------------------------------------


def check_gradients(
    config: ConfigLike, *, rows: InMemory | None = None, assignments: Sequence[str] = ()
) -> list[Difference]:
    """Hold each task's gradient, found in one backward pass, against separate passes on the run's own model and rows.

    Args:
        config: a run file's path, a mapping, or a `Config`.
        rows: task -> rows in memory, as for `taskloom.train`.
        assignments: ``a.b=value`` overrides.

    Returns:
        each shared parameter's difference, the largest first.

    Raises:
        TaskloomError: with everything that is wrong.
    """
    config = as_config(config, assignments)
    prepared = prepare(config, rows=rows)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(config, prepared, Path(folder))
        device, half = session.arguments.device, session.arguments.bf16
        session.model.to(device).train()
        chunks = session.steps[0].to(device).chunks
        chunk = max(chunks, key=lambda each: len(each.parts))

        def forward(chunk: Chunk) -> Mapping[str, Tensor]:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                outputs: Mapping[str, Tensor] = session.model(chunk)
            return outputs

        return session.balancing().verify(chunk, forward, half=half)


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal measured.

    Attributes:
        longest_seconds: of an optimizer step with each task's longest rows.
        usual_seconds: of one with the run's own first rows.
        evaluation_seconds: of one evaluation batch of every task.
        save_seconds: of writing and reading the model.
        memory_bytes: most memory the process held; on a GPU, most that tensors held there.
        run_seconds: estimate for the run: its steps at the usual time, and its evaluations.
        updates: optimizer steps of the run.
        parameters: as `MultiTaskModel.trained_parameters`.
    """

    longest_seconds: float
    usual_seconds: float
    evaluation_seconds: float
    save_seconds: float
    memory_bytes: int
    run_seconds: float
    updates: int
    parameters: dict[str, int]


class _Few(Plan):
    """A plan of a few micro-batches that are drawn already."""

    def __init__(self, plan: Plan, ready: Sequence[Drawn]) -> None:
        vars(self).update(vars(plan))
        self.ready = ready

    def __len__(self) -> int:
        return len(self.ready)

    def micro(self, index: int) -> Drawn:
        return self.ready[index]


def rehearse(config: ConfigLike, *, assignments: Sequence[str] = ()) -> Rehearsal:
    """Run the whole path once: the longest step, a usual one, one evaluation batch, one save and load.

    Nothing is kept; checkpoints go to a temporary folder.

    Raises:
        TaskloomError: whatever the run itself would meet on this path.
    """
    config = as_config(config, assignments)
    prepared = prepare(config)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(config, prepared, Path(folder))
        plan, updates, arguments = session.steps.plan, session.length.updates, session.arguments
        micro = arguments.gradient_accumulation_steps
        longest = _longest(plan, session.steps.items)
        ready = [longest] * micro + [plan.micro(index) for index in range(min(2 * micro, len(plan)))]
        arguments.max_steps, arguments.save_strategy, arguments.eval_strategy = len(ready) // micro, "no", "no"
        arguments.load_best_model_at_end, arguments.report_to = False, []
        session.steps.plan, seconds = _Few(plan, ready), []
        trainer = session.trainer()
        trainer.epoch_steps, trainer.adaptation = len(ready), None
        end_step = trainer._end_step

        def timed(done: BalancedStep) -> None:
            end_step(done)
            seconds.append(trainer.step_record["seconds"])

        trainer._end_step = timed  # type: ignore[method-assign]
        trainer.train()
        evaluation_seconds, evaluation_rows = _evaluate_batch(session)
        save_seconds = _save_and_load(session, Path(folder) / "model")
        usual = min(seconds[1:] or seconds)
        evaluations = _evaluations(config, updates) if session.evaluates else 0
        each = (
            evaluation_seconds / max(evaluation_rows, 1) * _rows(prepared, "validation", config.evaluation.limit_rows)
        )
        last = evaluation_seconds / max(evaluation_rows, 1) * _rows(prepared, "test", None)
        total = usual * updates + evaluations * each + last
        counts = session.model.trained_parameters()
        return Rehearsal(seconds[0], usual, evaluation_seconds, save_seconds, _memory(), total, updates, counts)


def _longest(plan: Plan, items: Mapping[str, Any]) -> Drawn:
    """Draw each task's longest items, as many as the plan draws of it at most in steps all over the run."""
    held = [plan.expected(int(update)) for update in np.linspace(0, plan.updates - 1, SAMPLED_STEPS)]
    most = {name: math.ceil(max(expected[name] for expected in held)) for name in plan.tasks}
    orders = {name: np.argsort(-items[name].lengths, kind="stable") for name in most}
    drawn = {name: [int(index) for index in orders[name][:count]] for name, count in most.items() if count}
    return Drawn(drawn, {name: float(most[name]) for name in drawn}, {})


def _evaluate_batch(session: Session) -> tuple[float, int]:
    started, rows = time.perf_counter(), 0
    for name, items in session.prepared.items.items():
        split = next(split for split in ("validation", "test", "train") if split in items)
        answered, _ = session.answers(name, split, session.arguments.per_device_eval_batch_size)
        rows += len(answered)
    return time.perf_counter() - started, rows


def _save_and_load(session: Session, folder: Path) -> float:
    """Write the model, read it back, and refuse to go on if one number differs."""
    started = time.perf_counter()
    session.save(folder)
    again, _, _ = load_model(folder)
    before, after = session.model.state_dict(), again.state_dict()
    unlike = [key for key in before if not torch.equal(before[key].cpu(), after[key])]
    if unlike:
        raise ModelError(Fault(unlike[0], "be the same after saving and loading", "other numbers"))
    return time.perf_counter() - started


def _evaluations(config: Config, updates: int) -> int:
    steps = config.training["eval_steps"] or config.training["logging_steps"]
    if config.training["eval_strategy"] == "epoch":
        return int(config.training["num_train_epochs"])
    if config.training["eval_strategy"] != "steps":
        return 0
    return int(updates / (steps * updates if steps < 1 else steps))


def _rows(prepared: Prepared, split: str, limit: int | None) -> int:
    return sum(min(len(c.splits.get(split, ())), limit or sys.maxsize) for c in prepared.corpora.values())


def _memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo
