from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from training_tools import distance, flat, gradients

from plans import plan_of
from taskloom.training.objective import Objective
from taskloom.types import Chunk, Part

pytest_plugins = ("training_fixtures",)

TWO = {"max_steps": 4, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}


class Direct:
    """A task whose loss of an item is its output."""

    def loss(self, output: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        return output


def chunk_of(**losses: list[float]) -> tuple[dict[str, torch.Tensor], Chunk]:
    outputs = {name: torch.tensor(values, dtype=torch.float64, requires_grad=True) for name, values in losses.items()}
    parts = {name: Part(torch.arange(len(values)), [1] * len(values), {}, []) for name, values in losses.items()}
    return outputs, Chunk({}, parts)


def share_of(objective: Objective, outputs: dict[str, torch.Tensor], chunk: Chunk) -> float:
    return float(objective(outputs, chunk)[0].detach())


def objective_of(weights: dict[str, float], expected: dict[str, float]) -> Objective:
    return Objective({name: Direct() for name in weights}, weights, expected)


def test_the_objective_is_the_weighted_mean_of_the_tasks_mean_losses() -> None:
    objective = objective_of({"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 4.0})
    outputs, chunk = chunk_of(a=[1.0, 5.0], b=[2.0, 2.0, 4.0, 8.0])
    share, losses = objective(outputs, chunk)
    assert float(share.detach()) == pytest.approx((1 * 3.0 + 3 * 4.0) / 4)
    assert {name: loss.tolist() for name, loss in losses.items()} == {"a": [1.0, 5.0], "b": [2.0, 2.0, 4.0, 8.0]}
    assert not any(loss.requires_grad for loss in losses.values())


def test_chunks_add_up_to_the_whole() -> None:
    objective = objective_of({"a": 0.5, "b": 2.0}, {"a": 3.0, "b": 1.5})
    whole = share_of(objective, *chunk_of(a=[1.0, 2.0, 3.0], b=[4.0, 5.0]))
    parts = [chunk_of(a=[1.0]), chunk_of(a=[3.0], b=[5.0]), chunk_of(b=[4.0]), chunk_of(a=[2.0])]
    assert sum(share_of(objective, *part) for part in parts) == pytest.approx(whole)


def test_a_micro_batch_of_one_task_keeps_the_tasks_weight() -> None:
    """Where a mean is taken over each micro-batch, the weight of a task that is alone in it cancels."""
    for weight in (0.1, 1.0, 10.0):
        objective = objective_of({"a": weight, "b": 1.0}, {"a": 2.0, "b": 2.0})
        alone_a = share_of(objective, *chunk_of(a=[1.0, 1.0]))
        alone_b = share_of(objective, *chunk_of(b=[1.0, 1.0]))
        assert alone_a / alone_b == pytest.approx(weight)
        assert alone_a + alone_b == pytest.approx(1.0)


def test_doubling_every_weight_changes_nothing() -> None:
    outputs, chunk = chunk_of(a=[1.0, 2.0], b=[7.0])
    once = objective_of({"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 1.0})(outputs, chunk)[0]
    twice = objective_of({"a": 2.0, "b": 6.0}, {"a": 2.0, "b": 1.0})(outputs, chunk)[0]
    assert float(once.detach()) == pytest.approx(float(twice.detach()))


@pytest.mark.parametrize("probabilities", [{"a": 0.5, "b": 0.5}, {"a": 0.9, "b": 0.1}, {"a": 0.05, "b": 0.95}])
def test_how_often_a_task_is_drawn_does_not_change_how_much_its_rows_count(probabilities: dict[str, float]) -> None:
    """Summed over whole epochs, each row's coefficient is the share of a row in the tasks' mean, for any mixture."""
    sizes, weights = {"a": 10, "b": 5}, {"a": 1.0, "b": 2.0}
    steps = 4000
    draws = plan_of(sizes, probabilities, rows=4, steps=steps)
    objective = objective_of(weights, draws.expected(0))
    drawn: Counter[tuple[str, int]] = Counter()
    for index in range(steps):
        drawn.update((name, item) for name, items in draws.micro(index).items.items() for item in items)
    for name, size in sizes.items():
        for item in range(size):
            coefficient = drawn[name, item] * objective.scale[name] / steps
            wanted = weights[name] / 3.0 / size
            # A row is drawn once an epoch, so that it is one draw off at most.
            assert abs(coefficient - wanted) <= objective.scale[name] / steps * 1.001


@pytest.mark.parametrize("limit", [32, 128, 700, 10**6])
def test_the_gradient_of_a_step_does_not_depend_on_how_it_is_cut(
    run_values: dict[str, Any], session_of: Callable[..., Any], limit: int
) -> None:
    session = session_of(run_values, training=TWO)
    steps = session.steps
    steps.limit_tokens = 2048
    whole = gradients(session, [steps[0]])
    steps.limit_tokens = limit
    cut = steps[0]
    assert len(cut.chunks) >= {32: 14, 128: 8, 700: 2, 10**6: 1}[limit]
    session.model.double()
    steps.limit_tokens = 2048
    assert distance(gradients(session, [cut]), gradients(session, [steps[0]])) < 1e-6
    session.model.float()
    assert distance(gradients(session, [cut]), whole) < 1e-4


def test_two_micro_batches_of_some_rows_equal_one_of_all_of_them(
    few_values: dict[str, Any], session_of: Callable[..., Any]
) -> None:
    halves = session_of(few_values, training={**TWO, "gradient_accumulation_steps": 2})
    whole = session_of(few_values, training={**TWO, "per_device_train_batch_size": 12})
    for update in range(2):
        micro = [halves.steps[2 * update], halves.steps[2 * update + 1]]
        together = whole.steps[update]
        rows = [
            sorted(
                (name, item["row"])
                for step in group
                for c in step.chunks
                for name, p in c.parts.items()
                for item in p.items
            )
            for group in (micro, [together])
        ]
        assert rows[0] == rows[1]
        assert distance(gradients(halves, micro), gradients(whole, [together])) < 1e-5


def test_the_gradient_of_a_step_is_the_weighted_sum_of_one_backward_pass_for_each_task(
    run_values: dict[str, Any], session_of: Callable[..., Any]
) -> None:
    for index, name in enumerate(run_values["tasks"]):
        run_values["tasks"][name]["weight"] = 0.25 * 2**index
    session = session_of(run_values, training=TWO)
    step, model, tasks = session.steps[0], session.model.eval().double(), session.prepared.tasks
    total = sum(section.weight for section in session.config.tasks.values())
    wanted: dict[str, torch.Tensor] = {}
    for name, task in tasks.items():
        model.zero_grad()
        loss = torch.zeros((), dtype=torch.float64)
        for chunk in step.chunks:
            if name in chunk.parts:
                loss = loss + task.loss(model(chunk)[name].double(), chunk.parts[name].targets).sum()
        (loss / session.steps.plan.expected(0)[name]).backward()
        for key, parameter in model.named_parameters():
            if parameter.grad is not None:
                weight = session.config.tasks[name].weight / total
                wanted[key] = wanted.get(key, 0) + weight * parameter.grad.clone()
    assert distance(gradients(session, [step]), wanted) < 1e-6


def test_doubling_a_weight_doubles_the_tasks_share_of_the_gradient(
    few_values: dict[str, Any], session_of: Callable[..., Any]
) -> None:
    def share(weight: float) -> torch.Tensor:
        few_values["tasks"]["slots"]["weight"] = weight
        session = session_of(few_values, training=TWO)
        whole = session.objective()
        alone = Objective(session.prepared.tasks, whole.weights, session.steps.plan.expected(0))
        alone.scale = {name: scale if name == "slots" else 0.0 for name, scale in whole.scale.items()}
        rest = Objective(session.prepared.tasks, whole.weights, session.steps.plan.expected(0))
        rest.scale = {name: 0.0 if name == "slots" else scale for name, scale in whole.scale.items()}
        one, other = (flat(gradients(session, [session.steps[0]], each)) for each in (alone, rest))
        torch.testing.assert_close(one + other, flat(gradients(session, [session.steps[0]])), rtol=1e-4, atol=1e-7)
        return one.norm() / other.norm()

    assert float(share(2.0) / share(1.0)) == pytest.approx(2.0, rel=1e-5)
