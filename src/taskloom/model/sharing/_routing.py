"""What a scheme put into a backbone: whose rows it reads, whose parameters it has, and what it says of itself."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from taskloom.errors import ConfigError, Fault, ModelError, nearest
from taskloom.model.sharing._rows import ByTask, TaskRows
from taskloom.model.sharing._targets import widths

Factors = tuple[Tensor, Tensor]
"""The two factors of a low-rank update: [rank, in] and [out, rank]; all scaling is in the second."""


@dataclass(frozen=True)
class PlainLora:
    """A task's parts as one adapter that peft loads without anything of ours.

    Attributes:
        state: peft's names -> factors; the scheme's scaling is folded into those called B.
        r: the rank: that of all of the task's factors side by side, so larger than the scheme's where it has several.
        lora_alpha: equal to `r`, so that peft scales by 1.
        target_modules: paths of the layers.
    """

    state: dict[str, Tensor]
    r: int
    lora_alpha: int
    target_modules: list[str]


class RoutedLayer(nn.Module, ABC):
    """A frozen layer of the backbone, and a scheme's parts beside it.

    Args:
        base: the layer.
        path: its name in the backbone.
        rows: which task each row is of.
    """

    def __init__(self, base: nn.Module, path: str, rows: TaskRows) -> None:
        super().__init__()
        self.base_layer = base
        self.path = path
        self.task_rows = rows

    def owners(self) -> dict[str, str | None]:
        """Give the name of each parameter of the parts -> its task, or None where several tasks use it."""
        own: dict[str, str] = {}
        for path, module in self.named_modules():
            if isinstance(module, ByTask):
                own |= {f"{path}.{name}": task for name, task in module.owners().items()}
        return {name: own.get(name) for name, _ in self.named_parameters() if not name.startswith("base_layer.")}

    @abstractmethod
    def add_task(self, task: str, like: str | None) -> None:
        """Add a task's own parts: those of the task `like`, copied, or fresh ones."""

    def factors(self, task: str) -> Factors:
        """Give what the parts are to a task, as one low-rank update.

        Raises:
            ModelError: they are none.
        """
        requirement = "be a scheme whose parts are one LoRA to a task, to be written as a plain adapter"
        raise ModelError(Fault("model.sharing.scheme", requirement, self.not_plain))

    not_plain = "one that is not"
    """Why there are no `factors`, for the message."""

    def balance(self) -> Tensor | None:
        """Give the weighted balance loss of the last forward pass, once."""
        return None

    def gates(self) -> dict[str, Tensor]:
        """Give task -> the mean gate [expert] since last asked; empty where there is no gate that learns."""
        return {}


