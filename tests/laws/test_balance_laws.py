"""Laws that hold for every balancing method; a new file in `taskloom/balance` joins by itself."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from balance_steps import NAMES, gradients, made, seen_of
from taskloom.balance import BALANCES, Balance, Statistics

METHODS = BALANCES.names()
CLASSES = {name: BALANCES.load(name) for name in METHODS}
BY_GRADIENTS = [name for name in METHODS if CLASSES[name].needs not in {"nothing", "losses"}]
LEAST_TASKS = {"krum": 4}
"""With fewer, two tasks are each other's nearest, and which is taken is a matter of order."""

TOLERANCE = {"cagrad": 1e-3, "fairgrad": 1e-3, "mgda": 1e-3, "sdmgrad": 1e-3}
"""Solvers that iterate stop a little elsewhere, or take steps so long that they blow rounding up."""

counts = st.integers(2, 8)
seeds = st.integers(0, 2**16)
scales = st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6])
quick = settings(max_examples=12, deadline=None)


def count_for(name: str, count: int) -> int:
    return max(count, LEAST_TASKS.get(name, 2), CLASSES[name].minimum_tasks)


def losses_of(count: int, seed: int) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    return (0.05 + 3 * torch.rand(count, generator=generator)).tolist()


def step_of(count: int, seed: int, step: int, *, keep: list[int] | None = None, **shape: Any) -> Statistics:
    """Draw the statistics of one step of a run of `count` tasks, of which it may have only some."""
    liking = [1.0 + (place % 3) for place in range(count)]
    keep = list(range(count)) if keep is None else keep
    losses = losses_of(count, seed + 31 * step)
    known = dict(zip(NAMES, losses_of(count, seed + 7 * step), strict=False))
    return seen_of(
        gradients(count, seed=seed + 101 * step, **shape)[keep],
        [losses[place] for place in keep],
        tasks=[NAMES[place] for place in keep],
        preference=[liking[place] / sum(liking) for place in keep],
        step=step,
        validation_losses=known,
        scores={task: loss / 4 for task, loss in known.items()},
    )


def short(name: str) -> dict[str, Any]:
    """Give options under which a method shows in a few steps all that it does."""
    return {"coba": {"warmup_steps": 1, "history": 3}, "dwa": {"window": 2}}.get(name, {})


def reordered(seen: Statistics, order: list[int]) -> Statistics:
    def square(matrix: Tensor | None) -> Tensor | None:
        return None if matrix is None else matrix[order][:, order]

    return dataclasses.replace(
        seen,
        tasks=tuple(seen.tasks[place] for place in order),
        losses=seen.losses[order],
        preference=seen.preference[order],
        gramian=square(seen.gramian),
        cross_gramian=square(seen.cross_gramian),
        jacobian=None if seen.jacobian is None else seen.jacobian[order],
    )


def kept_of(state: Any, task: str) -> Iterator[Any]:
    """Find all that a state says of one task."""
    if isinstance(state, dict):
        for key, value in state.items():
            if key == task:
                yield value
            else:
                yield from kept_of(value, task)


def assert_alike(found: Tensor, wanted: Tensor, relative: float = 1e-6) -> None:
    size = float(wanted.abs().max())
    assert torch.allclose(found, wanted, rtol=relative, atol=relative * size), (found, wanted)


# --- weights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@given(count=counts, seed=seeds, rank=st.integers(1, 8), scale=scales, zeros=st.integers(0, 255))
@quick
def test_weights_are_finite_whatever_the_gradients(
    name: str, count: int, seed: int, rank: int, scale: float, zeros: int
) -> None:
    count = count_for(name, count)
    jacobian = gradients(count, seed=seed, rank=rank, spread=100.0, scale=scale)
    jacobian[[place for place in range(count) if zeros >> place & 1]] = 0.0
    if seed % 3 == 0:
        jacobian[0] = -jacobian[1]
    losses = [0.0 if seed % 5 == place else loss for place, loss in enumerate(losses_of(count, seed))]
    balance = made(name, NAMES[:count])
    for step in range(2):
        weights = balance.weigh(seen_of(jacobian, losses, step=step))
        assert weights.shape == (count,)
        assert weights.dtype == torch.float64
        assert weights.isfinite().all()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["losses", "gradients", "all gradients zero"])
