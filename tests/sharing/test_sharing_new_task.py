"""A task that is added later trains parts of its own and changes no other task by a bit."""

from __future__ import annotations

import pytest
import torch
from sharing_tools import PLAIN, SCHEMES, TASK_OF_ROW, inputs_of, installed, move, row_losses

from taskloom.errors import ConfigError

WITHOUT_OWN = {"experts_token", "bottleneck_shared", "prefix_shared"}
"""Schemes in which a task has nothing of its own."""


@pytest.mark.parametrize("like", [None, "slots"])
@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_a_new_task_leaves_the_others_as_they_are(kind: str, name: str, like: str | None) -> None:
    model, routing = installed(kind, name)
    model.eval()
    inputs, before = inputs_of(model, len(TASK_OF_ROW)), dict(model.named_parameters())
    bytes_before = {each: parameter.detach().clone() for each, parameter in before.items()}
    routing.rows(TASK_OF_ROW)
    wanted = model(**inputs).logits
    routing.add_task("tone", like)
    assert set(routing.owner.values()) == (set() if name in WITHOUT_OWN else {"tone"})
    move(model, routing)
    routing.rows(TASK_OF_ROW)
    assert torch.equal(model(**inputs).logits, wanted)
    routing.rows([3, *TASK_OF_ROW[1:]])
    beside_it = model(**inputs).logits[1:]
    if name == "task_layers":  # whose products of one row less may be summed in another order
        torch.testing.assert_close(beside_it, wanted[1:], atol=1e-6, rtol=1e-6)
    else:
        assert torch.equal(beside_it, wanted[1:])
    after = dict(model.named_parameters())
    for each, value in bytes_before.items():
        assert torch.equal(after[each], value)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_new_task_that_begins_like_another_gives_what_that_gives(name: str) -> None:
    model, routing = installed("llama", name)
    inputs = inputs_of(model, 2)
    routing.rows([1, 1])
    wanted = model(**inputs).logits
    routing.add_task("tone", "slots")
    routing.add_task("style", "tone")
    for number in (3, 4):
        routing.rows([number, number])
        torch.testing.assert_close(model(**inputs).logits, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(SCHEMES) - WITHOUT_OWN))
def test_a_new_task_alone_is_trained(name: str) -> None:
    model, routing = installed("bert", name)
    routing.add_task("tone")
    routing.rows([0, 3])
    row_losses(model(**inputs_of(model, 2)).logits).sum().backward()
    got = {each for each, parameter in model.named_parameters() if parameter.grad is not None}
    assert got == set(routing.owner) == {each for each, owner in routing.owner.items() if owner == "tone"}


@pytest.mark.parametrize("name", PLAIN)
def test_a_new_task_is_written_as_a_plain_adapter_too(name: str) -> None:
    _, routing = installed("bert", name)
    routing.add_task("tone", "slots")
    old, new = routing.plain_lora("slots"), routing.plain_lora("tone")
    for key in old.state:
        if key.endswith("lora_A.weight"):
            up = key.replace("lora_A", "lora_B")
            torch.testing.assert_close(new.state[up] @ new.state[key], old.state[up] @ old.state[key])


def test_a_new_task_has_a_new_name_and_begins_like_one_that_there_is() -> None:
    _, routing = installed("bert", "per_task")
    with pytest.raises(ConfigError, match=r"`slots` should be the name of a new task. Found `slots`, which is there"):
        routing.add_task("slots")
    with pytest.raises(ConfigError, match=r"`like` should name a task of the model. Found `slot`."):
        routing.add_task("tone", "slot")
    assert routing.tasks == ["intent", "slots", "reply"]
