"""What of a task's gradient reaches the backbone, in plain passes and in one pass that is split by task."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from taskloom.config import load_config
from taskloom.gradients import Engine
from taskloom.model.multitask import ScaledGradient
from taskloom.preparation import prepare
from taskloom.session import Session
from taskloom.types import Chunk

FACTORS = {"intent": 0.25, "slots": 1.0, "reply": 3.0, "similarity": 0.0}
"""Tasks whose heads read one vector, every token, several sequences, and nothing of their own."""

Named = dict[str, Tensor]


@pytest.fixture
def session_of(run_values: dict[str, Any], tmp_path: Path) -> Callable[..., Session]:
    """Make a session over four tasks, with keys of its sections changed; dropout is off."""

    def make(factors: dict[str, float], **changes: dict[str, Any]) -> Session:
        values = deepcopy(run_values)
        values["tasks"] = {
            name: {**values["tasks"][name], "shared_update": factors.get(name, 1.0), "limit_rows": 8}
            for name in FACTORS
        }
        values["training"]["per_device_train_batch_size"] = 8
        for section, changed in changes.items():
            values.setdefault(section, {}).update(changed)
        config = load_config(values)
        session = Session(config, prepare(config), tmp_path / "checkpoints")
        for module in session.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return session

    return make


def chunk_of(session: Session) -> Chunk:
    (chunk,) = session.steps[0].chunks
    assert chunk.parts.keys() == FACTORS.keys()
    return chunk


def losses_of(session: Session, chunk: Chunk, *, half: bool = False) -> Named:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        return session.objective().sums(session.model(chunk), chunk)[0]


def separate(session: Session, *, half: bool = False) -> tuple[dict[str, Named], Named]:
    """Give each task's gradients by a plain backward pass of its own, and the losses."""
    found, losses = {}, {}
    for name in FACTORS:
        session.model.zero_grad()
        loss = losses_of(session, chunk_of(session), half=half)[name]
        loss.backward()
        losses[name] = loss.detach()
        found[name] = {key: p.grad.clone() for key, p in session.model.named_parameters() if p.grad is not None}
    session.model.zero_grad()
    return found, losses


def shared(gradients: Named) -> Tensor:
    """Give the shared gradient as one vector."""
    return torch.cat([value.flatten() for name, value in gradients.items() if name.startswith("backbone.")])


def split(session: Session, *, half: bool = False) -> Tensor:
    """Give all tasks' shared gradients in one pass: [task, param]."""
    balancing = session.balancing()
    names = list(session.config.tasks)
    chunk = chunk_of(session)
    engine = Engine(session.model.backbone.named_parameters(), len(names))
    with engine.step() as step:
        step.rows(*balancing._rows_of(chunk))
        losses = losses_of(session, chunk, half=half)
        step.backward({names.index(name): loss for name, loss in losses.items()})
    assert not engine.uncovered
    session.model.zero_grad()
    return step.jacobian.clone()


@pytest.mark.parametrize("adapter", [None, {"type": "lora", "r": 4}], ids=["full", "lora"])
@pytest.mark.parametrize("how", ["plain", "checkpointed", "half"])
def test_the_shared_gradient_is_scaled_and_that_of_the_head_is_whole(
    session_of: Callable[..., Session], how: str, adapter: dict[str, Any] | None
) -> None:
    half = how == "half"
    one, scaled = (session_of(factors, model={"adapter": adapter}) for factors in ({}, FACTORS))
    for session in (one, scaled):
        session.model.train()
        for name, parameter in session.model.backbone.named_parameters():
            if "lora_B" in name:  # zero at first, which would leave the other factor without a gradient
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
        if how == "checkpointed":
            session.model.activation_checkpointing_enable()
    wanted, losses = separate(one, half=half)
    found, again = separate(scaled, half=half)
    assert losses == again, "values are not touched"
    jacobian = split(scaled, half=half)
    tolerance = 2e-2 if half else 1e-5
    for index, (name, factor) in enumerate(FACTORS.items()):
        whole = shared(wanted[name])
        assert float(whole.norm()) > 0
        assert float((shared(found[name]) - factor * whole).norm()) <= tolerance * max(factor, 1e-6) * float(
            whole.norm()
        )
        assert float((jacobian[index] - factor * whole).norm()) <= tolerance * max(factor, 1e-6) * float(whole.norm())
        heads = {key: value for key, value in wanted[name].items() if key.startswith(f"heads.{name}.")}
        assert bool(heads) == (name != "similarity")
        for key, value in heads.items():
            torch.testing.assert_close(found[name][key], value, rtol=tolerance, atol=1e-7)


def test_a_factor_of_one_adds_nothing_to_the_graph(session_of: Callable[..., Session]) -> None:
    def functions(session: Session) -> set[str]:
        seen, waiting = set(), [loss.grad_fn for loss in losses_of(session, chunk_of(session)).values()]
        while waiting:
            function = waiting.pop()
            if function is not None and function not in seen:
                seen.add(function)
                waiting += [other for other, _ in function.next_functions]
        return {type(function).__name__ for function in seen}

    assert "ScaledGradientBackward" not in functions(session_of({}))
    assert "ScaledGradientBackward" in functions(session_of(FACTORS))


