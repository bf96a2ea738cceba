"""Adam's moments for each task apart, so that a task with large gradients does not set the step of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from taskloom.gradients.ledgers import Leaf


class TaskMoments:
    """Steps the shared parameters by a weighted sum of each task's own Adam step.

    Formula: ``step = rate * sum_t c_t m_t / (sqrt(v_t) + eps)`` with m_t and v_t the bias-corrected running means of
    task t's gradient and of its square, which stay as they are in a step without the task, and c_t its share, which
    adds up to 1 for equal weights.

    Cost: 2 × task × param × 4 bytes beside the Jacobian; meant for adapters.

    Differs: the paper adds the tasks' steps up; their mean is taken here, so that a learning rate means what it means
    to Adam. Gradients are not clipped: Adam's step does not depend on their length.

    Args:
        leaves: the shared parameters.
        tasks: T.
        betas: decay of the two running means.
        eps: added to the root of the second.

    Paper: Yang et al., AdaTask: A Task-aware Adaptive Learning Rate Approach to Multi-task Learning, 2023,
    arXiv:2211.15055.
    """

    def __init__(
        self, leaves: Sequence[Leaf], tasks: int, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        device, size = leaves[0].parameter.device, sum(leaf.size for leaf in leaves)
        self.leaves = leaves
        self.betas = betas
        self.eps = eps
        self.first = torch.zeros(tasks, size, device=device)
        self.second = torch.zeros(tasks, size, device=device)
        self.counts = torch.zeros(tasks, dtype=torch.int64)
        self.direction: Tensor | None = None

    def take(self, jacobian: Tensor, shares: Tensor, present: Tensor) -> None:
        """Take in one step's gradients, and make its direction.

        Args:
            jacobian: [task, param].
            shares: [task] what each task's step counts.
            present: [present] numbers of the tasks with rows in the step.
        """
        one, two = self.betas
        self.direction = torch.zeros_like(self.first[0])
        for task in present.tolist():
            self.counts[task] += 1
            count = int(self.counts[task])
            self.first[task].lerp_(jacobian[task], 1 - one)
            self.second[task].mul_(two).addcmul_(jacobian[task], jacobian[task], value=1 - two)
            root = (self.second[task] / (1 - two**count)).sqrt_().add_(self.eps)
            self.direction.addcdiv_(self.first[task], root, value=float(shares[task]) / (1 - one**count))

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Have the shared parameters stepped whenever an optimizer steps, by its learning rates and weight decay."""
        optimizer.register_step_post_hook(self._stepped)

    def tensors(self) -> dict[str, Tensor]:
        """Give what has to be saved to go on bit for bit."""
        return {"first": self.first, "second": self.second, "counts": self.counts}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        for name, held in self.tensors().items():
            held.copy_(tensors[name])

    @torch.no_grad()
    def _stepped(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self.direction is None:  # a step that was skipped
            return
        group_of = {id(each): group for group in optimizer.param_groups for each in group["params"]}
        for leaf in self.leaves:
            group, parameter = group_of[id(leaf.parameter)], leaf.parameter
            part = self.direction[leaf.offset : leaf.offset + leaf.size].view_as(parameter)
            parameter.mul_(1 - group["lr"] * group.get("weight_decay", 0.0))
            parameter.add_(part.to(parameter.dtype), alpha=-group["lr"])
        self.direction = None
