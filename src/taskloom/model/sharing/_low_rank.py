"""What schemes of low-rank parts beside linear layers have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field
from torch import nn

from taskloom.errors import ConfigError, Fault
from taskloom.model.sharing import Sharing
from taskloom.model.sharing._routing import RoutedLayer, RoutedLinear, Routing
from taskloom.model.sharing._rows import TaskRows
from taskloom.model.sharing._targets import ALL_LINEAR, matching, replace

Rank = Annotated[int, Field(ge=1)]
Alpha = Annotated[float, Field(gt=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class LowRank(Sharing):
    """Freezes a backbone and puts low-rank parts beside its linear layers.

    Args:
        r: rank of each pair of factors.
        lora_alpha: the update is scaled by ``lora_alpha / r``.
        lora_dropout: of the input of the first factor.
        target_modules: ends of the names of linear layers, or `all-linear`.
    """

    def __init__(
        self,
        *,
        r: Rank = 16,
        lora_alpha: Alpha = 32.0,
        lora_dropout: Dropout = 0.0,
        target_modules: str | list[str] = ALL_LINEAR,
    ) -> None:
        at_least_one("r", r)
        self.r = r
        self.scaling = lora_alpha / r
        self.lora_dropout = lora_dropout
        self.target_modules = target_modules

    def install(self, backbone: nn.Module, tasks: Sequence[str]) -> Routing:
        """Put this scheme's parts beside each target layer; see `Sharing.install`."""
        self.check(tasks)
        return put_in(backbone, matching(backbone, self.target_modules), tasks, self.layer)

    @abstractmethod
    def layer(self, base: nn.Module, path: str, rows: TaskRows) -> RoutedLinear:
        """Make what stands in the place of a linear layer."""


Make = Callable[[nn.Module, str, TaskRows], RoutedLayer]
"""From a layer, its path and the rows to what stands in the layer's place."""


def put_in(backbone: nn.Module, layers: dict[str, nn.Module], tasks: Sequence[str], make: Make) -> Routing:
    """Freeze a backbone, put what `make` gives in the place of some layers, and give the routing."""
    rows = TaskRows(tasks)
    made: dict[str, RoutedLayer] = {}

    def kept(path: str, base: nn.Module) -> nn.Module:
        made[path] = make(base, path, rows).train(base.training)
        return made[path]

    backbone.requires_grad_(False)
    replace(backbone, layers, kept)
    return Routing(made, rows)


def at_least_one(option: str, value: int) -> None:
    """Refuse a count below 1."""
    if value < 1:
        raise ConfigError(Fault(f"model.sharing.{option}", "be a whole number of 1 or more", f"`{value}`"))
