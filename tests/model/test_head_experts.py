"""Experts between the backbone and the heads: what they compute, for whom, and whose gradient each part has."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from splitting_tools import BACKBONES, distance
from taskloom.batches.chunks import Padding, collate
from taskloom.config import load_config
from taskloom.config.schema import HeadExpertsSection
from taskloom.errors import ConfigError, ModelError
from taskloom.gradients import Engine
from taskloom.growth import add_task
from taskloom.model import MultiTaskModel, load_model
from taskloom.model.families import family_of
from taskloom.model.head_experts import HeadExperts, made_head_experts
from taskloom.preparation import prepare
from taskloom.run import train
from taskloom.session import Session
from taskloom.tasks import Task
from taskloom.tasks.classification import Classification
from taskloom.tasks.masked_language_modelling import MaskedLanguageModelling
from taskloom.tasks.pseudo_labels import PseudoLabels
from taskloom.tasks.token_classification import TokenClassification
from taskloom.types import IGNORED, Chunk

TASKS = ("intent", "slots", "reply", "similarity")
"""Tasks whose heads read one vector, every token, several sequences, and nothing of their own."""

EXPERTS = {"experts": 3, "own": 2, "width": 8}
Make = Callable[..., Session]


@pytest.fixture
def session_of(run_values: dict[str, Any], tmp_path: Path) -> Make:
    """Make a session over four tasks with experts, with keys of its sections changed; dropout is off."""

    def make(experts: dict[str, Any] | None = EXPERTS, **changes: dict[str, Any]) -> Session:
        values = deepcopy(run_values)
        values["tasks"] = {name: {**values["tasks"][name], "limit_rows": 8} for name in TASKS}
        values["model"] |= {"head_experts": experts}
        values["training"] |= {"per_device_train_batch_size": 16, "max_steps": 1, "warmup_steps": 0}
        values["training"] |= {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
        for section, changed in changes.items():
            values.setdefault(section, {}).update(changed)
        config = load_config(values)
        session = Session(config, prepare(config), tmp_path / "checkpoints")
        for module in session.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return session

    return make


def experts_of(model: MultiTaskModel) -> HeadExperts:
    assert model.head_experts is not None
    return model.head_experts


def shaken(model: MultiTaskModel) -> MultiTaskModel:
    """Give what begins at zero values that matter."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if name.startswith("head_experts.") or "lora_B" in name or name.endswith("pairs.up"):
            with torch.no_grad():
                parameter.normal_(std=0.3, generator=generator)
    return model


def one_chunk(session: Session, *, packing: bool = False) -> Chunk:
    """Give three items of each task in one rectangle, or the first step's first rectangle of packed rows."""
    if packing:
        return next(each for each in session.steps[0].chunks if each.packing is not None)
    drawn = [(name, session.prepared.items[name]["train"][row]) for name in TASKS for row in range(3)]
    return collate(drawn, session.prepared.tasks, session.prepared.padding)


def outputs_of(model: MultiTaskModel, chunk: Chunk) -> dict[str, Tensor]:
    with torch.inference_mode():
        return model.eval()(chunk)


# --- what is computed -----------------------------------------------------------------------------------------------


def test_fresh_experts_change_no_answer_and_no_head(session_of: Make) -> None:
    with_experts, without = session_of().model, session_of(None).model
    chunk = one_chunk(session_of())
    wanted = outputs_of(without, chunk)
    for name, output in outputs_of(with_experts, chunk).items():
        assert torch.equal(output, wanted[name])
    assert any(not torch.equal(each, wanted[name]) for name, each in outputs_of(shaken(with_experts), chunk).items())


def by_hand(experts: HeadExperts, task: str, hidden: Tensor, mask: Tensor) -> Tensor:
    """Put one row [token, width] through the formula, expert by expert."""
    mean = hidden[mask.bool()].mean(dim=0)
    gate = torch.softmax(experts.gate.of(task) @ mean, dim=0)
    k = experts.narrow
    pairs = [(experts.down[s : s + k], experts.up[:, s : s + k]) for s in range(0, len(experts.down), k)]
    down, up = experts.own_down.of(task), experts.own_up.of(task)
    pairs += [(down[s : s + k], up[:, s : s + k]) for s in range(0, len(down), k)]
    assert len(pairs) == len(gate)
    return hidden + sum(g * (functional.gelu(hidden @ d.T) @ u.T) for g, (d, u) in zip(gate, pairs, strict=True))


