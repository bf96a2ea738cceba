"""The room of balancing methods: the files here, and torchjd's methods by their own names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskloom.balance._aggregations import AGGREGATIONS
from taskloom.balance._scalarizations import SCALARIZATIONS
from taskloom.room import Room

if TYPE_CHECKING:
    from taskloom.balance import Balance
    from taskloom.balance._row import Row

ROWS: dict[str, Row] = AGGREGATIONS | SCALARIZATIONS
"""torchjd's methods by the names of torchjd's files; what both of its families have is here a scalarization."""


class BalanceRoom(Room["Balance"]):
    """The balancing methods: those of the folder, and those of torchjd, described without importing it."""

    def names(self) -> list[str]:
        """List all methods by name, sorted; imports none of them."""
        return sorted({*super().names(), *ROWS})

    def load(self, name: str) -> type[Balance]:
        """Import the method called `name`; raises ConfigError as every room does."""
        if name not in ROWS:
            return super().load(name)
        from taskloom.balance._torchjd import bridge

        return bridge(name)

    def options(self, name: str) -> dict[str, tuple[Any, Any]]:
        """Give the options of a method: name -> (type, default); a required one has ``...`` for its default."""
        if name not in ROWS:
            return super().options(name)
        return {key: (option.hint, option.default) for key, option in ROWS[name].options.items()}

    def summary(self, name: str) -> str:
        """Give the first sentence of a method's docstring without importing it."""
        return ROWS[name].summary if name in ROWS else super().summary(name)
