from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.errors import ConfigError
from taskloom.mixture.annealed import Annealed
from taskloom.mixture.examples_proportional import ExamplesProportional
from taskloom.mixture.fixed import Fixed
from taskloom.mixture.proportional import Proportional
from taskloom.mixture.temperature import Temperature
from taskloom.mixture.uniform import Uniform
from taskloom.mixture.unimax import Unimax

SIZES = {"intent": 12_000, "slots": 300, "answer": 7}


def test_temperature_one_is_proportional() -> None:
    assert Temperature(temperature=1.0).probabilities(SIZES) == pytest.approx(Proportional().probabilities(SIZES))


def test_an_endless_temperature_is_uniform() -> None:
    hot = Temperature(temperature=1e12).probabilities(SIZES)
    assert hot == pytest.approx(Uniform().probabilities(SIZES), abs=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 1.5, 2.0, 5.0, 100.0])
def test_shares_stand_to_each_other_as_powers_of_the_sizes(temperature: float) -> None:
    found = Temperature(temperature=temperature).probabilities(SIZES)
    for one in SIZES:
        for other in SIZES:
            wanted = (SIZES[one] / SIZES[other]) ** (1 / temperature)
            assert found[one] / found[other] == pytest.approx(wanted, rel=1e-9)


def test_a_higher_temperature_gives_the_smallest_task_more_and_the_largest_less() -> None:
    shares = [Temperature(temperature=t).probabilities(SIZES) for t in (1, 2, 4, 8, 16)]
    assert [share["answer"] for share in shares] == sorted(share["answer"] for share in shares)
    assert [share["intent"] for share in shares] == sorted((share["intent"] for share in shares), reverse=True)


def test_proportional_draws_each_row_equally_often() -> None:
    found = Proportional().probabilities(SIZES)
    each = [found[name] / size for name, size in SIZES.items()]
    assert each == pytest.approx([1 / sum(SIZES.values())] * 3)


def test_fixed_ratios_do_not_depend_on_sizes() -> None:
    mixture = Fixed(ratios={"intent": 1, "slots": 2, "answer": 5})
    assert mixture.probabilities(SIZES) == mixture.probabilities(dict.fromkeys(SIZES, 1))
    assert mixture.probabilities(SIZES) == pytest.approx({"intent": 0.125, "slots": 0.25, "answer": 0.625})


def test_fixed_names_every_task_without_a_ratio_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        Fixed(ratios={"slots": 2.0}).probabilities(SIZES)
    assert [fault.where for fault in raised.value.faults] == ["mixture.ratios.intent", "mixture.ratios.answer"]
    assert "Add `intent: 1`" in str(raised.value)


def test_fixed_gives_nothing_to_a_task_that_the_run_lacks() -> None:
    assert Fixed(ratios={"a": 1.0, "gone": 7.0}).probabilities({"a": 5}) == {"a": 1.0}


def test_a_limit_above_all_sizes_is_proportional_and_one_below_all_is_uniform() -> None:
    assert ExamplesProportional(limit_rows=12_000).probabilities(SIZES) == Proportional().probabilities(SIZES)
    assert ExamplesProportional(limit_rows=7).probabilities(SIZES) == Uniform().probabilities(SIZES)


@pytest.mark.parametrize(("limit", "counts"), [(300, (300, 300, 7)), (1000, (1000, 300, 7)), (100, (100, 100, 7))])
def test_a_task_above_the_limit_counts_as_the_limit(limit: int, counts: tuple[int, int, int]) -> None:
    found = ExamplesProportional(limit_rows=limit).probabilities(SIZES)
    assert list(found.values()) == pytest.approx([count / sum(counts) for count in counts])


small_sizes = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.integers(1, 400), min_size=1, max_size=8)


def drawn_row_by_row(sizes: dict[str, int], epochs: int, budget: int) -> dict[str, int]:
    """Give each row to the task that has had fewest, of those that may still have one."""
    drawn = dict.fromkeys(sizes, 0)
    for _ in range(budget):
        open_ = [name for name in sizes if drawn[name] < epochs * sizes[name]]
        drawn[min(open_, key=drawn.__getitem__)] += 1
    return drawn


