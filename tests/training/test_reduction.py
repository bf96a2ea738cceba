"""What losses are averaged over: each task, each example or each token alike, over the whole optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from torch.nn import functional
from training_tools import Watch, distance, gradients, without_dropout

from taskloom.session import Session
from taskloom.training.objective import Objective
from taskloom.types import Chunk, Part, Step
from two_processes import in_two_processes

pytest_plugins = ("training_fixtures",)

Make = Callable[..., Session]
Values = dict[str, Any]

QUIET = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "max_grad_norm": 0.0}
WEIGHTS = {"intent": 0.5, "slots": 2.0, "urgency": 1.0}
REDUCTIONS = ("task", "example", "token")


class Words:
    """A task whose items have so many terms of one loss each; it chooses among some labels, or among none."""

    def __init__(self, labels: int | None = None) -> None:
        self.labels = labels

    def loss(self, output: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return output

    def terms(self, targets: dict[str, Tensor]) -> Tensor:
        return targets["terms"]

    def choices(self) -> int | None:
        return self.labels


def chunk_of(**items: list[tuple[float, int]]) -> tuple[dict[str, Tensor], Chunk]:
    """Make a chunk of items, each of a mean loss and so many terms."""
    outputs, parts = {}, {}
    for name, held in items.items():
        outputs[name] = torch.tensor([loss for loss, _ in held], dtype=torch.float64)
        terms = torch.tensor([count for _, count in held])
        parts[name] = Part(torch.arange(len(held)), [1] * len(held), {"terms": terms}, [])
    return outputs, Chunk({}, parts)


def step_of(*chunks: Chunk) -> Step:
    return Step(list(chunks), {}, {})


def share(objective: Objective, *parts: tuple[dict[str, Tensor], Chunk]) -> float:
    objective.begin([step_of(chunk) for _, chunk in parts])
    return sum(float(objective(outputs, chunk)[0]) for outputs, chunk in parts)


def objective_of(reduction: str, weights: dict[str, float], expected: dict[str, float], **options: Any) -> Objective:
    return Objective({name: Words() for name in weights}, weights, expected, reduction=reduction, **options)


ITEMS = {"a": [(2.0, 3), (4.0, 1)], "b": [(1.0, 7), (3.0, 2), (5.0, 1)]}
EXPECTED = {"a": 2.0, "b": 3.0}
CLOSED = {
    "task": {"a": (2 + 4) / 2, "b": (1 + 3 + 5) / 3},
    "example": {"a": 2 * (2 + 4) / 5, "b": 2 * (1 + 3 + 5) / 5},
    "token": {"a": 2 * (2 * 3 + 4) / 14, "b": 2 * (7 + 3 * 2 + 5) / 14},
}
"""What each task's term is without its weight."""


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weights", [{"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 3.0}], ids=["alike", "weighted"])
def test_each_reduction_is_its_closed_form(reduction: str, weights: dict[str, float]) -> None:
    wanted = sum(weights[name] * CLOSED[reduction][name] for name in weights) / sum(weights.values())
    assert share(objective_of(reduction, weights, EXPECTED), chunk_of(**ITEMS)) == pytest.approx(wanted)


def test_with_equal_weights_examples_or_tokens_of_all_tasks_count_alike() -> None:
    alike = {"a": 1.0, "b": 1.0}
    by_example = share(objective_of("example", alike, EXPECTED), chunk_of(**ITEMS))
    assert by_example == pytest.approx((2 + 4 + 1 + 3 + 5) / 5)
    by_token = share(objective_of("token", alike, EXPECTED), chunk_of(**ITEMS))
    assert by_token == pytest.approx((2 * 3 + 4 + 1 * 7 + 3 * 2 + 5) / 14)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_how_a_step_is_cut_does_not_matter(reduction: str) -> None:
    objective = objective_of(reduction, {"a": 1.0, "b": 3.0}, EXPECTED)
    whole = share(objective, chunk_of(**ITEMS))
    one = share(objective, chunk_of(a=ITEMS["a"]), chunk_of(b=ITEMS["b"]))
    alone = share(objective, *[chunk_of(**{name: [item]}) for name, held in ITEMS.items() for item in held])
    assert one == pytest.approx(whole)
    assert alone == pytest.approx(whole)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_are_divided_by_the_logarithm_of_how_many_labels_there_are(reduction: str) -> None:
    tasks = {"a": Words(7), "b": Words(None), "c": Words(1)}
    weights, expected = {"a": 1.0, "b": 2.0, "c": 1.0}, {"a": 2.0, "b": 3.0, "c": 1.0}
    items = {**ITEMS, "c": [(6.0, 4)]}
    plain, scaled = (
        Objective(tasks, weights, expected, reduction=reduction, by_choices=by_choices) for by_choices in (False, True)
    )
    divided = {**items, "a": [(loss / math.log(7), terms) for loss, terms in items["a"]]}
    assert share(scaled, chunk_of(**items)) == pytest.approx(share(plain, chunk_of(**divided)))
    assert share(scaled, chunk_of(**items)) != pytest.approx(share(plain, chunk_of(**items)))