class RoutedLinear(RoutedLayer):
    """A frozen linear layer, to whose output something of its input is added.

    It has a linear layer's own attributes, which some backbones read.

    Class attributes:
        reads_output: whether what is added is made of the layer's output.
    """

    reads_output: ClassVar[bool] = False

    def __init__(self, base: nn.Module, path: str, rows: TaskRows, dropout: float = 0.0) -> None:
        super().__init__(base, path, rows)
        self.in_features, self.out_features = widths(base)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    @property
    def weight(self) -> Any:
        """The frozen weight."""
        return self.base_layer.weight

    @property
    def bias(self) -> Any:
        """The frozen bias."""
        return self.base_layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Add to the frozen layer's output what the parts make, in single precision or autocast's."""
        self.task_rows.check(x, self.path)
        base: Tensor = self.base_layer(x)
        source = base if self.reads_output else x
        held = source.reshape(source.shape[0], -1, source.shape[-1])
        if not torch.is_autocast_enabled(x.device.type):
            held = widened(held)
        added = self.added(self.dropout(held))
        return base + added.to(base.dtype).view(base.shape)

    @abstractmethod
    def added(self, x: Tensor) -> Tensor:
        """Give what is added to the output: [row, token, in or out] -> [row, token, out]."""

    @property
    def fresh(self) -> dict[str, Any]:
        """Where fresh parts are, and of what precision: single at least."""
        weight = self.weight
        return {"device": weight.device, "dtype": torch.promote_types(weight.dtype, torch.float32)}

    def fresh_down(self, rank: int) -> Tensor:
        """Draw a first factor as peft does: [rank, in]."""
        value = torch.empty(rank, self.in_features, **self.fresh)
        nn.init.kaiming_uniform_(value, a=math.sqrt(5))
        return value

    def fresh_up(self, rank: int) -> Tensor:
        """Make a second factor of zeros: [out, rank]."""
        return torch.zeros(self.out_features, rank, **self.fresh)


def widened(tensor: Tensor) -> Tensor:
    """Bring a tensor to single precision at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Routing:
    """What a scheme put into a backbone.

    Args:
        layers: path -> layer, as they stand in the backbone.
        rows: which task each row is of; the layers hold the same.

    Attributes:
        owner: the name of each trained parameter in the backbone -> its task, or None where several tasks use it. Those
            of None are what the tasks' gradients meet in; all others are a single task's.
    """

    def __init__(self, layers: Mapping[str, RoutedLayer], rows: TaskRows) -> None:
        self.layers = dict(layers)
        self._rows = rows
        self.owner = self._owners()

    @property
    def tasks(self) -> list[str]:
        """The tasks, by number."""
        return list(self._rows.tasks)

    def rows(self, task_of_row: Tensor | Sequence[int]) -> None:
        """Say which task each row of the next forward pass is of: [row] numbers of tasks.

        It holds until it is said anew, so that checkpoints compute the same again; run the backward pass of one
        forward pass before the next rows are said. Rows that generation repeats side by side are repeated here.
        """
        self._rows.say(task_of_row)

    def names(self) -> list[str]:
        """Name the parameters of the parts in the backbone, trained or frozen since."""
        return list(self._parts())

    def counts(self) -> dict[str, int]:
        """Count the parameters of the parts, trained or frozen since: "shared", and each task's own by its name."""
        counts = {"shared": 0, **dict.fromkeys(self._rows.tasks, 0)}
        for parameter, task in self._parts().values():
            counts["shared" if task is None else task] += parameter.numel()
        return counts

    def add_task(self, name: str, like: str | None = None) -> None:
        """Add the parts of a new task, and freeze all others, whose bytes stay as they are.

        Args:
            name: of the task; its number is the next.
            like: the task whose parts it starts with; fresh ones where None.

        Raises:
            ConfigError: the name is taken, or there is no task `like`.
        """
        if name in self._rows.tasks:
            raise ConfigError(Fault(name, "be the name of a new task", f"`{name}`, which is there"))
        if like is not None and like not in self._rows.tasks:
            raise ConfigError(Fault("like", "name a task of the model", f"`{like}`", nearest(like, self._rows.tasks)))
        for parameter, _ in self._parts().values():
            parameter.requires_grad_(False)
        for layer in self.layers.values():
            layer.add_task(name, like)
        self._rows.tasks.append(name)
        self.owner = self._owners()

    @torch.no_grad()
    def plain_lora(self, task: str) -> PlainLora:
        """Give a task's parts as one LoRA for peft, on the backbone as it was before.

        Raises:
            ConfigError: there is no such task.
            ModelError: the parts are no LoRA to a task.
        """
        if task not in self._rows.tasks:
            raise ConfigError(Fault("task", "name a task of the model", f"`{task}`", nearest(task, self._rows.tasks)))
        state, rank = {}, 0
        for path, layer in self.layers.items():
            down, up = layer.factors(task)
            rank = down.shape[0]
            state[f"base_model.model.{path}.lora_A.weight"] = down.detach().clone().contiguous()
            state[f"base_model.model.{path}.lora_B.weight"] = up.detach().clone().contiguous()
        return PlainLora(state, rank, rank, list(self.layers))

    def losses(self) -> Tensor | None:
        """Give the weighted balance loss of the last forward pass, a scalar, once; None where there is none.

        Raises:
            ValueError: it can carry no gradient, since a reentrant checkpoint was around it.
        """
        found = [each for layer in self.layers.values() if (each := layer.balance()) is not None]
        return torch.stack(found).mean() if found else None

    def load(self) -> dict[str, list[float]]:
        """Give task -> the mean gate of each expert over layers, tokens and rows since last asked.

        A task without rows since then is left out where gates look at tokens; empty where there is no gate.
        """
        found: dict[str, list[Tensor]] = {}
        for layer in self.layers.values():
            for task, gate in layer.gates().items():
                found.setdefault(task, []).append(gate)
        return {task: torch.stack(gates).mean(dim=0).tolist() for task, gates in found.items()}

    def _owners(self) -> dict[str, str | None]:
        return {name: task for name, (parameter, task) in self._parts().items() if parameter.requires_grad}

    def _parts(self) -> dict[str, tuple[nn.Parameter, str | None]]:
        named = {}
        for path, layer in self.layers.items():
            for name, task in layer.owners().items():
                named[f"{path}.{name}"] = (layer.get_parameter(name), task)
        return named
