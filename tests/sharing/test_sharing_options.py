"""Options of sharing schemes: what is wrong is said in one sentence, and what there is is counted rightly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sharing_tools import MODELS, SCHEMES, TASK_OF_ROW, TASKS, checkpointed, inputs_of, installed, row_losses, scheme_of

from taskloom.errors import TaskloomError
from taskloom.model.sharing import SHARINGS, Sharing
from taskloom.room import class_name

NAMES = ["bottleneck", "experts", "groups", "mtl_lora", "per_task", "prefix", "shared_and_task", "task_layers"]


def test_the_room_has_these_schemes_and_knows_their_options() -> None:
    assert SHARINGS.names() == NAMES
    for name in NAMES:
        method = SHARINGS.load(name)
        assert issubclass(method, Sharing)
        assert method.__name__ == class_name(name)
        text = method.__doc__ or ""
        assert text.split("\n\n")[0] == SHARINGS.summary(name)
        assert "Prefer " in text
        assert "Formula: " in text
        for option in SHARINGS.options(name):
            assert f"        {option}: " in text, f"{name} says nothing of `{option}`"


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "no expert": (
        "experts",
        {"experts": 0},
        "`model.sharing.experts` should be a whole number of 1 or more. Found `0`.",
    ),
    "no rank": ("per_task", {"r": 0}, "`model.sharing.r` should be a whole number of 1 or more. Found `0`."),
    "more than all experts": (
        "experts",
        {"top_k": 5},
        "`model.sharing.top_k` should be no more than `experts`. Found `5` of `4` experts.",
    ),
    "an unknown task in a group": (
        "groups",
        {"groups": {"all": ["intent", "slots", "reply", "slot"]}},
        "`model.sharing.groups.all` should name tasks of the run. Found `slot`. Did you mean `slots`?",
    ),
    "a task in no group": (
        "groups",
        {"groups": {"some": ["intent", "slots"]}},
        "`model.sharing.groups` should name each task once. Found `reply` in no group.",
    ),
    "a task in two groups": (
        "groups",
        {"groups": {"one": ["intent", "slots"], "two": ["slots", "reply"]}},
        "`model.sharing.groups` should name each task once. Found `slots` in several places.",
    ),
    "an empty group": (
        "groups",
        {"groups": {"all": list(TASKS), "none": []}},
        "`model.sharing.groups.none` should name one task at least. Found none.",
    ),
    "a module that there is not": (
        "per_task",
        {"target_modules": ["query", "valeu"]},
        "`model.sharing.target_modules` should match linear layers of the backbone. Found `valeu`. "
        "Did you mean `value`?",
    ),
    "no module": (
        "mtl_lora",
        {"target_modules": []},
        "`model.sharing.target_modules` should match linear layers of the backbone. Found none. "
        "`all-linear` takes all of them.",
    ),
    "more layers than there are": (
        "task_layers",
        {"top": 3},
        "`model.sharing.top` should be no more than the layers of the backbone. Found `3` of 2 layers.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_option_is_told_in_one_sentence(case: str) -> None:
    name, options, message = WRONG[case]
    with pytest.raises(TaskloomError) as error:
        scheme_of(name, **options).install(MODELS["bert"](), TASKS)
    assert str(error.value) == message


def test_blocks_that_are_not_known_are_refused_with_the_names_of_layers() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    with pytest.raises(TaskloomError) as error:
        scheme_of("bottleneck").install(model, TASKS)
    assert str(error.value) == (
        "`model.sharing.target_modules` should name the last linear layers of the backbone's attention and "
        "feed-forward blocks. Found no value, and no attention block known here. Its linear layers are `0`, `1`; give "
        "the ends of the names of those."
    )


def test_layers_that_several_tasks_may_not_be_told_apart_in_are_refused_by_name() -> None:
    import transformers

    options = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True}
    config = transformers.DebertaV2Config(
        vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, **options
    )
    model = transformers.DebertaV2Model(config)
    routing = scheme_of("per_task").install(model, TASKS)
    routing.rows([0, 1, 2])
    with pytest.raises(ValueError, match=r"`encoder.layer.0.attention.self.(key|query)_proj` should read the 3 rows"):
        model(input_ids=torch.ones(3, 5, dtype=torch.int64))


def test_the_output_embeddings_are_left_as_they_are() -> None:
    for kind in MODELS:
        model, routing = installed(kind, "per_task")
        assert isinstance(model.get_output_embeddings(), torch.nn.Linear)
        assert not [path for path in routing.layers if path.endswith(("lm_head", "decoder"))]


def test_named_modules_alone_are_adapted() -> None:
    _, routing = installed("llama", "per_task", target_modules=["q_proj", "self_attn.v_proj"])
    assert len(routing.layers) == 4
    assert {path.rpartition(".")[2] for path in routing.layers} == {"q_proj", "v_proj"}


def test_parameters_are_counted_by_whom_they_belong_to() -> None:
    def counts(name: str, **options: Any) -> dict[str, int]:
        return installed("llama", name, target_modules=["gate_proj"], **options)[1].counts()

    layers, width = 2, 16 + 24
    pair = layers * 3 * width
    own = dict.fromkeys(TASKS, 0)
    assert counts("per_task") == {"shared": 0, **dict.fromkeys(own, pair)}
    assert counts("shared_and_task") == {"shared": pair, **dict.fromkeys(own, layers * 2 * width)}
    assert counts("groups") == {"shared": 2 * pair, **own}
    mtl = {"shared": layers * (3 * 16 + 3 * 3 * 24), **dict.fromkeys(own, layers * (9 + 3))}
    assert counts("mtl_lora") == mtl
    assert counts("experts") == {"shared": 4 * pair, **dict.fromkeys(own, layers * 4)}
    assert counts("experts_token") == {"shared": 4 * pair + layers * 4 * 16, **own}
    small = layers * (2 * 5 * 24 + 5 + 24)
    assert counts("bottleneck") == {"shared": 0, **dict.fromkeys(own, small)}
    assert counts("bottleneck_shared") == {"shared": small, **own}


@pytest.mark.parametrize("name", SCHEMES)
def test_counts_are_those_of_the_trained_parameters(name: str) -> None:
    model, routing = installed("t5", name)
    assert sum(routing.counts().values()) == sum(each.numel() for each in model.parameters() if each.requires_grad)


def test_dropout_is_for_training_alone() -> None:
    model, routing = installed("bert", "mtl_lora", lora_dropout=0.5)
    inputs = inputs_of(model, 3)
    routing.rows([0, 1, 2])
    assert not torch.equal(model(**inputs).logits, model(**inputs).logits)
    model.eval()
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)


def test_a_balance_loss_is_least_where_experts_are_used_alike() -> None:
    model, routing = installed("bert", "experts", balance_loss=0.5)
    inputs = inputs_of(model, len(TASK_OF_ROW))
    gates = [each for each in routing.owner if ".of_task." in each]
    losses = []
    for sharpness in (0.0, 10.0):
        with torch.no_grad():
            for each in gates:
                model.get_parameter(each).copy_(torch.tensor([sharpness, 0.0, 0.0, 0.0]))
        routing.rows(TASK_OF_ROW)
        model(**inputs)
        losses.append(routing.losses().item())
        assert routing.losses() is None, "it is given once"
    assert losses == pytest.approx([0.5, 0.5 * 4], rel=1e-3)
    model.eval()
    model(**inputs)
    assert routing.losses() is None


def test_a_balance_loss_reaches_the_gate_through_checkpoints_that_are_not_reentrant() -> None:
    model, routing = installed("bert", "experts_token", balance_loss=0.5)
    inputs = inputs_of(model, len(TASK_OF_ROW))
    gate = model.get_parameter(next(each for each in routing.owner if each.endswith("of_token")))

    def gradient() -> torch.Tensor:
        model.zero_grad()
        routing.rows(TASK_OF_ROW)
        loss = row_losses(model(**inputs).logits).sum()
        (loss * 1e-3 + routing.losses()).backward()
        assert gate.grad is not None
        return gate.grad.clone()

    wanted = gradient()
    checkpointed(model, reentrant=False)
    torch.testing.assert_close(gradient(), wanted)
    checkpointed(model, reentrant=True)
    with pytest.raises(ValueError, match="set `use_reentrant: false`"):
        gradient()


def test_the_load_of_experts_is_told_by_task() -> None:
    model, routing = installed("bert", "experts_both")
    routing.rows([0, 0, 2])
    model(**inputs_of(model, 3))
    load = routing.load()
    assert set(load) == {"intent", "reply"}
    for shares in load.values():
        assert len(shares) == 4
        assert sum(shares) == pytest.approx(1.0, abs=1e-5)
    assert routing.load() == {}, "it begins anew once told"
    _, of_task = installed("bert", "experts_top")
    for shares in of_task.load().values():
        assert sum(shares) == pytest.approx(1.0, abs=1e-5)
    assert set(installed("bert", "mtl_lora")[1].load()) == set(TASKS)
    assert installed("bert", "per_task")[1].load() == {}