@given(sizes=small_sizes, epochs=st.integers(1, 3), rows=st.integers(1, 16), steps=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_unimax_draws_what_drawing_row_by_row_from_the_task_with_fewest_does(
    sizes: dict[str, int], epochs: int, rows: int, steps: int
) -> None:
    budget = min(rows * steps, epochs * sum(sizes.values()))
    found = Unimax(epochs=epochs).probabilities(sizes, steps=budget, rows=1)
    for name, count in drawn_row_by_row(sizes, epochs, budget).items():
        assert abs(found[name] * budget - count) < 1 + 1e-6


@given(
    sizes=st.lists(st.integers(1, 10**8), min_size=1, max_size=12),
    epochs=st.floats(0.1, 50),
    share=st.floats(0.001, 0.999),
)
@settings(max_examples=100, deadline=None)
def test_unimax_finds_the_water_level_that_bisection_finds(sizes: list[int], epochs: float, share: float) -> None:
    budget = max(1, int(share * epochs * sum(sizes)))
    low, high = 0.0, float(budget) + epochs * max(sizes)
    for _ in range(200):
        level = (low + high) / 2
        total = sum(min(level, epochs * size) for size in sizes)
        low, high = (level, high) if total < budget else (low, level)
    wanted = [min(level, epochs * size) for size in sizes]
    named = {str(place): size for place, size in enumerate(sizes)}
    found = Unimax(epochs=epochs).probabilities(named, steps=budget)
    assert list(found.values()) == pytest.approx([rows / sum(wanted) for rows in wanted], rel=1e-9)


@given(sizes=small_sizes, epochs=st.floats(0.5, 8), budget=st.integers(1, 10_000))
@settings(max_examples=100, deadline=None)
def test_unimax_repeats_no_task_too_often_unless_it_must_and_then_all_alike(
    sizes: dict[str, int], epochs: float, budget: int
) -> None:
    found = Unimax(epochs=epochs).probabilities(sizes, steps=budget)
    repeats = [share * budget / sizes[name] for name, share in found.items()]
    if budget <= epochs * sum(sizes.values()):
        assert max(repeats) <= epochs * (1 + 1e-9)
    else:
        assert found == pytest.approx(Proportional().probabilities(sizes))
        assert min(repeats) > epochs * (1 - 1e-9)


def test_unimax_is_uniform_in_a_short_run_and_proportional_in_a_long_one() -> None:
    assert Unimax(epochs=1).probabilities(SIZES, steps=3, rows=7) == pytest.approx(Uniform().probabilities(SIZES))
    shares = [Unimax(epochs=4).probabilities(SIZES, steps=steps, rows=32)["answer"] for steps in (1, 10, 100, 10**6)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(7 / sum(SIZES.values()))


def test_annealed_moves_from_proportional_to_temperature_five() -> None:
    annealed = Annealed()
    assert annealed.probabilities(SIZES, 0, 600) == Proportional().probabilities(SIZES)
    wanted = Temperature(temperature=5.0).probabilities(SIZES)
    assert annealed.probabilities(SIZES, 599, 600) == pytest.approx(wanted, rel=1e-12)
    smallest = [annealed.probabilities(SIZES, step, 600)["answer"] for step in range(0, 600, 50)]
    assert smallest == sorted(smallest)


def test_annealed_has_the_exponents_of_the_paper_where_a_step_is_an_epoch() -> None:
    for epochs in (2, 5, 25):
        for epoch in range(1, epochs + 1):
            exponent = 1 - 0.8 * (epoch - 1) / (epochs - 1)
            powers = {name: size**exponent for name, size in SIZES.items()}
            wanted = {name: power / sum(powers.values()) for name, power in powers.items()}
            assert Annealed().probabilities(SIZES, epoch - 1, epochs) == pytest.approx(wanted, rel=1e-12)


def test_annealed_with_one_exponent_does_not_move() -> None:
    annealed = Annealed(start=0.5, end=0.5)
    wanted = Temperature(temperature=2.0).probabilities(SIZES)
    assert all(annealed.probabilities(SIZES, step, 10) == pytest.approx(wanted) for step in range(10))


def test_annealed_stays_at_its_end_beyond_the_last_step_and_at_its_start_in_a_run_of_one() -> None:
    assert Annealed().probabilities(SIZES, 25, 10) == Annealed().probabilities(SIZES, 9, 10)
    assert Annealed().probabilities(SIZES, 0, 1) == Proportional().probabilities(SIZES)