def test_each_row_is_what_the_formula_says() -> None:
    torch.manual_seed(0)
    experts = HeadExperts(6, ["a", "b", "c"], ["a", "b", "c"], HeadExpertsSection(experts=2, own=1, width=3)).double()
    for parameter in experts.parameters():
        nn.init.normal_(parameter)
    hidden, mask = torch.randn(4, 5, 6, dtype=torch.float64), torch.ones(4, 5, dtype=torch.int64)
    mask[1, 3:] = mask[3, 1:] = 0
    rows = [2, 0, 0, 1]
    experts.rows(rows)
    found = experts(hidden, mask)
    for row, task in enumerate(rows):
        torch.testing.assert_close(found[row], by_hand(experts, "abc"[task], hidden[row], mask[row]))


@pytest.mark.parametrize("own", [0, 2])
def test_a_mixed_batch_gives_each_task_what_it_gets_alone(session_of: Make, own: int) -> None:
    session = session_of({**EXPERTS, "own": own})
    model, chunk = shaken(session.model), one_chunk(session)
    outputs = outputs_of(model, chunk)
    assert outputs.keys() == set(TASKS)
    for name, part in chunk.parts.items():
        alone = collate([(name, item) for item in part.items], session.prepared.tasks, session.prepared.padding)
        wanted = outputs_of(model, alone)[name]
        held = outputs[name] if outputs[name].shape == wanted.shape else outputs[name][:, : wanted.shape[1]]
        torch.testing.assert_close(held, wanted, rtol=1e-4, atol=1e-5)


def test_packed_rows_get_what_rows_of_one_sequence_get(session_of: Make) -> None:
    session = session_of(batching={"packing": True})
    model = shaken(session.model)
    losses: list[dict[tuple[str, int], Tensor]] = []
    for packing in (True, False):
        session.steps.packing, found = packing, {}
        chunks = session.steps[0].chunks
        assert any(chunk.packing is not None for chunk in chunks) == packing
        for chunk in chunks:
            outputs = outputs_of(model, chunk)
            for name, part in chunk.parts.items():
                own = session.prepared.tasks[name].loss(outputs[name], part.targets)
                found |= {(name, item["row"]): loss for item, loss in zip(part.items, own, strict=True)}
        losses.append(found)
    assert losses[0].keys() == losses[1].keys()
    for key, loss in losses[0].items():
        torch.testing.assert_close(loss, losses[1][key], rtol=1e-4, atol=1e-5)


def placed(model: MultiTaskModel, tasks: dict[str, Task], owners: list[str]) -> MultiTaskModel:
    """Put experts into a model that was built by hand."""
    width = int(model.config.hidden_size)
    model.head_experts = made_head_experts(HeadExpertsSection(**EXPERTS), width, list(tasks), owners)
    return shaken(model)


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2", "t5"])
def test_backbones_of_every_family_have_them(kind: str) -> None:
    torch.manual_seed(0)
    base = BACKBONES[kind](True).eval()
    one, other = TokenClassification(dropout=0.0), TokenClassification(dropout=0.0)
    for task in (one, other):
        task.fit([{"tokens": [], "tags": ["O", "B-x"]}])
        task.family = family_of(base.config)
    tasks: dict[str, Task] = {"one": one, "other": other}
    model = MultiTaskModel(base, tasks).eval()
    items = [{"input_ids": [[5, 6, 7, 8]], "tags": [0, 1, 0, 1]}, {"input_ids": [[9, 10]], "tags": [1, 0]}]
    chunk = collate([("one", items[0]), ("other", items[1])], tasks, Padding(0))
    with torch.inference_mode():
        hidden = model.hidden(chunk)
        placed(model, tasks, ["one", "other"])
        outputs, experts = model(chunk), experts_of(model)
        for row, name in enumerate(tasks):
            read = by_hand(experts, name, hidden[row], chunk.mask[row])
            torch.testing.assert_close(outputs[name][0], model.heads[name].linear(read), rtol=1e-4, atol=1e-5)


