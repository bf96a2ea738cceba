"""Sharing schemes: which trained parts of the backbone tasks have in common, and which are a task's own.

A scheme is a class with one method, ``install``. It freezes the backbone, puts trained parts into it, and gives the
`Routing` by which each row of a batch is told which task it is of: rows of all tasks go through the shared, the
task-specific and the routed parts in one forward pass. To add a scheme, put a file here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskloom.room import Room

if TYPE_CHECKING:
    from torch import nn

    from taskloom.model.sharing._routing import Routing


class Sharing(ABC):
    """From a backbone and the names of tasks to trained parts in it.

    Subclasses take their options as keyword arguments of ``__init__``.
    """

    def check(self, tasks: Sequence[str]) -> None:  # noqa: B027 - most schemes fit any tasks
        """Refuse options that do not fit the tasks, before anything is loaded; raises ConfigError."""

    @abstractmethod
    def install(self, backbone: nn.Module, tasks: Sequence[str]) -> Routing:
        """Freeze the backbone and put the scheme's parts into it.

        At first they change nothing that it computes, unless the scheme says so. Fresh weights are drawn from torch's
        own generator.

        Args:
            backbone: a transformers model, with or without its language head.
            tasks: the tasks of the run, in the order in which rows name them by number.

        Raises:
            ConfigError: the options do not fit the tasks.
            ModelError: the options do not fit the backbone.
        """


SHARINGS: Room[Sharing] = Room("taskloom.model.sharing", "sharing scheme")
