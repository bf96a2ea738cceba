"""What a scheme is to one task loads in peft, without anything of ours."""

from __future__ import annotations

import peft
import pytest
import torch
from sharing_tools import MODELS, PLAIN, TASKS, inputs_of, installed

from taskloom.errors import ConfigError, ModelError


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("kind", MODELS)
def test_a_tasks_part_is_a_lora_that_peft_loads(kind: str, name: str) -> None:
    model, routing = installed(kind, name)
    model.eval()
    inputs = inputs_of(model, 3)
    for number, task in enumerate(TASKS):
        routing.rows([number] * 3)
        wanted = model(**inputs).logits
        plain = routing.plain_lora(task)
        torch.manual_seed(0)
        config = peft.LoraConfig(r=plain.r, lora_alpha=plain.lora_alpha, target_modules=plain.target_modules)
        adapted = peft.get_peft_model(MODELS[kind](), config).eval()
        loaded = peft.set_peft_model_state_dict(adapted, plain.state)
        assert not loaded.unexpected_keys
        assert not [key for key in loaded.missing_keys if "lora" in key]
        torch.testing.assert_close(adapted(**inputs).logits, wanted, atol=1e-5, rtol=1e-5)


def test_the_rank_of_a_plain_adapter_is_that_of_its_factors_side_by_side() -> None:
    ranks = {name: installed("bert", name)[1].plain_lora("slots").r for name in PLAIN}
    assert ranks == {"per_task": 3, "shared_and_task": 5, "groups": 3, "mtl_lora": 3, "experts": 12, "experts_top": 12}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("experts_token", "gates that look at each token"),
        ("experts_both", "gates that look at each token"),
        ("bottleneck", "a bottleneck, which is not linear"),
        ("task_layers", "whole layers of each task"),
        ("prefix", "prefixes of attention"),
    ],
)
def test_what_is_no_lora_to_a_task_is_not_written_as_one(name: str, found: str) -> None:
    _, routing = installed("bert", name)
    with pytest.raises(ModelError) as error:
        routing.plain_lora("slots")
    assert str(error.value) == (
        "`model.sharing.scheme` should be a scheme whose parts are one LoRA to a task, to be written as a plain "
        f"adapter. Found {found}."
    )


def test_a_plain_adapter_is_of_a_task_that_there_is() -> None:
    _, routing = installed("bert", "per_task")
    with pytest.raises(ConfigError, match=r"`task` should name a task of the model. Found `slot`"):
        routing.plain_lora("slot")
