"""The gradient that the optimizer sees under a balance, against one backward pass for each task and torchjd itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from balance_reference import TaskGradients, task_gradients
from torch import Tensor
from torchjd import aggregation
from training_tools import Watch, distance, gradients, trained, without_dropout

from taskloom.balance._projector import NnlsProjector
from taskloom.gradients import CountSketch
from taskloom.session import Session

pytest_plugins = ("training_fixtures",)

Make = Callable[..., Session]
Values = dict[str, Any]

QUIET = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "max_grad_norm": 0.0}
STEADY = {"lr_scheduler_type": "constant", "weight_decay": 0.0}
WEIGHTS = {"intent": 0.5, "slots": 2.0, "urgency": 1.0}


def weighted(values: Values) -> Values:
    for name, weight in WEIGHTS.items():
        values["tasks"][name]["weight"] = weight
    return values


def liked(weighting: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Give the weights of the tasks' gradients under a method that sees each times T times its preference."""

    def weigh(gramian: Tensor, preference: Tensor) -> Tensor:
        factor = len(preference) * preference
        found = weighting(factor[:, None] * gramian * factor)
        descends = float((factor[:, None] * gramian * factor @ found).sum()) >= 0
        return factor * (found if descends else -found)

    return weigh


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "upgrad": lambda gramian, preference: aggregation.UPGradWeighting(preference, NnlsProjector())(gramian),
    "mgda": liked(aggregation.MGDAWeighting()),
    "imtl_g": liked(aggregation.IMTLGWeighting()),
    "fairgrad": liked(aggregation.FairGradWeighting(1.0)),
}
"""Name -> from Gramian and preference to weights, by torchjd called directly."""

TOLERANCE = {"mgda": 1e-3, "fairgrad": 1e-3}
"""Of solvers that stop early."""


def balanced(held: TaskGradients, weights: Tensor) -> dict[str, Tensor]:
    """Give the gradient that the optimizer should see: the shared part by `weights`, heads by preference alone."""
    return held.shared(weights) | held.heads()


def fit(session: Session, **how: Any) -> tuple[Any, Watch]:
    watch = Watch()
    trainer = session.trainer([watch], **how)
    trainer.train()
    return trainer, watch


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_the_optimizer_sees_torchjds_combination_of_separate_passes(
    few_values: Values, session_of: Make, method: str, accumulation: int
) -> None:
    changes = {**QUIET, "max_steps": 1, "gradient_accumulation_steps": accumulation}
    session = without_dropout(session_of(weighted(few_values), training=changes, balance={"method": method}))
    session.steps.limit_tokens = 64
    micro = [session.steps[index] for index in range(accumulation)]
    assert min(len(step.chunks) for step in micro) > 1
    held = task_gradients(session, micro)
    weights = METHODS[method](held.gramian, held.preference)
    trainer, watch = fit(session)
    assert distance(watch.gradients[0], balanced(held, weights)) < TOLERANCE.get(method, 1e-4)
    for index, name in enumerate(WEIGHTS):
        used = trainer.step_record["tasks"][name]["weight"]
        wanted = WEIGHTS[name] * float(weights[index] / held.preference[index])
        assert used == pytest.approx(wanted, rel=0.05, abs=1e-5), "the record tells the weight that was used"


@pytest.mark.parametrize("method", ["upgrad", "imtl_g"])
def test_two_passes_by_the_exact_gramian_give_this_steps_weights(
    few_values: Values, session_of: Make, method: str
) -> None:
    few_values["model"]["adapter"] = None
    balance = {"method": method, "statistic": "gramian", "weights_from": "this_step"}
    session = session_of(weighted(few_values), training={**QUIET, "max_steps": 1}, balance=balance)
    session = without_dropout(session)
    session.steps.limit_tokens = 10**6
    assert len(session.steps[0].chunks) == 1
    held = task_gradients(session, [session.steps[0]])
    _, watch = fit(session)
    assert distance(watch.gradients[0], balanced(held, METHODS[method](held.gramian, held.preference))) < 1e-4


