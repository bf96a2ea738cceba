from __future__ import annotations

import pytest

from taskloom.errors import ConfigError
from taskloom.mixture.fixed import Fixed
from taskloom.mixture.proportional import Proportional
from taskloom.mixture.temperature import Temperature
from taskloom.mixture.uniform import Uniform

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