def by_micro_batch(weights: dict[str, float], items: dict[str, list[tuple[float, int]]]) -> float:
    """Give the loss of a micro-batch as MFTCoder forms it (arXiv:2311.02303): its tasks' weighted mean.

    Each present task's mean over its own terms, weighted, divided by the weights of the tasks that are present.
    """
    means = {n: sum(loss * c for loss, c in held) / sum(c for _, c in held) for n, held in items.items()}
    return sum(weights[name] * mean for name, mean in means.items()) / sum(weights[name] for name in means)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_task_that_is_alone_in_a_micro_batch_keeps_its_weight_which_a_mean_over_micro_batches_cancels(
    reduction: str,
) -> None:
    alone = [{"a": [(2.0, 3)]}, {"b": [(2.0, 3)]}]
    theirs, ours = [], []
    for weight in (1.0, 10.0):
        weights = {"a": weight, "b": 1.0}
        theirs.append([by_micro_batch(weights, items) for items in alone])
        objective = objective_of(reduction, weights, {"a": 1.0, "b": 1.0})
        parts = [chunk_of(**items) for items in alone]
        objective.begin([step_of(chunk) for _, chunk in parts])
        shares = [float(objective(outputs, chunk)[0]) for outputs, chunk in parts]
        ours.append(shares[0] / shares[1])
    assert theirs[0] == theirs[1], "a weight of 10 changes nothing"
    assert ours == pytest.approx([1.0, 10.0])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_method_is_shown_the_mean_of_what_is_reduced(reduction: str) -> None:
    objective = objective_of(reduction, {"a": 1.0, "b": 3.0}, EXPECTED)
    (outputs, chunk) = chunk_of(**ITEMS)
    sums, _ = objective.sums(outputs, chunk)
    means = {name: float(sums[name]) / count for name, count in objective.counts(chunk).items()}
    by_token = {"a": (2 * 3 + 4) / 4, "b": (7 + 3 * 2 + 5) / 10}
    assert means == pytest.approx(by_token if reduction == "token" else {"a": 3.0, "b": 3.0})


# --- in a run ---------------------------------------------------------------------------------------------------------


def weighted(values: Values) -> Values:
    for name, weight in WEIGHTS.items():
        values["tasks"][name]["weight"] = weight
    return values


def summed(name: str, output: Tensor, targets: dict[str, Tensor], *, tokens: bool) -> tuple[Tensor, int]:
    """Sum a task's losses over tokens or over items by torch's own functions, and count what was summed."""
    if name == "slots":
        tags = targets["tags"]
        each = functional.cross_entropy(output.flatten(0, 1), tags.flatten(), reduction="none").view_as(tags)
        words = (tags != -100).sum(dim=1)
        return (each.sum(), int(words.sum())) if tokens else ((each.sum(dim=1) / words).sum(), len(words))
    if name == "intent":
        return functional.cross_entropy(output, targets["label"], reduction="sum"), len(output)
    return functional.mse_loss(output[:, 0], targets["number"], reduction="sum"), len(output)


def reduced(session: Session, steps: Sequence[Any], reduction: str, logs: dict[str, float]) -> dict[str, Tensor]:
    """Give the gradient of the reduced loss over a whole optimizer step, written out in plain torch."""
    model, total = session.model.eval(), 0
    of_task = dict.fromkeys(WEIGHTS, torch.zeros(()))
    for step in steps:
        for chunk in step.chunks:
            outputs = model(chunk)
            for name, part in chunk.parts.items():
                value, count = summed(name, outputs[name], part.targets, tokens=reduction == "token")
                of_task[name] = of_task[name] + value / logs.get(name, 1.0)
                total += count
    rates = session.steps.plan.expected(0)
    divided = {
        name: value / (rates[name] * len(steps)) if reduction == "task" else len(WEIGHTS) * value / total
        for name, value in of_task.items()
    }
    model.zero_grad()
    loss = sum(WEIGHTS[name] * value for name, value in divided.items()) / sum(WEIGHTS.values())
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def seen_by_the_optimizer(session: Session) -> dict[str, Tensor]:
    session.model.zero_grad()
    watch = Watch()
    session.trainer([watch]).train()
    return watch.gradients[0]


