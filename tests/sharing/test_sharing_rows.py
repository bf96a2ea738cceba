"""Rows of several tasks go through a scheme in one pass as they would go through it task by task."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sharing_tools import (
    MODELS,
    SCHEMES,
    TASK_OF_ROW,
    TASKS,
    assert_near,
    checkpointed,
    gradients,
    inputs_of,
    installed,
    passed,
    picked,
    row_losses,
)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("kind", MODELS)
def test_a_mixed_batch_gives_what_each_task_gives_alone(kind: str, name: str) -> None:
    model, routing = installed(kind, name, dtype=torch.float64)
    inputs, tasks = inputs_of(model, len(TASK_OF_ROW)), torch.tensor(TASK_OF_ROW)
    routing.rows(tasks)
    mixed = model(**inputs).logits
    row_losses(mixed).sum().backward()
    found, summed = gradients(model, routing), {}
    for task in range(len(TASKS)):
        rows = (tasks == task).nonzero().flatten()
        routing.rows(tasks[rows])
        alone = model(**picked(inputs, rows)).logits
        torch.testing.assert_close(mixed[rows], alone, atol=1e-5, rtol=1e-5)
        row_losses(alone).sum().backward()
        for parameter, gradient in gradients(model, routing).items():
            owner = routing.owner[parameter]
            assert owner in {None, TASKS[task]} or not gradient.any(), "a task's own parts are left alone by others"
            summed[parameter] = summed.get(parameter, 0) + gradient
    assert_near(found, summed)


@pytest.mark.parametrize("name", [name for name in SCHEMES if not name.startswith("prefix")])
@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_a_fresh_scheme_changes_nothing(kind: str, name: str) -> None:
    torch.manual_seed(0)
    plain = MODELS[kind]().train()
    model, routing = installed(kind, name, trained=False)
    inputs = inputs_of(model, len(TASK_OF_ROW))
    routing.rows(TASK_OF_ROW)
    torch.testing.assert_close(model(**inputs).logits, plain(**inputs).logits, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_checkpoints_compute_the_same_gradients_again(kind: str, name: str, reentrant: bool) -> None:
    model, routing = installed(kind, name)
    inputs = inputs_of(model, len(TASK_OF_ROW))
    wanted = passed(model, routing, TASK_OF_ROW, inputs)
    found = passed(checkpointed(model, reentrant=reentrant), routing, TASK_OF_ROW, inputs)
    assert_near(found, wanted)


@pytest.mark.parametrize(
    "name", ["per_task", "shared_and_task", "mtl_lora", "experts", "bottleneck", "task_layers", "prefix"]
)
def test_a_task_without_rows_gets_no_gradient_at_all(name: str) -> None:
    model, routing = installed("bert", name)
    routing.rows([0, 2])
    row_losses(model(**inputs_of(model, 2)).logits).sum().backward()
    for parameter, owner in routing.owner.items():
        got = model.get_parameter(parameter).grad is not None
        assert got == (owner != "slots"), "an optimizer must pass over what no row has used"


def test_only_the_parts_of_the_scheme_are_trained() -> None:
    for name in SCHEMES:
        model, routing = installed("t5", name)
        trained = {each for each, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained == set(routing.owner)


@pytest.mark.parametrize("name", ["shared_and_task", "groups", "mtl_lora", "experts_both", "bottleneck", "prefix"])
def test_rows_that_generation_repeats_keep_their_tasks(name: str) -> None:
    model, routing = installed("llama", name)
    inputs = inputs_of(model, 3)
    routing.rows([1, 0, 2])
    once = model(**inputs).logits
    beams = model(**{key: value.repeat_interleave(2, dim=0) for key, value in inputs.items()}).logits
    torch.testing.assert_close(beams, once.repeat_interleave(2, dim=0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["shared_and_task", "prefix"])
@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("beams", [1, 2])
def test_a_mixed_batch_generates_what_each_task_generates_alone(kind: str, name: str, beams: int) -> None:
    model, routing = installed(kind, name)
    model.eval()
    inputs = inputs_of(model, 4)
    del inputs["attention_mask"]
    inputs.pop("decoder_input_ids", None)
    options: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4, "num_beams": beams, "do_sample": False}
    options |= {"pad_token_id": 0, "use_cache": True}
    tasks = torch.tensor([1, 0, 2, 1])
    routing.rows(tasks)
    mixed = model.generate(**inputs, **options)
    for row in range(4):
        routing.rows(tasks[row : row + 1])
        alone = model.generate(**picked(inputs, torch.tensor([row])), **options)
        assert torch.equal(mixed[row], alone[0])


@pytest.mark.parametrize("name", ["per_task", "experts", "task_layers"])
def test_rows_whose_tasks_were_not_said_are_refused(name: str) -> None:
    model, routing = installed("bert", name)
    with pytest.raises(ValueError, match=r"should be said before a forward pass. Found that none was"):
        model(**inputs_of(model, 2))
    routing.rows([0, 1, 2])
    with pytest.raises(ValueError, match=r"should read the 3 rows whose tasks were said, .* shape \(4, 7, 16\)"):
        model(**inputs_of(model, 4))


@pytest.mark.parametrize("name", SCHEMES)
def test_parts_come_back_by_their_names_in_the_backbone(name: str) -> None:
    model, routing = installed("bert", name)
    inputs = inputs_of(model, len(TASK_OF_ROW))
    saved = {each: model.get_parameter(each).detach().clone() for each in routing.owner}
    again, other = installed("bert", name, trained=False)
    _, unexpected = again.load_state_dict(saved, strict=False)
    assert not unexpected
    for each in (routing, other):
        each.rows(TASK_OF_ROW)
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)


def test_rows_are_tasks_that_there_are() -> None:
    _, routing = installed("bert", "per_task")
    with pytest.raises(ValueError, match=r"should hold numbers from 0 to 2. Found `3`"):
        routing.rows(torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"should hold numbers from 0 to 2. Found no row"):
        routing.rows([])


def test_a_cache_of_several_tasks_is_refused_by_task_layers_and_that_of_one_is_not() -> None:
    model, routing = installed("llama", "task_layers")
    model.eval()
    inputs = inputs_of(model, 2)
    routing.rows([0, 1])
    with pytest.raises(ValueError, match=r"without a cache of keys and values. Found a cache"):
        model(**inputs, use_cache=True)
    routing.rows([1, 1])
    cached = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, use_cache=True, pad_token_id=0)
    plain = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, use_cache=False, pad_token_id=0)
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_task_layers_cut_rows_rightly_where_there_are_as_many_rows_as_tokens(kind: str) -> None:
    model, routing = installed(kind, "task_layers")
    inputs = inputs_of(model, 4, tokens=4)
    tasks = torch.tensor([0, 1, 0, 2])
    routing.rows(tasks)
    mixed = model(**inputs).logits
    for row in range(4):
        routing.rows(tasks[row : row + 1])
        alone = model(**picked(inputs, torch.tensor([row]))).logits
        torch.testing.assert_close(mixed[row], alone[0], atol=1e-5, rtol=1e-5)
