"""The room: its names, what it loads, and how it answers what it lacks."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
import typing
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from balance_steps import NAMES, gradients, made, seen_of
from taskloom.balance import BALANCES, Balance
from taskloom.balance._room import ROWS
from taskloom.balance.equal import Equal
from taskloom.config.schema import BalanceSection
from taskloom.errors import ConfigError, MissingExtraError


def test_the_room_has_the_files_and_torchjds_methods() -> None:
    assert {"equal", "static", "nash_mtl", "coba", "upgrad", "cagrad", "stch", "uw", "famo"} <= set(BALANCES.names())
    assert BALANCES.names() == sorted(set(BALANCES.names()))


@pytest.mark.parametrize("name", BALANCES.names())
def test_a_method_is_loaded_as_a_class_that_says_what_it_needs(name: str) -> None:
    method = BALANCES.load(name)
    assert issubclass(method, Balance)
    assert method is BALANCES.load(name)
    assert not inspect.isabstract(method)
    assert method.needs in {"nothing", "losses", "gramian", "cross_gramian", "jacobian"}
    assert method.total in {"mean", "sum"}


@pytest.mark.parametrize("name", BALANCES.names())
def test_no_option_hides_a_key_that_every_method_has(name: str) -> None:
    assert not set(BALANCES.options(name)) & set(BalanceSection.model_fields)


@pytest.mark.parametrize("name", BALANCES.names())
def test_the_default_of_an_option_is_within_its_limits(name: str) -> None:
    for hint, default in BALANCES.options(name).values():
        if default is not ...:
            assert TypeAdapter(hint).validate_python(default, strict=True) == default


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("cagrad", "c", -0.1),
        ("uncertainty", "temperature", 0.0),
        ("cr_mogm", "alpha", 1.1),
        ("krum", "n_selected", 0),
        ("static", "weights", {"intent": -1}),
        ("dwa", "window", 0),
    ],
)
def test_an_option_outside_its_limits_is_refused(name: str, option: str, value: Any) -> None:
    hint, _ = BALANCES.options(name)[option]
    with pytest.raises(ValidationError):
        TypeAdapter(hint).validate_python(value)


def test_an_unknown_method_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        BALANCES.load("upgrd")
    assert str(caught.value) == (
        "`upgrd` should be a balancing method that Taskloom has. Found `upgrd`. Did you mean `upgrad`?"
    )


def test_a_method_elsewhere_is_named_in_full() -> None:
    assert BALANCES.load("taskloom.balance.equal:Equal") is Equal
    with pytest.raises(ConfigError, match=r"a class made from `taskloom\.balance\.Balance`"):
        BALANCES.load("json:JSONDecoder")


def test_an_option_that_a_bridged_method_lacks_is_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'd'"):
        BALANCES.load("cagrad")(d=1)
    with pytest.raises(TypeError, match="missing a required keyword argument: 'primary'"):
        BALANCES.load("pcd")()


def test_the_room_lists_and_describes_without_torch() -> None:
    code = (
        "import sys; from taskloom.balance import BALANCES as B; "
        "print([(n, B.summary(n)) for n in B.names()], B.options('cagrad')); "
        "sys.exit(bool({'torch', 'torchjd', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    hidden: Any = lambda name, *rest: None if name in {"cvxpy", "clarabel"} else found(name, *rest)  # noqa: E731
    monkeypatch.setattr("torchjd._mixins.find_spec", hidden)
    with pytest.raises(MissingExtraError) as caught:
        BALANCES.load("cagrad")()
    assert str(caught.value) == (
        "`cvxpy` should be installed to balance by `cagrad`. Found no such package. "
        "Run `pip install 'taskloom[balance]'`."
    )


def test_no_solver_under_the_gpl_is_installed() -> None:
    assert importlib.util.find_spec("quadprog") is None
    assert importlib.util.find_spec("ecos") is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("constant", {"weights": {"intent": 1.0}},
         "`balance.weights.slots` should be given. Found nothing. Add `slots: 1`."),
        ("stch", {"reference": {"intnt": 1.0}},
         "`balance.reference.intnt` should be one of the run's tasks. Found `intnt`. Did you mean `intent`?"),
        ("famo", {"min_losses": {"x": 1.0}},
         "`balance.min_losses.x` should be one of the run's tasks. Found `x`. Choose one of `intent`, `slots`."),
        ("pcd", {"primary": "slot"},
         "`balance.primary` should be one of the run's tasks. Found `slot`. Did you mean `slots`?"),
        ("krum", {"n_byzantine": 1}, "`balance.n_byzantine` should be small enough for the tasks of the run. "
         "Found one that needs 4 tasks, where the run has 2. Write a smaller number, or take another method."),
        ("krum", {"n_byzantine": 0, "n_selected": 5}, "`balance.n_byzantine` should be small enough for the tasks of "
         "the run. Found one that needs 3 tasks, where the run has 2. Write a smaller number, or take another method."),
        ("trimmed_mean", {"trim_number": 1}, "`balance.trim_number` should be small enough for the tasks of the run. "
         "Found one that needs 3 tasks, where the run has 2. Write a smaller number, or take another method."),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_the_tasks_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(name, NAMES[:2], **options)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["cr_mogm", "equal", "pcd", "modo", "upgrd"])
def test_what_cannot_be_smoothed_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"`balance\.weighting` should be a method that reads the Gramian"):
        BALANCES.load("cr_mogm")(weighting=name)


def test_a_method_of_ones_own_is_a_class_with_weigh() -> None:
    class First(Balance):
        """Train the first task."""

        def weigh(self, seen: Any) -> Any:
            return (seen.losses == seen.losses[0]).double()

    balance = First()
    balance.begin(NAMES[:3])
    assert balance.weigh(seen_of(gradients(3))).tolist() == [1.0, 0.0, 0.0]
    assert balance.combine(seen_of(gradients(3))) is None
    assert balance.state() == {}
    balance.restore({})


def test_the_rows_say_what_python_says_of_the_classes() -> None:
    for name, row in ROWS.items():
        method = BALANCES.load(name)
        assert (method.needs, method.total) == (row.needs, row.total)
        assert method.__name__ == "".join(part.capitalize() for part in name.split("_"))
    assert typing.get_origin(BALANCES.options("fairgrad")["max_iters"][0]) is not None
