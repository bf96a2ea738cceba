"""What the Trainer and the session do around a balanced step: passes run again, losses shown, states taken up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from training_tools import Watch, trained, without_dropout

from taskloom.balance import Balance, Statistics
from taskloom.errors import ConfigError
from taskloom.session import Session
from taskloom.training.adaptation import first_scores

pytest_plugins = ("training_fixtures",)

Make = Callable[..., Session]
Values = dict[str, Any]

QUIET = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "max_grad_norm": 0.0}
WHOLE = {"sketch_size": 150_000}
"""More numbers than the tiny encoder has parameters: such a sketch loses nothing."""


class Steps(Watch):
    """Keeps the record of each step, and counts the passes over chunks in each."""

    def __init__(self, session: Session, **how: Any) -> None:
        super().__init__()
        self.records: list[Values] = []
        self.chunks = [0]
        self.trainer = session.trainer([self], **how)
        run = self.trainer._run_chunks

        def counted(model: Any, step: Any, *, counts: bool) -> Tensor:
            self.chunks[-1] += len(step.chunks)
            return run(model, step, counts=counts)

        self.trainer._run_chunks = counted
        self.trainer.train()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.records.append(self.trainer.step_record)
        self.chunks.append(0)

    def weights(self) -> list[list[float]]:
        return [[task["weight"] for task in record["tasks"].values()] for record in self.records]


# --- passes that are run again --------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("statistic", ["gramian", "sketch"])
def test_two_passes_weigh_every_step_as_one_that_keeps_all_gradients(
    few_values: Values, session_of: Make, statistic: str, accumulation: int
) -> None:
    """With dropout, over chunks and accumulation: the second pass sees what the first one saw."""
    few_values["model"]["adapter"] = None
    few_values["tasks"]["slots"]["weight"] = 3.0
    changes = {**QUIET, "max_steps": 3, "gradient_accumulation_steps": accumulation}
    found = []
    for kept in ("jacobian", statistic):
        balance = {"method": "mgda", "statistic": kept, "weights_from": "this_step", **WHOLE}
        session = session_of(few_values, training=changes, balance=balance)
        session.steps.limit_tokens = 128
        found.append((Steps(session), trained(session), sum(len(session.steps[i].chunks) for i in range(accumulation))))
    (one, after_one, chunks), (two, after_two, _) = found
    assert chunks > 1
    assert one.chunks[0] == chunks
    # Exact Gramians of parameters that are used again have to be gathered, as a pass of its own finds out.
    assert two.chunks[0] == (3 if statistic == "gramian" else 2) * chunks
    assert two.chunks[1] == 2 * one.chunks[1]
    for mine, wanted in zip(two.weights(), one.weights(), strict=True):
        assert mine == pytest.approx(wanted, rel=1e-2, abs=1e-3)
    assert max(max(each) - min(each) for each in one.weights()) > 0.5
    for record, other in zip(two.records, one.records, strict=True):
        assert record["loss"] == pytest.approx(other["loss"], rel=1e-3)
        for name, held in record["tasks"].items():
            assert held["examples"] == other["tasks"][name]["examples"], "the second pass is not counted"
    for name, value in after_two.items():
        torch.testing.assert_close(value, after_one[name], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("statistic", ["jacobian", "sketch"])
def test_validation_losses_are_those_of_the_weights_that_the_step_began_with(
    few_values: Values, session_of: Make, statistic: str
) -> None:
    method = {"method": "coba", "warmup_steps": 1, "history": 3}
    balance = {**method, "weights_from": "this_step", "statistic": statistic, "record_steps": 0}
    session = without_dropout(session_of(few_values, training={**QUIET, "max_steps": 3}, balance=balance))
    wanted: list[dict[str, float]] = []
    seen: list[dict[str, float]] = []

    class Begin(Watch):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            wanted.append(session.validation_losses(state.global_step))

    trainer = session.trainer([Begin()])
    weigh = trainer.balancing.balancer.method.weigh

    def spy(statistics: Statistics) -> Tensor:
        seen.append(dict(statistics.validation_losses))
        return weigh(statistics)

    trainer.balancing.balancer.method.weigh = spy
    trainer.train()
    assert seen == wanted
    assert len({each["intent"] for each in seen}) == 3


def test_validation_losses_are_means_over_the_next_few_rows(few_values: Values, session_of: Make) -> None:
    session = session_of(few_values, training=QUIET)
    session.model.train()
    before = torch.get_rng_state()
    found = [session.validation_losses(step) for step in (0, 1, 6)]
    assert session.model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[2] != found[1], "twelve rows of each task, two at a time"
    model = session.model.eval()
    for step, losses in enumerate(found[:2]):
        for name, task in session.prepared.tasks.items():
            items = session.prepared.items[name]["validation"]
            values = []
            for place in (2 * step, 2 * step + 1):
                (chunk,) = session.steps.build([(name, items[place])]).chunks
                values.append(float(task.loss(model(chunk)[name], chunk.parts[name].targets).detach()))
            assert losses[name] == pytest.approx(sum(values) / 2, rel=1e-5)


# --- what methods are shown -----------------------------------------------------------------------------------------


class Shown(Balance):
    """Keeps the losses that it is shown, and weighs all tasks alike."""

    needs = "losses"
    shown: list[dict[str, float]] = []

    def weigh(self, seen: Statistics) -> Tensor:
        self.shown.append(dict(zip(seen.tasks, seen.losses.tolist(), strict=True)))
        return torch.full((len(seen.tasks),), 1 / len(seen.tasks), dtype=torch.float64)


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("by_log", [False, True])
@pytest.mark.parametrize("reduction", ["task", "example", "token"])
def test_a_method_is_shown_the_mean_loss_of_the_rows_that_were_drawn(
    few_values: Values, session_of: Make, reduction: str, by_log: bool, accumulation: int
) -> None:
    """Two rows of three tasks: a task has none in one step, and more than its share in the next."""
    balance = {"method": f"{__name__}:Shown", "reduction": reduction, "scale_by_log_labels": by_log, "record_steps": 2}
    changes = {**QUIET, "max_steps": 4, "per_device_train_batch_size": 2, "gradient_accumulation_steps": accumulation}
    session = without_dropout(session_of(few_values, training={**changes, "learning_rate": 1e-20}, balance=balance))
    Shown.shown = []
    Steps(session)
    model = session.model.eval()
    logs = {"intent": 12, "slots": 11, "urgency": None}
    for name in ("intent", "slots"):
        logs[name] = len(session.prepared.tasks[name].labels)
    assert len(Shown.shown) == 4
    for step, shown in enumerate(Shown.shown):
        sums: dict[str, float] = {}
        terms: dict[str, float] = {}
        for index in range(step * accumulation, (step + 1) * accumulation):
            for chunk in session.steps[index].chunks:
                outputs = model(chunk)
                for name, part in chunk.parts.items():
                    losses = session.prepared.tasks[name].loss(outputs[name], part.targets).detach()
                    counts = torch.ones(len(losses))
                    if reduction == "token" and name == "slots":
                        counts = torch.tensor([float(len(item["words"])) for item in part.items])
                    sums[name] = sums.get(name, 0.0) + float((losses * counts).sum())
                    terms[name] = terms.get(name, 0.0) + float(counts.sum())
        log = {
            name: float(torch.tensor(float(count)).log()) if by_log and count else 1.0 for name, count in logs.items()
        }
        assert shown == pytest.approx({name: sums[name] / terms[name] / log[name] for name in shown}, rel=1e-4)
        assert shown.keys() == sums.keys()
    assert {len(shown) for shown in Shown.shown} == ({2} if accumulation == 1 else {3})


def test_a_method_is_told_the_first_metric_of_each_task(few_values: Values, session_of: Make) -> None:
    values = {"composite": 0.1, "intent/macro_f1": 0.4, "intent/accuracy": 0.5, "other/accuracy": 0.9}
    assert first_scores(values, ["intent", "slots"]) == {"intent": 0.4}
    trainer = Steps(session_of(few_values, training={"max_steps": 2, "eval_steps": 1})).trainer
    scores = trainer.evaluator()
    metrics = {"intent": "accuracy", "slots": "span_f1", "urgency": "pearson"}
    assert trainer.balancing.balancer.scores == {name: scores[f"{name}/{metric}"] for name, metric in metrics.items()}


def test_constant_weights_are_told_in_the_record(few_values: Values, session_of: Make) -> None:
    few_values["tasks"]["slots"]["weight"] = 2.0
    balance = {"method": "static", "weights": {"intent": 1.0, "slots": 1.0, "urgency": 4.0}}
    (weights,) = Steps(session_of(few_values, training={**QUIET, "max_steps": 1}, balance=balance)).weights()
    # The weights of the tasks, 1, 2 and 1, times 1, 1 and 4; they add up to 4, as without a balance.
    assert weights == pytest.approx([4 / 7, 8 / 7, 16 / 7])


# --- where things lie, and what cannot be -----------------------------------------------------------------------------


def test_what_is_kept_of_gradients_lies_on_the_device_of_the_run(
    few_values: Values, session_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(few_values, training=QUIET, balance={"method": "upgrad"})
    device = property(lambda arguments: torch.device("meta"))
    monkeypatch.setattr(transformers.TrainingArguments, "device", device)
    balancer = session.balancer()
    assert balancer.engine.device.type == "meta"
    assert balancer.engine.step().ledger.jacobian.device.type == "meta"


def test_the_exact_gramian_is_refused_where_several_processes_train(
    few_values: Values, session_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(few_values, training=QUIET, balance={"method": "upgrad", "statistic": "gramian"})
    monkeypatch.setattr(transformers.TrainingArguments, "world_size", property(lambda arguments: 4))
    with pytest.raises(ConfigError) as raised:
        session.balancer()
    assert str(raised.value) == (
        "`balance.statistic` should add up over the processes of a run. "
        "Found `gramian` in 4 processes, which do not add up to one. Write `sketch`, or `auto`."
    )


# --- checkpoints ------------------------------------------------------------------------------------------------------


CARRIED: list[Values] = [
    {"method": "mgda", "statistic": "gramian", "weights_from": "last_step"},
    {"method": "mgda", "statistic": "gramian", "weights_from": "this_step"},
    {"method": "excess_mtl"},
    {"method": "dynamic_task_prioritisation"},
    {"method": "dwa", "window": 1},
    {"method": "graddrop"},
    {"method": "equal", "record_steps": 1, "statistic": "gramian"},
]


@pytest.mark.parametrize("balance", CARRIED, ids=lambda balance: "-".join(map(str, balance.values())))
def test_a_run_that_is_taken_up_goes_on_bit_for_bit(few_values: Values, session_of: Make, balance: Values) -> None:
    changes = {"max_steps": 4, "save_steps": 1, "eval_steps": 1, "load_best_model_at_end": False, "save_total_limit": 4}
    whole, again = (session_of(few_values, training=changes, balance=balance) for _ in range(2))
    for session in (whole, again):
        session.steps.limit_tokens = 128
    first = Steps(whole)
    folder = Path(first.trainer.args.output_dir) / "checkpoint-2"
    second = Watch()
    trainer = again.trainer([second])
    trainer.train(resume_from_checkpoint=str(folder))
    wanted = trained(whole)
    assert second.steps == [3, 4]
    assert all(torch.equal(value, wanted[name]) for name, value in trained(again).items())
    assert trainer.balancing.balancer.state() == first.trainer.balancing.balancer.state()
    for record in (trainer.step_record, first.records[-1]):
        for key in ("seconds", "tokens_per_second"):
            del record[key]
    assert trainer.step_record == first.records[-1]