def test_the_gradient_of_the_gradient_is_scaled_too() -> None:
    given = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad((ScaledGradient.apply(given, 0.5) ** 3).sum(), given, create_graph=True)
    torch.testing.assert_close(first, 0.5 * 3 * given**2)
    (second,) = torch.autograd.grad(first.sum(), given)
    # Once for each time that the way back leads through it.
    torch.testing.assert_close(second, 0.25 * 6 * given)
    assert torch.equal(ScaledGradient.apply(given, 0.5), given)


def test_the_engine_knows_the_rows_behind_the_scaling(session_of: Callable[..., Session]) -> None:
    """A head that reads a shared matrix is told its rows, or its gradient would go missing without a word."""
    session = session_of({**FACTORS, "similarity": 1.0})
    names, chunk = list(FACTORS), chunk_of(session)
    matrix = torch.nn.Parameter(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)) / 6)
    heads = {name: head.forward for name, head in session.model.heads.items()}
    for name, head in session.model.heads.items():
        head.forward = lambda hidden, mask, name=name: heads[name](torch.nn.functional.linear(hidden, matrix), mask)
    parameters = [("matrix", matrix), *session.model.backbone.named_parameters()]
    engine = Engine(parameters, len(names))
    for _ in range(2):
        with engine.step() as step:
            step.rows(*session.balancing()._rows_of(chunk))
            losses = losses_of(session, chunk)
            step.backward({names.index(name): loss for name, loss in losses.items()})
    trained = [parameter for _, parameter in parameters if parameter.requires_grad]
    for index, name in enumerate(names):
        given = torch.autograd.grad(losses_of(session, chunk)[name], trained, allow_unused=True)
        wanted = torch.cat(
            [(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(given, trained, strict=True)]
        )
        torch.testing.assert_close(step.jacobian[index], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["equal", "upgrad"])
def test_a_run_of_one_step_moves_the_backbone_by_the_scaled_gradients(
    session_of: Callable[..., Session], method: str
) -> None:
    """Plain descent by one step, in which the Trainer also holds the first gradients against separate passes."""
    factors = {name: factor or 0.5 for name, factor in FACTORS.items()}
    training = {"max_steps": 1, "optim": "sgd", "learning_rate": 0.1, "warmup_steps": 0, "weight_decay": 0.0}
    training |= {"max_grad_norm": 0.0, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    session = session_of(factors, model={"adapter": None}, training=training, balance={"method": method})
    objective = session.objective()
    gradients, _ = separate(session)
    before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    weights: dict[str, float] = dict(objective.preference)
    trainer = session.trainer()
    trainer.train()
    assert not trainer.balancing.balancer.engine.distrusted
    used = {name: held["weight"] for name, held in trainer.step_record["tasks"].items()}
    for name, parameter in session.model.named_parameters():
        if name.startswith("heads."):
            own = name.split(".")[1]
            wanted = objective.scale[own] * gradients[own][name]
        else:
            shares = (used[task] * objective.scale[task] * gradients[task][name] for task in weights)
            wanted = sum(each for each in shares)
        rate = 1.0 if name.startswith("heads.") else 0.1  # heads learn ten times as fast
        torch.testing.assert_close(parameter.detach(), before[name] - rate * wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 1.0])
def test_a_task_that_updates_nothing_shared_leaves_the_others_as_they_were(
    run_values: dict[str, Any], tmp_path: Path, factor: float
) -> None:
    """With a factor of 0, what a task is taught makes no difference but in its own head."""
    place = Path(run_values["tasks"]["urgency"]["data"])
    turned = tmp_path / "turned"
    turned.mkdir()
    for file in place.glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        lines = [json.dumps({**row, "label": -float(row["label"])}) for row in rows]
        (turned / file.name).write_text("\n".join(lines))
    trained = []
    for data in (place, turned):
        values = deepcopy(run_values)
        values["tasks"] = {name: values["tasks"][name] for name in ("intent", "urgency")}
        values["tasks"]["urgency"] |= {"shared_update": factor, "data": str(data)}
        values["training"] |= {"max_steps": 3, "per_device_train_batch_size": 6, "max_grad_norm": 0.0}
        config = load_config(values)
        session = Session(config, prepare(config), tmp_path / "checkpoints")
        session.trainer().train()
        trained.append({name: parameter.detach() for name, parameter in session.model.named_parameters()})
    one, other = trained
    unlike = {name for name, value in one.items() if not torch.equal(value, other[name])}
    assert {name for name in one if name.startswith("heads.urgency.")} <= unlike
    if factor == 0:
        assert all(name.startswith("heads.urgency.") for name in unlike)
    else:
        assert any(name.startswith("backbone.") for name in unlike)