def test_what_is_not_finite_or_all_zero_gives_finite_weights_and_leaves_the_state(
    name: str, wrong: float, where: str
) -> None:
    balance = made(name, NAMES[:4])
    balance.weigh(step_of(4, 1, 0))
    before = copy.deepcopy(balance.state())
    seen = step_of(4, 2, 1)
    if where == "losses":
        seen = dataclasses.replace(seen, losses=seen.losses.index_fill(0, torch.tensor(1), wrong))
    else:
        assert seen.jacobian is not None
        jacobian = torch.zeros_like(seen.jacobian) if "zero" in where else seen.jacobian.clone()
        if "zero" not in where:
            jacobian[1, 2] = wrong
        square = jacobian @ jacobian.T
        seen = dataclasses.replace(seen, jacobian=jacobian, gramian=square, cross_gramian=square)
    assert balance.weigh(seen).isfinite().all()
    of_gradients = CLASSES[name].needs in {"gramian", "jacobian"}
    if not CLASSES[name].weighs_all and (where == "losses" or of_gradients):
        assert balance.state() == before


@pytest.mark.parametrize("name", METHODS)
@given(count=counts, seed=seeds, generator=st.randoms(use_true_random=False))
@quick
def test_another_order_of_tasks_gives_the_same_weights_in_that_order(
    name: str, count: int, seed: int, generator: Any
) -> None:
    if CLASSES[name].draws:
        pytest.skip("what is drawn goes by the order of the tasks")
    count = count_for(name, count)
    order = list(range(count))
    generator.shuffle(order)
    one, other = made(name, NAMES[:count], **short(name)), made(name, NAMES[:count], **short(name))
    for step in range(4):
        seen = step_of(count, seed, step, spread=10.0)
        there = reordered(seen, order)
        assert_alike(other.weigh(there), one.weigh(seen)[order], TOLERANCE.get(name, 1e-6))
        combined, permuted = one.combine(seen), other.combine(there)
        assert (combined is None) == (permuted is None)
        if combined is not None and permuted is not None:
            assert_alike(permuted, combined)


@pytest.mark.parametrize("name", METHODS)
def test_what_a_step_shows_is_left_as_it_is_and_so_are_torchs_own_draws(name: str) -> None:
    balance = made(name, NAMES[:4])
    seen = step_of(4, 5, 0)
    kept = copy.deepcopy(seen)
    state = torch.get_rng_state()
    balance.weigh(seen)
    balance.combine(seen)
    assert torch.equal(torch.get_rng_state(), state)
    for field in dataclasses.fields(Statistics):
        found, wanted = getattr(seen, field.name), getattr(kept, field.name)
        assert torch.equal(found, wanted) if isinstance(wanted, Tensor) else found == wanted, field.name