@pytest.mark.parametrize("method", ["equal", "equal recorded"])
@pytest.mark.parametrize(("size", "accumulation"), [(6, 1), (6, 3), (1, 6)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_gradient_is_that_of_the_reduction_over_the_whole_step(
    few_values: Values, session_of: Make, reduction: str, size: int, accumulation: int, method: str
) -> None:
    """Over chunks and micro-batches; with a batch size of 1 each micro-batch holds one task."""
    changes = {**QUIET, "max_steps": 1, "per_device_train_batch_size": size}
    balance = {"reduction": reduction, "record_steps": int(method == "equal recorded")}
    session = session_of(
        weighted(few_values), training={**changes, "gradient_accumulation_steps": accumulation}, balance=balance
    )
    without_dropout(session).steps.limit_tokens = 64
    steps = [session.steps[index] for index in range(accumulation)]
    if size == 1:
        assert {len(chunk.parts) for step in steps for chunk in step.chunks} == {1}
    wanted = reduced(session, steps, reduction, {})
    assert distance(seen_by_the_optimizer(session), wanted) < 1e-5


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_logarithms_of_the_numbers_of_labels_reach_the_optimizer(
    few_values: Values, session_of: Make, reduction: str
) -> None:
    balance = {"reduction": reduction, "scale_by_log_labels": True}
    session = session_of(weighted(few_values), training={**QUIET, "max_steps": 1}, balance=balance)
    without_dropout(session)
    labels = {name: len(session.prepared.tasks[name].labels) for name in ("intent", "slots")}
    assert {name: session.prepared.tasks[name].choices() for name in WEIGHTS} == {**labels, "urgency": None}
    logs = {name: math.log(count) for name, count in labels.items()}
    wanted = reduced(session, [session.steps[0]], reduction, logs)
    assert distance(seen_by_the_optimizer(session), wanted) < 1e-5


def test_reductions_differ_in_a_run(few_values: Values, session_of: Make) -> None:
    found = []
    for reduction in REDUCTIONS:
        session = session_of(weighted(few_values), training=QUIET, balance={"reduction": reduction})
        objective = session.objective()
        objective.begin([session.steps[0]])
        found.append(gradients(session, [session.steps[0]], objective))
    assert distance(found[0], found[2]) > 1e-2
    assert distance(found[1], found[2]) > 1e-2


def test_words_of_a_sentence_are_its_terms(few_values: Values, session_of: Make) -> None:
    session = session_of(few_values)
    rows = session.prepared.corpora["slots"].splits["train"]
    for chunk in session.steps[0].chunks:
        for name, part in chunk.parts.items():
            wanted = [len(rows[item["row"]]["tokens"]) if name == "slots" else 1 for item in part.items]
            assert session.prepared.tasks[name].terms(part.targets).tolist() == wanted


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("method", ["upgrad", "famo"])
def test_a_balance_works_on_every_reduction(few_values: Values, session_of: Make, method: str, reduction: str) -> None:
    """The record's losses are means over examples whatever is reduced, and the run's weights stay finite."""
    balance = {"method": method, "reduction": reduction, "scale_by_log_labels": True}
    session = session_of(weighted(few_values), training={**QUIET, "max_steps": 2}, balance=balance)
    trainer = session.trainer()
    trainer.train()
    assert all(math.isfinite(task["weight"]) for task in trainer.step_record["tasks"].values())
    assert trainer.balancing.balancer.steps == 2


# --- two processes ----------------------------------------------------------------------------------------------------

LINES = [
    {"a": [(2.0, 3), (4.0, 1)], "b": [(1.0, 7)]},
    {"a": [(0.5, 2)]},
    {"b": [(3.0, 2), (5.0, 1)], "a": [(1.5, 11)]},
    {"b": [(2.5, 4)]},
]
"""Micro-batches; the first process has the first two."""


def slopes(reduction: str, lines: list[dict[str, list[tuple[float, int]]]], expected: float) -> list[float]:
    """Give the gradient by a factor of each task's losses."""
    objective = objective_of(reduction, {"a": 1.0, "b": 3.0}, {"a": expected, "b": expected})
    parts = [chunk_of(**items) for items in lines]
    objective.begin([step_of(chunk) for _, chunk in parts])
    factor = torch.ones(2, dtype=torch.float64, requires_grad=True)
    for outputs, chunk in parts:
        objective({name: factor["ab".index(name)] * value for name, value in outputs.items()}, chunk)[0].backward()
    assert factor.grad is not None
    return [float(each) for each in factor.grad]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_mean_of_two_processes_gradients_is_the_gradient_of_one_with_all_micro_batches(
    reduction: str, tmp_path: Path
) -> None:
    def work(rank: int) -> Tensor:
        mine = torch.tensor(slopes(reduction, LINES[2 * rank : 2 * rank + 2], 2.5), dtype=torch.float64)
        distributed.all_reduce(mine)
        return mine / 2

    for found in in_two_processes(work, tmp_path / "two"):
        assert found.tolist() == pytest.approx(slopes(reduction, LINES, 5.0))