@pytest.mark.parametrize("accumulation", [1, 3])
def test_two_passes_by_a_sketch_give_the_weights_of_the_sketch_and_the_whole_gradient(
    few_values: Values, session_of: Make, accumulation: int
) -> None:
    few_values["model"]["adapter"] = None
    balance = {"method": "upgrad", "statistic": "sketch", "weights_from": "this_step", "sketch_size": 512}
    changes = {**QUIET, "max_steps": 1, "gradient_accumulation_steps": accumulation}
    session = without_dropout(session_of(weighted(few_values), training=changes, balance=balance))
    held = task_gradients(session, [session.steps[index] for index in range(accumulation)])
    maker = CountSketch(512, session.config.training["seed"])
    sketch = maker.zeros(len(WEIGHTS))
    maker.add(sketch, [0, 1, 2], (held.preference[:, None] * held.jacobian).float(), 0)
    measured = (sketch / held.preference[:, None].float()).double()
    weights = METHODS["upgrad"](measured @ measured.T, held.preference)
    _, watch = fit(session)
    assert distance(watch.gradients[0], balanced(held, weights)) < 1e-4


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("statistic", ["gramian", "sketch"])
def test_the_second_pass_draws_the_dropout_of_the_first(
    few_values: Values, session_of: Make, statistic: str, accumulation: int
) -> None:
    few_values["model"]["adapter"] = None
    if statistic == "gramian" and accumulation > 1:
        pytest.skip("the exact Gramian needs one pass for a step")
    found = []
    for kept in ("jacobian", statistic):
        balance = {"method": "upgrad", "statistic": kept, "weights_from": "this_step"}
        changes = {**QUIET, "max_steps": 1, "gradient_accumulation_steps": accumulation}
        session = session_of(weighted(few_values), training=changes, balance=balance)
        session.steps.limit_tokens = 10**6
        trainer, watch = fit(session)
        found.append((trainer.balancing.balancer, watch.gradients[0], torch.get_rng_state()))
    (whole, _, after_one), (other, seen, after_two) = found
    wanted = other.multipliers.float() @ whole.engine.step().jacobian
    for leaf in other.engine.leaves:
        part = wanted[leaf.offset : leaf.offset + leaf.size].view_as(leaf.parameter)
        torch.testing.assert_close(seen["backbone." + leaf.name], part, rtol=1e-3, atol=1e-6)
    assert torch.equal(after_one, after_two), "the next step draws what it would have drawn after one pass"


def test_weights_of_the_last_step_are_used_in_the_next(few_values: Values, session_of: Make) -> None:
    balance = {"method": "upgrad", "weights_from": "last_step", "statistic": "sketch", "sketch_size": 1024}
    changes = {**QUIET, "max_steps": 3, "optim": "sgd", "learning_rate": 1e-20}
    session = without_dropout(session_of(weighted(few_values), training=changes, balance=balance))
    held = [task_gradients(session, [session.steps[index]]) for index in range(3)]
    used: list[Tensor] = []

    class Multipliers(Watch):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            used.append(trainer.balancing.balancer.multipliers.clone())

    watch = Multipliers()
    trainer = session.trainer([watch])
    for name in WEIGHTS:
        trainer.head_rates[name] = 1e-20
    trainer.train()
    assert torch.equal(used[0], torch.ones(3, dtype=torch.float64)), "the first step has nothing to go by"
    assert not torch.equal(used[1], used[2])
    for each, multipliers, seen in zip(held, used, watch.gradients, strict=True):
        assert distance(seen, balanced(each, multipliers * each.preference)) < 1e-4


@pytest.mark.parametrize("record", [0, 1])
def test_weights_by_losses_reach_the_backbone_and_leave_heads_alone(
    few_values: Values, session_of: Make, record: int
) -> None:
    """In one plain pass of the whole loss, or split where the step is recorded: the same gradient."""
    balance = {"method": "dwa", "window": 1, "record_steps": record}
    changes = {**QUIET, "max_steps": 4, "optim": "sgd", "learning_rate": 1e-20}
    session = without_dropout(session_of(weighted(few_values), training=changes, balance=balance))
    held = [task_gradients(session, [session.steps[index]]) for index in range(4)]
    used: list[Tensor] = []

    class Multipliers(Watch):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            used.append(trainer.balancing.balancer.multipliers.clone())

    watch = Multipliers()
    trainer = session.trainer([watch])
    for name in WEIGHTS:
        trainer.head_rates[name] = 1e-20
    trainer.train()
    assert float((used[3] - used[3].mean()).abs().max()) > 1e-3, "the losses of unlike steps weigh unlike"
    for each, multipliers, seen in zip(held, used, watch.gradients, strict=True):
        assert distance(seen, balanced(each, multipliers * each.preference)) < 1e-4