def test_tasks_that_read_words_do_not_go_through_them() -> None:
    torch.manual_seed(0)
    base = BACKBONES["bert"](True).eval()
    words, mood = MaskedLanguageModelling(), Classification(dropout=0.0)
    mood.fit([{"text": "", "label": label} for label in "ab"])
    tasks: dict[str, Task] = {"words": words, "mood": mood}
    model = MultiTaskModel(base, tasks).eval()
    masked = {"input_ids": [[4, 5, 6, 7]], "labels": [[IGNORED, 9, IGNORED, 10]], "prompt_tokens": 4}
    chunk = collate([("words", masked), ("mood", {"input_ids": [[7, 8, 9]], "label": 1})], tasks, Padding(0))
    before = outputs_of(model, chunk)
    after = outputs_of(placed(model, tasks, ["mood"]), chunk)
    assert torch.equal(before["words"], after["words"])
    assert not torch.allclose(before["mood"], after["mood"])
    assert experts_of(model).own_parameters("words") == []
    sum(each.sum() for each in model(chunk).values()).backward()
    assert all(parameter.grad is not None for parameter in experts_of(model).parameters())
    model.zero_grad()
    model(collate([("words", masked)], tasks, Padding(0)))["words"].sum().backward()
    assert all(parameter.grad is None for parameter in experts_of(model).parameters())


def test_a_task_that_shares_a_head_shares_its_gate_and_its_own_experts() -> None:
    torch.manual_seed(0)
    intent, more = Classification(dropout=0.0), PseudoLabels(of="intent")
    intent.fit([{"text": "", "label": label} for label in "ab"])
    more.share(intent)
    tasks: dict[str, Task] = {"more": more, "intent": intent}
    from transformers import AutoModel

    model = MultiTaskModel(AutoModel.from_config(BACKBONES["bert"](True).config), tasks).eval()
    placed(model, tasks, ["intent"])
    ids = {"input_ids": [[5, 6, 7]]}
    found = []
    for name in tasks:
        chunk = collate([("intent", {**ids, "label": 0})], tasks, Padding(0))
        chunk.parts = {name: chunk.parts["intent"]}
        found.append(outputs_of(model, chunk)[name])
    assert torch.equal(*found)


# --- whose gradient -------------------------------------------------------------------------------------------------


def losses_of(session: Session, chunk: Chunk) -> dict[str, Tensor]:
    return session.objective().sums(session.model(chunk), chunk)[0]


def separate(session: Session, chunk: Chunk, parameters: list[nn.Parameter]) -> dict[str, Tensor]:
    """Give each task's gradient by a plain backward pass of its own, as one vector."""
    found = {}
    for name, loss in losses_of(session, chunk).items():
        given = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        flat = [torch.zeros_like(p) if g is None else g for g, p in zip(given, parameters, strict=True)]
        found[name] = torch.cat([each.flatten() for each in flat])
    return found


LORA = {"type": "lora", "r": 4}
KINDS: dict[str, dict[str, Any]] = {
    "full": {"adapter": None},
    "lora": {"adapter": LORA},
    "without own": {"adapter": LORA, "head_experts": {**EXPERTS, "own": 0}},
    "mixture of LoRA": {"adapter": None, "sharing": {"scheme": "experts", "experts": 2, "r": 2}},
    "nothing else shared": {"adapter": None, "sharing": {"scheme": "per_task", "r": 2}},
}


