"""The sketch of gradients: linear, unbiased, and as good as its size says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitting_tools import distance
from taskloom import helpdesk
from taskloom.gradients import CountSketch, Engine
from taskloom.gradients.sketch import SIGNS


def dense_of(maker: CountSketch, size: int) -> torch.Tensor:
    """Write S out: [param, k]."""
    sketch = maker.zeros(size)
    for place in range(size):
        maker.add(sketch, [place], torch.ones(1, 1), place)
    return sketch


@given(
    cuts=st.sets(st.integers(1, 499), max_size=6),
    seed=st.integers(0, 9),
    size=st.integers(2, 600),
    offset=st.sampled_from([0, 3, SIGNS - 200]),
    runs=st.sampled_from([1, 2, 100]),
)
@settings(max_examples=100, deadline=None)
def test_it_adds_up_over_any_cut(cuts: set[int], seed: int, size: int, offset: int, runs: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 500, generator=generator)
    maker = CountSketch(size, seed)
    whole, pieces = maker.zeros(4), maker.zeros(4)
    on_gpu = CountSketch(size, seed, runs=runs)  # adds several runs at once
    on_gpu.add(whole, [0, 2, 3], values, offset)
    bounds = [0, *sorted(cuts), 500]
    for start, stop in zip(bounds, bounds[1:], strict=False):  # noqa: RUF007
        maker.add(pieces, [0, 2, 3], values[:, start:stop], offset + start)
    assert distance(pieces, whole) < 1e-5
    assert not whole[1].any()


def test_rows_of_a_table_are_sketched_as_its_coordinates() -> None:
    maker = CountSketch(37, 1)
    table = torch.randn(2, 11, 5)
    ids = torch.tensor([7, 0, 3])
    only = torch.zeros_like(table)
    only[:, ids] = table[:, ids]
    wanted, found = maker.zeros(2), maker.zeros(2)
    maker.add(wanted, [0, 1], only.flatten(1), 13)
    maker.add_entries(found, [0, 1], ids, table[:, ids], 13)
    assert distance(found, wanted) < 1e-6


def test_it_is_a_fixed_matrix_of_one_sign_in_each_row_made_from_its_seed() -> None:
    held = dense_of(CountSketch(31, 4), 200)
    assert (held.abs().sum(dim=1) == 1).all()
    assert torch.equal(held, dense_of(CountSketch(31, 4), 200))
    assert not torch.equal(held, dense_of(CountSketch(31, 5), 200))
    values = torch.randn(2, 200)
    sketch = CountSketch(31, 4).zeros(2)
    CountSketch(31, 4).add(sketch, [0, 1], values, 0)
    assert distance(sketch, values @ held) < 1e-6


def test_its_gramian_is_unbiased_and_errs_by_one_over_the_root_of_its_size() -> None:
    jacobian = torch.randn(4, 3000, dtype=torch.float64)
    jacobian[1] += jacobian[0]
    wanted = jacobian @ jacobian.T
    errors = {}
    for size in (101, 1009):
        found = []
        for seed in range(60):
            maker = CountSketch(size, seed)
            sketch = maker.zeros(4)
            maker.add(sketch, [0, 1, 2, 3], jacobian, 0)
            found.append((sketch @ sketch.T).double())
        errors[size] = sum(distance(each, wanted) for each in found) / 60
        assert distance(torch.stack(found).mean(dim=0), wanted) < 4 * errors[size] / 60**0.5
    assert errors[101] / errors[1009] == pytest.approx((1009 / 101) ** 0.5, rel=0.25)


def test_its_size_is_the_largest_prime_that_fits() -> None:
    assert CountSketch(4096).size == 4093
    with pytest.raises(ValueError, match="`size` should be at least 2"):
        CountSketch(1)


def test_it_tells_the_gramian_of_six_tasks_of_a_real_encoder_within_a_twentieth() -> None:
    """Full fine-tuning of MiniLM, texts of the help desk, a random direction for each task."""
    from transformers import AutoModel, AutoTokenizer

    from taskloom.model.bundled import bundled_folder

    folder = bundled_folder()
    assert folder is not None
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = helpdesk.generate(train=48, validation=1, test=1, seed=0)["intent"]["train"]
    inputs = dict(tokenizer([row["text"] for row in rows[:48]], padding=True, return_tensors="pt"))
    tasks = [row % 6 for row in range(48)]
    torch.manual_seed(0)
    directions = torch.randn(6, model.config.hidden_size)
    parameters = list(model.named_parameters())
    exact = Engine(parameters, 6)
    errors = []
    for seed in (None, 0, 1, 2):
        engine = exact if seed is None else Engine(parameters, 6, statistic="sketch", sketch_size=4096, seed=seed)
        model.zero_grad()
        with engine.step(torch.ones(6)) as step:
            step.rows(tasks, inputs)
            pooled = model(**inputs).last_hidden_state.mean(dim=1)
            each = torch.nn.functional.softplus((pooled * directions[tasks]).sum(dim=1))
            step.backward({task: each[task::6].mean() for task in range(6)})
        if seed is None:
            wanted = step.gramian()
        else:
            errors.append(distance(step.gramian(), wanted))
    assert max(errors) < 0.05, errors