@pytest.mark.parametrize(
    ("balance", "relative"),
    [
        ({"method": "equal"}, [1.0, 1.0, 1.0]),
        ({"method": "equal", "record_steps": 1}, [1.0, 1.0, 1.0]),
        ({"method": "sum"}, [3.0, 3.0, 3.0]),
        ({"method": "static", "weights": {"intent": 1.0, "slots": 2.0, "urgency": 5.0}}, [1.0, 2.0, 5.0]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_balance_that_never_changes_trains_the_weights_that_plain_torch_trains(
    few_values: Values, session_of: Make, balance: Values, relative: list[float]
) -> None:
    """Three steps of SGD, the loss written out with constant weights, which count for heads as well."""
    changes = {**QUIET, "max_steps": 3, "optim": "sgd", "learning_rate": 0.05, **STEADY}
    few_values["model"]["head_learning_rate"] = 0.05
    sessions = [without_dropout(session_of(weighted(few_values), training=changes, balance=balance)) for _ in range(2)]
    session, plain = sessions
    fit(session)
    liking = torch.tensor([WEIGHTS[name] * part for name, part in zip(WEIGHTS, relative, strict=True)])
    of_task = dict(zip(WEIGHTS, (liking / liking.sum()).tolist(), strict=True))
    backbone = 3.0 if balance["method"] == "sum" else 1.0
    model = plain.model.eval()
    for index in range(3):
        model.zero_grad()
        for chunk in plain.steps[index].chunks:
            outputs = model(chunk)
            for name, part in chunk.parts.items():
                loss = plain.prepared.tasks[name].loss(outputs[name], part.targets).sum()
                (of_task[name] * loss / plain.steps.plan.expected(0)[name]).backward(retain_graph=True)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if parameter.grad is not None:
                    longer = backbone if key.startswith("backbone.") else 1.0
                    parameter.sub_(0.05 * longer * parameter.grad)
    assert distance(trained(session), trained(plain)) < 1e-6
    before = trained(session_of(few_values, training=changes, balance=balance))
    assert distance(before, trained(plain)) > 1e-4


def test_without_a_balance_the_objective_itself_is_what_the_optimizer_sees(
    few_values: Values, session_of: Make
) -> None:
    found = []
    for record in (0, 1):
        changes = {**QUIET, "max_steps": 1}
        session = without_dropout(
            session_of(weighted(few_values), training=changes, balance={"method": "equal", "record_steps": record})
        )
        wanted = gradients(session, [session.steps[0]])
        session.model.zero_grad()
        found.append((fit(session)[1].gradients[0], wanted))
    for seen, wanted in found:
        assert distance(seen, wanted) < 1e-5


@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "plain"])
def test_recomputing_activations_does_not_change_a_balanced_gradient(
    few_values: Values, session_of: Make, reentrant: bool, adapted: bool
) -> None:
    if not adapted:
        few_values["model"]["adapter"] = None
    recompute = {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": reentrant}}
    found, told = [], []
    for changes in ({}, recompute):
        training = {**QUIET, "max_steps": 1, **changes}
        session = session_of(weighted(few_values), training=training, balance={"method": "upgrad"})
        found.append(fit(session, tell=told.append)[1].gradients[0])
    assert distance(found[1], found[0]) < 1e-4
    assert told == [], "every rule holds under checkpointing"


@pytest.mark.parametrize("method", ["upgrad", "fairgrad"])
def test_a_balanced_step_in_bf16_is_near_that_of_separate_passes(
    few_values: Values, session_of: Make, method: str
) -> None:
    half = {"bf16": True, "use_cpu": True}
    changes = {**QUIET, "max_steps": 1, **half}
    session = without_dropout(session_of(weighted(few_values), training=changes, balance={"method": method}))
    held = task_gradients(session, [session.steps[0]])
    told: list[str] = []
    _, watch = fit(session, tell=told.append)
    wanted = balanced(held, METHODS[method](held.gramian, held.preference))
    assert distance(watch.gradients[0], wanted) < 0.05
    assert {str(each.dtype) for each in watch.gradients[0].values()} == {"torch.float32"}
    assert told == []
