"""Training some parts of a model whose other parts stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import nn

from taskloom.balance import BALANCES
from taskloom.config import Config
from taskloom.gradients import Balancer
from taskloom.growth.base import Described
from taskloom.growth.request import Fisher, Gentle, Replay
from taskloom.model import MultiTaskModel, save_model
from taskloom.model.multitask import own_adapter
from taskloom.preparation import Prepared
from taskloom.session import Session


class GrowthSession(Session):
    """A session that trains some tasks of a model, and saves all of them.

    Args:
        config: a run of the tasks that are trained.
        prepared: its data.
        folder: where checkpoints go.
        model: with the heads of all tasks.
        others: the tasks that are not trained, which are saved before those that are.
    """

    def __init__(
        self,
        config: Config,
        prepared: Prepared,
        folder: Path,
        model: MultiTaskModel,
        others: Mapping[str, Described],
    ) -> None:
        super().__init__(config, prepared, folder, model)
        self.others = dict(others)

    def balancer(self) -> Balancer:
        """Make the balancer; of one task alone, all that is trained is in one place, since nothing is weighed."""
        if len(self.config.tasks) > 1:
            return super().balancer()
        self.model.to(self.arguments.device)
        trained = [(name, each) for name, each in self.model.named_parameters() if each.requires_grad]
        return Balancer(trained, list(self.config.tasks), BALANCES.load("equal")())

    def save(self, folder: Path) -> None:
        """Write the model with all its tasks as it is now."""
        trained = {
            name: (self.config.tasks[name].type, self.config.options(name), task)
            for name, task in self.prepared.tasks.items()
        }
        others = {name: task for name, task in self.others.items() if name not in trained}
        tokenizer, section = self.prepared.tokenizer, self.config.model
        save_model(self.model, folder, tokenizer=tokenizer, section=section, tasks={**others, **trained})


def shared_parameters(model: MultiTaskModel) -> set[str]:
    """Name the parameters of the backbone that the tasks of a loaded model have trained together."""
    own = {own_adapter(task) for task in model.own_adapters}
    return {
        name
        for name, parameter in model.shared_parameters()
        if parameter.requires_grad and not own & set(name.split("."))
    }


def settle(model: MultiTaskModel, name: str, shared: Collection[str], gentle: Gentle | None) -> None:
    """Say what is trained with a new task: its own parts alone; shared parts too, where that is asked for.

    What is not trained runs in evaluation mode, so that its dropout does not blur what the new parts read.

    Args:
        model: with the new task's head, and its own adapter where it has one.
        name: the new task.
        shared: of `shared_parameters`.
        gentle: how shared parts are trained on; replay trains the old tasks' own parts along.
    """
    tasks = set(model.heads) if isinstance(gentle, Replay) else {name}
    own = {own_adapter(task) for task in tasks}
    owner = model.routing.owner if model.routing is not None else {}
    for path, parameter in model.backbone.named_parameters():
        trained = gentle is not None and path in shared
        parameter.requires_grad_(trained or bool(own & set(path.split("."))) or owner.get(path) in tasks)
    for task, head in model.heads.items():
        head.requires_grad_(task == name or isinstance(gentle, Replay))
    model.at_rest = _at_rest(model, name, gentle)


def _at_rest(model: MultiTaskModel, name: str, gentle: Gentle | None) -> list[nn.Module]:
    if isinstance(gentle, Replay):
        return []
    resting: list[nn.Module] = [
        module for task, head in model.heads.items() if task != name for module in head.modules()
    ]
    if not isinstance(gentle, Fisher):
        own = own_adapter(name)
        resting += [module for path, module in model.backbone.named_modules() if own not in path.split(".")]
    return resting


def copy_parts(model: MultiTaskModel, like: str, name: str, parts: Collection[str]) -> None:
    """Begin a new task's parts as those of another one are.

    Args:
        model: with the parts of both.
        like: the task that is copied.
        name: the new task.
        parts: of "head" and "own_adapter".
    """
    if "head" in parts:
        model.heads[name].load_state_dict(model.heads[like].state_dict())
    if "own_adapter" in parts:
        held = dict(model.backbone.named_parameters())
        old, new = f".{own_adapter(like)}.", f".{own_adapter(name)}."
        for path, parameter in held.items():
            if old in path:
                held[path.replace(old, new)].data.copy_(parameter.data)