@pytest.mark.parametrize(("kind", "packing"), [*((kind, False) for kind in KINDS), ("full", True), ("lora", True)])
def test_one_pass_gives_what_a_pass_for_each_task_gives(session_of: Make, kind: str, packing: bool) -> None:
    session = session_of(model={"head_experts": EXPERTS, **KINDS[kind]}, batching={"packing": packing})
    model, names = shaken(session.model).train(), list(TASKS)
    model.shared_updates["slots"] = 0.5
    chunk = one_chunk(session, packing=packing)
    shared = [(name, each) for name, each in model.shared_parameters() if each.requires_grad]
    assert {"head_experts.down", "head_experts.up"} <= {name for name, _ in shared}
    wanted = separate(session, chunk, [each for _, each in shared])
    private = {name: model.private_parameters(name) for name in names}
    own = {name: separate(session, chunk, held)[name] for name, held in private.items() if name in wanted and held}
    engine = Engine(model.shared_parameters(), len(names))
    with engine.step() as step:
        step.rows(*session.balancing()._rows_of(chunk))
        step.backward({names.index(name): loss for name, loss in losses_of(session, chunk).items()})
    assert not engine.uncovered, "every use of a shared parameter has a rule"
    assert len(wanted) > 1
    for name, gradient in wanted.items():
        assert float(gradient.norm()) > 0
        assert distance(step.jacobian[names.index(name)], gradient) < 1e-5
    for name, gradient in own.items():
        given = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in private[name]])
        assert distance(given, gradient) < 1e-5


def test_a_task_without_rows_leaves_its_own_parts_alone(session_of: Make) -> None:
    session = session_of()
    model = shaken(session.model)
    drawn = [("intent", session.prepared.items["intent"]["train"][row]) for row in range(2)]
    chunk = collate(drawn, session.prepared.tasks, session.prepared.padding)
    losses_of(session, chunk)["intent"].backward()
    experts = experts_of(model)
    assert all(bool(parameter.grad.any()) for parameter in experts.own_parameters("intent"))
    assert all(parameter.grad is None for name in TASKS[1:] for parameter in experts.own_parameters(name))
    assert all(bool(parameter.grad.any()) for _, parameter in experts.common_parameters())


@pytest.mark.parametrize("sharing", [None, {"scheme": "shared_and_task", "r": 2, "task_r": 1}], ids=["none", "scheme"])
def test_every_trained_parameter_is_shared_or_one_task_s_own(session_of: Make, sharing: Any) -> None:
    changed = {} if sharing is None else {"adapter": None, "sharing": sharing}
    model = session_of(model={"head_experts": EXPERTS, **changed}).model
    held = [each for _, each in model.shared_parameters() if each.requires_grad]
    held += [each for name in TASKS for each in model.private_parameters(name) if each.requires_grad]
    assert len({id(each) for each in held}) == len(held)
    assert {id(each) for each in held} == {id(each) for each in model.parameters() if each.requires_grad}


def test_parameters_are_counted_by_part(session_of: Make) -> None:
    model = session_of().model
    counts, width, k = model.trained_parameters(), 32, EXPERTS["width"]
    assert counts["head experts"] == 2 * EXPERTS["experts"] * k * width
    own = 2 * EXPERTS["own"] * k * width + (EXPERTS["experts"] + EXPERTS["own"]) * width
    assert [counts[f"head experts {name}"] for name in TASKS] == [own] * len(TASKS)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert counts["trained"] + sum(value for key, value in counts.items() if key.startswith("head ")) == trained


def test_experts_are_trained_at_the_run_s_rate_and_heads_at_their_own(session_of: Make) -> None:
    session = session_of(model={"head_experts": EXPERTS, "head_learning_rate": 0.5})
    optimizer = session.trainer().create_optimizer()
    rates = {id(each): group["lr"] for group in optimizer.param_groups for each in group["params"]}
    assert {rates[id(each)] for each in experts_of(session.model).parameters()} == {1e-3}
    assert {rates[id(each)] for each in session.model.heads.parameters()} == {0.5}


# --- runs -----------------------------------------------------------------------------------------------------------


def of_three(run_values: dict[str, Any], experts: dict[str, Any]) -> dict[str, Any]:
    kept = ("intent", "slots", "reply")
    run_values["tasks"] = {name: run_values["tasks"][name] | {"limit_rows": 12} for name in kept}
    run_values["model"]["head_experts"] = experts
    run_values["training"]["per_device_train_batch_size"] = 6
    return run_values