@pytest.mark.parametrize("name", METHODS)
def test_the_same_step_gives_the_same_weights_whatever_else_was_drawn(name: str) -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        seen = step_of(4, 9, 17)
        balance = made(name, NAMES[:4])
        combined = balance.combine(seen)
        found.append((balance.weigh(seen), combined if combined is not None else torch.zeros(1)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("name", [name for name in METHODS if CLASSES[name].draws])
def test_what_is_drawn_changes_with_the_step_and_with_the_seed(name: str) -> None:
    def weights(step: int, seed: int) -> Tensor:
        return made(name, NAMES[:6], seed=seed).weigh(seen_of(-gradients(6, seed=3, rank=3), step=step))

    assert torch.equal(weights(0, 0), weights(0, 0))
    drawn = [weights(step, seed) for step, seed in ((0, 0), (1, 0), (2, 0), (0, 1))]
    assert any(not torch.allclose(each, drawn[0]) for each in drawn[1:3])
    assert not torch.allclose(drawn[3], drawn[0])


# --- what is kept ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@given(count=st.integers(2, 6), seed=seeds, absent=st.integers(0, 5))
@settings(max_examples=6, deadline=None)
def test_a_method_that_is_saved_and_restored_goes_on_bit_for_bit(name: str, count: int, seed: int, absent: int) -> None:
    count = count_for(name, count)
    some = [place for place in range(count) if place != absent % count] if count > 2 else [0, 1]
    steps = [step_of(count, seed, step, keep=None if step % 2 else some, spread=10.0) for step in range(7)]
    through = made(name, NAMES[:count], **short(name))
    for seen in steps[:4]:
        through.weigh(seen)
    restored = made(name, NAMES[:count], **short(name))
    restored.restore(json.loads(json.dumps(through.state())))
    for seen in steps[4:]:
        assert torch.equal(restored.weigh(seen), through.weigh(seen))
    assert json.dumps(restored.state(), sort_keys=True) == json.dumps(through.state(), sort_keys=True)


@pytest.mark.parametrize("name", METHODS)
@given(count=st.integers(4, 8), seed=seeds, gone=st.integers(1, 7))
@quick
def test_present_tasks_are_weighted_as_if_they_were_all(name: str, count: int, seed: int, gone: int) -> None:
    keep = [place for place in range(count) if place != gone % count] if gone % count else list(range(count - 1))
    seen = step_of(count, seed, 0, keep=keep, spread=10.0)
    even = dataclasses.replace(seen, preference=torch.full((len(keep),), 1 / count, dtype=torch.float64))
    found = made(name, NAMES[:count]).weigh(even)
    if CLASSES[name].weighs_all:
        whole = made(name, NAMES[:count]).weigh(step_of(count, seed, 0, spread=10.0))
        assert_alike(found * len(keep) / count, whole[keep])
    else:
        alone = dataclasses.replace(seen, preference=torch.full((len(keep),), 1 / len(keep), dtype=torch.float64))
        assert_alike(found, made(name, seen.tasks).weigh(alone))


@pytest.mark.parametrize("name", [name for name in METHODS if not CLASSES[name].weighs_all])
def test_what_is_kept_of_an_absent_task_stays_as_it_is(name: str) -> None:
    balance = made(name, NAMES[:5])
    for step in range(3):
        balance.weigh(step_of(5, 3, step, spread=10.0))
    before = copy.deepcopy(balance.state())
    balance.weigh(step_of(5, 3, 3, keep=[0, 1, 3, 4], spread=10.0))
    after = balance.state()
    assert list(kept_of(after, NAMES[2])) == list(kept_of(before, NAMES[2]))
    if before:
        assert list(kept_of(before, NAMES[2])), "what is kept is kept by name"
        assert after != before


# --- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BY_GRADIENTS if CLASSES[name].needs != "cross_gramian"])
@given(count=st.integers(5, 8), seed=seeds)
@quick
def test_a_task_without_a_gradient_counts_as_absent(name: str, count: int, seed: int) -> None:
    if name in {"graddrop", "trimmed_mean"}:
        pytest.skip("a zero is a value among the others in each coordinate")
    jacobian = gradients(count, seed=seed, spread=10.0)
    jacobian[2] = 0.0
    live = [place for place in range(count) if place != 2]
    found = made(name, NAMES[:count]).weigh(seen_of(jacobian))
    alone = seen_of(jacobian[live], [1.0 + 0.5 * place for place in live], tasks=[NAMES[place] for place in live])
    share = len(live) / count if CLASSES[name].total == "mean" else 1.0
    assert_alike(found[live], made(name, alone.tasks).weigh(alone) * share)


@pytest.mark.parametrize("name", [name for name in METHODS if CLASSES[name].scales])
@given(count=counts, seed=seeds, scale=scales)
@quick
def test_larger_gradients_are_combined_into_one_as_much_larger(name: str, count: int, seed: int, scale: float) -> None:
    count = count_for(name, count)
    one, other = made(name, NAMES[:count], **short(name)), made(name, NAMES[:count], **short(name))
    for step in range(3):
        plain = step_of(count, seed, step, spread=10.0)
        larger = step_of(count, seed, step, spread=10.0, scale=scale)
        assert_alike(other.weigh(larger), one.weigh(plain), TOLERANCE.get(name, 1e-5))
        small, large = one.combine(plain), other.combine(larger)
        if small is not None and large is not None:
            assert_alike(large, scale * small)


@pytest.mark.parametrize("name", METHODS)
def test_the_total_is_as_the_method_says(name: str) -> None:
    def weights(count: int) -> Tensor:
        """Give the weights of tasks whose losses are one and whose gradients are orthogonal and of length one."""
        options: dict[str, Any] = (
            {"weights": dict.fromkeys(NAMES[:count], 1.0)} if name in {"constant", "static"} else {}
        )
        jacobian = torch.eye(count, 12, dtype=torch.float64)
        if name == "trimmed_mean":  # whose mean of orthogonal gradients is zero
            jacobian = torch.ones(count, 12, dtype=torch.float64)
        square = jacobian @ jacobian.T
        seen = dataclasses.replace(seen_of(jacobian, [1.0] * count), cross_gramian=square)
        return made(name, NAMES[:count], **options).weigh(seen)

    few, many = weights(4), weights(8)
    growth = 1.0 if CLASSES[name].total == "mean" else 2.0
    assert float(many.sum() / few.sum()) == pytest.approx(growth, rel=0.1)
    share = few.sum() if CLASSES[name].total == "mean" else few.mean()
    assert 0.4 < float(share) < 1.6


@pytest.mark.parametrize("name", [name for name in METHODS if CLASSES[name].conflict_free])
@given(count=counts, seed=seeds, spread=st.sampled_from([1.0, 10.0, 100.0]), scale=scales)
@settings(max_examples=60, deadline=None)
def test_no_loss_rises_to_first_order_where_a_method_says_so(
    name: str, count: int, seed: int, spread: float, scale: float
) -> None:
    jacobian = gradients(count, seed=seed, spread=spread, scale=scale)
    weights = made(name, NAMES[:count]).weigh(seen_of(jacobian))
    lengths = jacobian.norm(dim=1)
    gains = jacobian @ (jacobian.T @ weights)
    assert (gains >= -1e-9 * lengths * (weights.abs() @ lengths)).all()
    assert (jacobian.T @ weights).norm() > 0


# --- documents ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_balance_is_documented_in_its_class(name: str) -> None:
    method = BALANCES.load(name)
    text = inspect.getdoc(method) or ""
    sections = [part.split(" ")[0].split(":")[0] for part in text.split("\n\n")]
    order = ["Prefer", "Formula", "Shapes", "Options", "State", "Cost", "Errors", "Differs", "Paper", ">>>"]
    told = [section for section in sections[1:] if section in order]
    assert told == sorted(told, key=order.index)
    assert text.split("\n")[0].endswith(".")
    assert BALANCES.summary(name) == text.split("\n\n")[0].replace("\n", " ")
    for section in ("Prefer ", "Do not", "Formula: ", "Cost: ", "Differs: ", "Paper: "):
        assert section in text.replace("\n", " "), section
    if method.__module__ != "taskloom.balance._torchjd":
        assert ">>>" in text
    own_state = method.state is not Balance.state
    if own_state and ">>>" in text:
        assert "State: " in text


@pytest.mark.parametrize("name", METHODS)
def test_an_option_is_documented_with_its_default(name: str) -> None:
    _, _, options = (inspect.getdoc(BALANCES.load(name)) or "").partition("\n\nOptions:\n")
    told = {}
    for line in options.partition("\n\n")[0].splitlines():
        key, _, words = line.strip().partition(": ")
        told[key] = words
    assert list(told) == list(BALANCES.options(name))
    for option, (_, default) in BALANCES.options(name).items():
        if default is not ...:
            words = told[option].replace("(null)", "(None)").replace("e-", "e-0")
            numbers = (
                {default, *([f"{default:.0e}"] if isinstance(default, float) else [])}
                if not isinstance(default, dict)
                else {"{}"}
            )
            assert any(str(number) in words for number in numbers), (option, default, words)
