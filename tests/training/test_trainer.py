"""What the Trainer relies on in the installed transformers, hook by hook."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_tools import Watch, distance, flat, gradients, trained, without_dropout

from taskloom.errors import NonFiniteLossError
from taskloom.session import Session
from taskloom.types import Step

pytest_plugins = ("training_fixtures",)

Make = Callable[..., Session]
Values = dict[str, Any]

QUIET = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "max_grad_norm": 0.0}


def fit(session: Session) -> tuple[Any, Watch]:
    watch = Watch()
    trainer = session.trainer([watch])
    trainer.train()
    return trainer, watch


@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_gradient_that_the_optimizer_sees_is_that_of_the_objective(
    few_values: Values, session_of: Make, accumulation: int
) -> None:
    changes = {**QUIET, "max_steps": 1, "gradient_accumulation_steps": accumulation}
    session = without_dropout(session_of(few_values, training=changes))
    wanted = gradients(session, [session.steps[index] for index in range(accumulation)])
    session.model.zero_grad()
    _, watch = fit(session)
    assert distance(watch.gradients[0], wanted) < 1e-5
    assert watch.substeps == accumulation - 1


def test_training_step_is_called_once_for_each_micro_batch_of_the_plan(few_values: Values, session_of: Make) -> None:
    session = session_of(few_values, training={**QUIET, "max_steps": 3, "gradient_accumulation_steps": 2})
    trainer, seen = session.trainer(), []
    step_of = trainer.training_step

    def spy(model: Any, inputs: Step, count: Any = None) -> torch.Tensor:
        assert isinstance(inputs, Step)
        assert count is None
        seen.append(inputs)
        return step_of(model, inputs, count)

    trainer.training_step = spy
    trainer.train()
    assert [step.examples for step in seen] == [session.steps[index].examples for index in range(6)]
    assert [step.tokens for step in seen] == [session.steps[index].tokens for index in range(6)]


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("length", [{"max_steps": 15}, {"num_train_epochs": 3.0, "max_steps": -1}])
def test_each_row_is_trained_on_equally_often_over_whole_epochs(
    run_values: Values, session_of: Make, length: Values, accumulation: int
) -> None:
    run_values["tasks"] = {"intent": run_values["tasks"]["intent"]}
    changes = {**QUIET, **length, "per_device_train_batch_size": 8 // accumulation}
    session = session_of(run_values, training={**changes, "gradient_accumulation_steps": accumulation})
    trainer, drawn = session.trainer(), []
    step_of = trainer.training_step

    def spy(model: Any, inputs: Step, count: Any = None) -> torch.Tensor:
        drawn.append([item["row"] for chunk in inputs.chunks for item in chunk.parts["intent"].items])
        return step_of(model, inputs, count)

    trainer.training_step = spy
    trainer.train()
    assert trainer.state.global_step == 15
    assert trainer.state.epoch == pytest.approx(3.0)
    flat_rows = [row for rows in drawn for row in rows]
    assert Counter(flat_rows) == dict.fromkeys(range(40), 3)
    epochs = [flat_rows[start : start + 40] for start in (0, 40, 80)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_a_run_of_part_of_an_epoch_is_as_long_as_transformers_says(few_values: Values, session_of: Make) -> None:
    session = session_of(few_values, training={**QUIET, "max_steps": -1, "num_train_epochs": 0.11})
    trainer, watch = fit(session)
    assert watch.steps == list(range(1, session.length.updates + 1))
    assert session.length.updates == 3  # 120 rows in steps of 6, 0.11 of them, rounded up
    assert trainer.state.max_steps == 3


def test_an_evaluation_is_told_to_callbacks_once_with_the_composite(few_values: Values, session_of: Make) -> None:
    trainer, watch = fit(session_of(few_values, training={"max_steps": 4}))
    assert len(watch.evaluations) == 2
    for metrics in watch.evaluations:
        assert {"eval_composite", "eval_intent/accuracy", "eval_slots/span_f1", "eval_urgency/pearson"} <= set(metrics)
        assert 0 <= metrics["eval_composite"] <= 1
    assert trainer.state.best_metric == max(metrics["eval_composite"] for metrics in watch.evaluations)


def test_a_log_carries_the_loss_of_each_task_and_the_speed(few_values: Values, session_of: Make) -> None:
    few_values["tasks"]["slots"]["weight"] = 3.0
    session = session_of(few_values, training={**QUIET, "max_steps": 4, "logging_steps": 2})
    records: list[Any] = []
    watch = Watch()
    trainer = session.trainer([watch])
    end_step = trainer._end_step

    def spy(done: Any) -> None:
        end_step(done)
        records.append(trainer.step_record)

    trainer._end_step = spy
    trainer.train()
    logs = [each for each in watch.logs if "loss" in each]
    assert len(logs) == 2
    for log, (one, other) in zip(logs, (records[:2], records[2:]), strict=True):
        assert log["tokens_per_second"] > 0
        assert log["loss"] == pytest.approx((one["loss"] + other["loss"]) / 2, rel=1e-5)
        for name in few_values["tasks"]:
            mean = sum(r["tasks"][name]["loss"] * r["tasks"][name]["examples"] for r in (one, other)) / 4
            assert log[f"loss/{name}"] == pytest.approx(mean, rel=1e-6)
    for record in records:
        weighted = sum(task["weight"] * task["loss"] for task in record["tasks"].values()) / 5.0
        assert record["loss"] == pytest.approx(weighted, rel=1e-6)
        assert record["grad_norm"] > 0


def test_a_recorded_learning_rate_is_the_one_that_the_step_was_made_with(few_values: Values, session_of: Make) -> None:
    changes = {"max_steps": 4, "warmup_steps": 2, "learning_rate": 1e-2, "lr_scheduler_type": "linear"}
    session = session_of(few_values, training={**QUIET, **changes})
    rates = []

    class Rates(Watch):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            rates.append(trainer.step_record["learning_rate"])

    trainer = session.trainer([Rates()])
    trainer.train()
    assert rates == pytest.approx([0.0, 0.005, 0.01, 0.005])


@pytest.mark.parametrize("limit", [1e-3, 1e6])
def test_gradients_are_clipped_to_max_grad_norm_and_the_norm_before_is_recorded(
    few_values: Values, session_of: Make, limit: float
) -> None:
    session = without_dropout(session_of(few_values, training={**QUIET, "max_steps": 1, "max_grad_norm": limit}))
    norm = float(flat(gradients(session, [session.steps[0]])).norm())
    session.model.zero_grad()
    trainer, watch = fit(session)
    assert trainer.step_record["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert float(flat(watch.gradients[0]).norm()) == pytest.approx(min(norm, limit), rel=1e-3)


def test_a_checkpoint_holds_weights_as_safetensors_and_no_pickled_arguments(
    few_values: Values, session_of: Make
) -> None:
    session = session_of(few_values, training={"max_steps": 2})
    trainer, _ = fit(session)
    folder = Path(trainer.args.output_dir) / "checkpoint-2"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"adapter/adapter_model.safetensors", "heads.safetensors", "tasks.json", "trainer_state.json"} <= files
    # What transformers itself needs to go on, and reads with `weights_only`.
    assert {name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))} == {
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
    }


def test_the_best_checkpoint_is_loaded_at_the_end(few_values: Values, session_of: Make) -> None:
    session = session_of(few_values, training={"max_steps": 6, "save_total_limit": 1})
    watch = Watch()
    trainer = session.trainer([watch])
    scores = iter([0.2, 0.9, 0.4])
    trainer.evaluator = lambda: {"composite": next(scores)}
    trainer.train()
    best = Path(trainer.state.best_model_checkpoint)
    assert best.name == "checkpoint-4"
    heads = load_file(str(best / "heads.safetensors"))
    assert heads.keys() == session.model.heads.state_dict().keys()
    for key, value in session.model.heads.state_dict().items():
        assert torch.equal(value, heads[key])
    adapter = load_file(str(best / "adapter" / "adapter_model.safetensors"))
    state = session.model.backbone.state_dict()
    for key, value in adapter.items():
        assert torch.equal(state[key.replace(".weight", ".default.weight")], value)


@pytest.mark.parametrize(
    ("threshold", "scores", "steps"),
    [
        (0.0, [0.5, 0.4, 0.4, 0.9], 6),
        (0.0, [0.1, 0.2, 0.3, 0.4], 8),
        (0.15, [0.1, 0.2, 0.21, 0.9], 6),
        (0.0, [0.5, 0.4, 0.6, 0.5], 8),
    ],
)
def test_training_stops_after_evaluations_without_a_better_score(
    few_values: Values, session_of: Make, threshold: float, scores: list[float], steps: int
) -> None:
    stopping = {"early_stopping_patience": 2, "early_stopping_threshold": threshold}
    session = session_of(few_values, training={"max_steps": 8}, evaluation=stopping)
    trainer, values = session.trainer(), iter(scores)
    trainer.evaluator = lambda: {"composite": next(values)}
    trainer.train()
    assert trainer.state.global_step == steps


def test_a_loss_that_is_not_finite_names_its_row_and_moves_nothing(few_values: Values, session_of: Make) -> None:
    session = session_of(few_values, training={**QUIET, "max_steps": 3})
    with torch.no_grad():
        session.model.heads["urgency"].linear.weight.fill_(float("inf"))
    before = trained(session)
    with pytest.raises(NonFiniteLossError) as raised:
        fit(session)
    rows = {item["row"] for chunk in session.steps[0].chunks for item in chunk.parts["urgency"].items}
    assert {fault.where for fault in raised.value.faults} <= {session.prepared.place("urgency", row) for row in rows}
    assert "have a finite loss in task `urgency`" in str(raised.value)
    assert all(torch.equal(value, before[name]) for name, value in trained(session).items())


@pytest.mark.parametrize(
    "changes",
    [
        {"bf16": True, "use_cpu": True},
        {"lr_scheduler_type": "cosine", "warmup_steps": 1},
        {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 0.5},
        {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 1},
        {"optim": "adafactor"},
        {"optim": "sgd", "weight_decay": 0.1},
        {"adam_beta2": 0.95, "adam_epsilon": 1e-6},
        {"logging_first_step": True, "logging_strategy": "epoch"},
        {"include_num_input_tokens_seen": "non_padding"},
        {"eval_strategy": "epoch", "save_strategy": "epoch", "max_steps": -1, "num_train_epochs": 0.1},
        {"eval_on_start": True},
    ],
    ids="-".join,
)
def test_fields_of_training_arguments_train_to_finite_weights(
    few_values: Values, session_of: Make, changes: Values
) -> None:
    session = session_of(few_values, training={**QUIET, "max_steps": 2, **changes})
    before = trained(session)
    trainer, watch = fit(session)
    after = trained(session)
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    assert trainer.state.global_step == trainer.state.max_steps
    if changes.get("eval_on_start") or changes.get("eval_strategy"):
        assert watch.evaluations
    if "include_num_input_tokens_seen" in changes:
        useful = sum(sum(session.steps[index].tokens.values()) for index in range(2))
        assert trainer.state.num_input_tokens_seen == useful


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("adapted", [True, False])
def test_a_backbone_stored_in_half_precision_trains_and_answers(
    few_values: Values, session_of: Make, dtype: str, adapted: bool
) -> None:
    few_values["model"]["dtype"] = dtype
    if not adapted:
        few_values["model"]["adapter"] = None
    session = session_of(few_values, training={**QUIET, "max_steps": 1})
    fit(session)
    assert {str(p.dtype) for p in session.model.heads.parameters()} == {"torch.float32"}
    assert all(torch.isfinite(value).all() for value in trained(session).values())
    assert 0 <= session.validate()["composite"] <= 1


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputing_activations_gives_the_same_gradients(
    few_values: Values, session_of: Make, adapted: bool, reentrant: bool
) -> None:
    if not adapted:
        few_values["model"]["adapter"] = None
    found, calls = [], []
    for changes in (
        {},
        {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": reentrant}},
    ):
        session = session_of(few_values, training={**QUIET, "max_steps": 1, **changes})
        layer = next(m for name, m in session.model.named_modules() if name.endswith("layer.1.attention.self.query"))
        calls.append(0)

        def count(*_: Any) -> None:
            calls[-1] += 1

        layer.register_forward_hook(count)
        _, watch = fit(session)
        found.append(watch.gradients[0])
    assert calls[1] == 2 * calls[0]
    assert distance(found[1], found[0]) < 1e-6


def test_worker_processes_give_the_same_weights_to_the_last_bit(few_values: Values, session_of: Make) -> None:
    found = []
    for workers in (0, 1):
        changes = {**QUIET, "max_steps": 3, "dataloader_num_workers": workers}
        session = session_of(few_values, training=changes)
        fit(session)
        found.append(trained(session))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_operations_are_counted_by_useful_tokens(few_values: Values, session_of: Make) -> None:
    session = session_of(few_values, training={**QUIET, "max_steps": 2})
    trainer, _ = fit(session)
    tokens = sum(sum(session.steps[index].tokens.values()) for index in range(2))
    parameters = sum(parameter.numel() for parameter in session.model.backbone.parameters())
    assert trainer.state.total_flos == 6 * parameters * tokens


def test_the_states_of_a_checkpoint_are_plain_json(few_values: Values, session_of: Make) -> None:
    stopping = {"early_stopping_patience": 2}
    trainer, _ = fit(session_of(few_values, training={"max_steps": 2}, evaluation=stopping))
    state = json.loads((Path(trainer.args.output_dir) / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["EarlyStoppingCallback"] == {
        "args": {"early_stopping_patience": 2, "early_stopping_threshold": 0.0},
        "attributes": {"early_stopping_patience_counter": 0},
    }


@pytest.mark.parametrize(("scores", "slower"), [([0.1, 0.2, 0.3, 0.4], False), ([0.4, 0.3, 0.2, 0.1], True)])
def test_a_schedule_that_follows_the_score_slows_down_where_it_no_longer_rises(
    few_values: Values, session_of: Make, scores: list[float], slower: bool
) -> None:
    changes = {"max_steps": 4, "lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0}}
    session = session_of(few_values, training={**QUIET, **changes, "eval_strategy": "steps", "eval_steps": 1})
    trainer, values = session.trainer(), iter(scores)
    trainer.evaluator = lambda: {"composite": next(values)}
    trainer.train()
    assert (trainer._get_learning_rate() < 1e-3) == slower


def test_early_stopping_needs_no_checkpoint(few_values: Values, session_of: Make) -> None:
    stopping = {"early_stopping_patience": 1}
    session = session_of(few_values, training={"max_steps": 6, "save_strategy": "no"}, evaluation=stopping)
    trainer = session.trainer()
    trainer.evaluator = lambda: {"composite": 0.5}
    trainer.train()
    assert trainer.state.global_step == 4


def test_a_head_with_a_learning_rate_of_its_own_moves_by_it_and_nothing_else_does(
    few_values: Values, session_of: Make
) -> None:
    few_values["tasks"]["intent"]["learning_rate"] = 0.5
    few_values["model"]["head_learning_rate"] = 0.25
    changes = {"max_steps": 2, "optim": "sgd", "weight_decay": 0.0, "lr_scheduler_type": "linear", "warmup_steps": 0}
    session = session_of(few_values, training={**QUIET, **changes, "learning_rate": 0.25})
    before = trained(session)
    _, watch = fit(session)
    after = trained(session)
    assert watch.gradients[0].keys() == before.keys()
    for name, value in before.items():
        rate = 0.5 if name.startswith("heads.intent.") else 0.25
        moved = (
            rate * watch.gradients[0][name] + rate / 2 * watch.gradients[1][name]
        )  # the schedule falls from 1 to 1/2
        torch.testing.assert_close(after[name], value - moved, rtol=1e-4, atol=1e-6)