@pytest.mark.parametrize("method", ["equal", "upgrad"])
def test_a_run_is_trained_saved_and_read_back_bit_for_bit(
    run_values: dict[str, Any], tmp_path: Path, method: str
) -> None:
    values = of_three(run_values, {**EXPERTS, "dropout": 0.1})
    values["training"] |= {
        "max_steps": 3,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
    }
    values["balance"] = {"method": method, "record_steps": 1 if method == "upgrad" else 0}
    run = train(values, tmp_path / "run")
    model, _, _ = run.loaded()
    experts = experts_of(model)
    for name, parameter in experts.named_parameters():
        assert torch.isfinite(parameter).all()
        assert bool(parameter.any()), f"{name} has been trained"
    weights = load_file(str(run.record.model / "head_experts.safetensors"))
    held = experts.state_dict()
    assert weights.keys() == held.keys()
    assert all(torch.equal(value, held[name]) for name, value in weights.items())
    assert {score.task for score in run.scores} == {"intent", "slots", "reply", "composite"}
    if method == "upgrad":
        record = [json.loads(line) for line in run.record.steps_jsonl.read_text().splitlines()]
        assert any("head_experts" in json.dumps(row.get("conflict", {})) for row in record)


def test_what_was_saved_answers_as_before(session_of: Make, tmp_path: Path) -> None:
    session = session_of()
    session.trainer().train()
    chunk = one_chunk(session)
    wanted = outputs_of(session.model, chunk)
    session.save(tmp_path / "model")
    again, _, _ = load_model(tmp_path / "model")
    assert all(torch.equal(output, wanted[name]) for name, output in outputs_of(again, chunk).items())


def test_a_model_without_its_experts_is_refused(session_of: Make, tmp_path: Path) -> None:
    session_of().save(tmp_path / "model")
    path = tmp_path / "model" / "head_experts.safetensors"
    weights = load_file(str(path))
    save_file(dict(list(weights.items())[1:]), str(path))
    with pytest.raises(ModelError, match="hold the weights of this model"):
        load_model(tmp_path / "model")
    path.unlink()
    with pytest.raises(ModelError, match="hold the weights of this model"):
        load_model(tmp_path / "model")


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ({"experts": 0}, ".experts` should be at least 1. Found `0`."),
        ({"own": -1}, ".own` should be at least 0. Found `-1`."),
        ({"width": 0}, ".width` should be at least 1. Found `0`."),
        ({"dropout": 1.0}, ".dropout` should be less than 1. Found `1.0`."),
        ({"expert": 2}, ".expert` should be a key that Taskloom knows. Found `expert`. Did you mean `experts`?"),
        (4, "` should be a mapping. Found `4`."),
    ],
)
def test_a_wrong_option_is_told_in_a_sentence(run_values: dict[str, Any], experts: Any, message: str) -> None:
    run_values["model"]["head_experts"] = experts
    with pytest.raises(ConfigError) as raised:
        load_config(run_values)
    (fault,) = raised.value.faults
    assert str(fault) == f"config: `model.head_experts{message}"


def test_nothing_but_the_name_asks_for_the_usual_ones(run_values: dict[str, Any]) -> None:
    run_values["model"]["head_experts"] = {}
    config = load_config(run_values)
    assert config.model.head_experts == HeadExpertsSection(experts=4, own=0, width=64, dropout=0.0)
    assert load_config(config.resolved()).resolved() == config.resolved()


def test_a_run_of_words_alone_has_no_use_for_them() -> None:
    with pytest.raises(ModelError) as raised:
        made_head_experts(HeadExpertsSection(), 32, ["words"], [])
    assert str(raised.value) == (
        "`model.head_experts` should stand beside a task with a head, which reads hidden states. "
        "Found tasks that read words alone. Leave it out."
    )


def test_a_task_is_not_added_to_a_run_with_experts(run_values: dict[str, Any], tmp_path: Path, tiny_data: Path) -> None:
    values = of_three(run_values, EXPERTS)
    values["training"] |= {
        "max_steps": 1,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
    }
    train(values, tmp_path / "run")
    new = {"tasks": {"topics": {"type": "multi_label", "data": str(tiny_data / "topics"), "max_length": 96}}}
    with pytest.raises(ModelError) as raised:
        add_task(tmp_path / "run", new, tmp_path / "grown")
    assert str(raised.value) == (
        "`model.head_experts` should be left out of a run that tasks are added to. "
        "Found a gate for each task of the run alone. Train a run of all tasks together."
    )
    assert not (tmp_path / "grown").exists()
