"""Networks between the backbone and the heads, which each task mixes by a gate of its own that looks at the row."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from taskloom.config.schema import HeadExpertsSection
from taskloom.errors import Fault, ModelError
from taskloom.model.sharing._rows import ByTask, TaskRows

FILE = "head_experts.safetensors"
WHERE = "model.head_experts"


class HeadExperts(nn.Module):
    """Expert networks that all tasks have in common, and some of each task alone, mixed by a gate of the task.

    Formula: for a token h of a row of task t, with x the mean of the row's hidden states,
    ``h' = h + sum_e g_e U_e gelu(D_e h)``, with ``g = softmax(G_t x)`` over the common experts and the task's own.

    Shapes: D [E k, width] and U [width, E k] of the common experts side by side, k wide each; of each task, D [n k,
    width] and U [width, n k] of its own experts, and G [E + n, width]. Every U and G is zero at first, so that nothing
    changes and all experts weigh alike.

    Differs: PLE stacks several such layers with gates of their own; here there is one, and hidden states also go around
    it. MMoE has no experts of single tasks, which is `own: 0`.

    Paper: Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, 2018,
    doi:10.1145/3219819.3220007; Tang et al., Progressive Layered Extraction, 2020, doi:10.1145/3383313.3412236.

    Args:
        width: of the hidden states.
        tasks: all tasks of the model, by number.
        owners: those that read hidden states through a head of their own; each has a gate and its own experts.
        section: how many experts, and how wide.
    """

    def __init__(self, width: int, tasks: Sequence[str], owners: Collection[str], section: HeadExpertsSection) -> None:
        super().__init__()
        self.task_rows = TaskRows(tasks)
        self.common = section.experts
        self.narrow = section.width
        self.dropout = nn.Dropout(section.dropout)
        self.down = nn.Parameter(_drawn(section.experts * section.width, width))
        self.up = nn.Parameter(torch.zeros(width, section.experts * section.width))
        self.gate, self.own_down, self.own_up = ByTask(), ByTask(), ByTask()
        for task in owners:
            self.gate.put(task, torch.zeros(section.experts + section.own, width))
            if section.own:
                self.own_down.put(task, _drawn(section.own * section.width, width))
                self.own_up.put(task, torch.zeros(width, section.own * section.width))

    @property
    def tasks(self) -> list[str]:
        """The tasks, by number."""
        return list(self.task_rows.tasks)

    def rows(self, task_of_row: Sequence[int]) -> None:
        """Say which task each row of the next forward pass is of: [row] numbers of tasks."""
        self.task_rows.say(task_of_row)

    def forward(self, states: Tensor, mask: Tensor, places: Tensor | None = None) -> Tensor:
        """Add to each token what its row's task makes of the experts.

        Args:
            states: [row, token, width].
            mask: [row, token], 1 where a token is real.
            places: of rows that hold several sequences, the place of each token in its own: [row, token].

        Returns:
            [row, token, width]; tasks without a gate give all experts the same weight.
        """
        gate = self._gate(states, mask, places)
        weighed = self._weighed(functional.linear(states, self.down), gate[..., : self.common])
        added = functional.linear(weighed, self.up)
        if list(self.own_down.parameters()):
            narrow = self.own_down.project(self.task_rows, states, WHERE)
            weighed = self._weighed(narrow, gate[..., self.common :])
            added = added + self.own_up.project(self.task_rows, weighed, WHERE)
        return states + added.to(states.dtype)

    def common_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Give the parameters of the experts that all tasks have in common, by name."""
        return [("down", self.down), ("up", self.up)]

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        """Give the parameters of one task alone: of its gate and its own experts."""
        parts = (self.gate, self.own_down, self.own_up)
        return [part.get_parameter(name) for part in parts for name, owner in part.owners().items() if owner == task]

    def counts(self) -> dict[str, int]:
        """Count parameters: "head experts" -> those in common, and "head experts TASK" -> a task's own."""
        counts = {"head experts": sum(parameter.numel() for _, parameter in self.common_parameters())}
        for task in self.gate.owners().values():
            counts[f"head experts {task}"] = sum(parameter.numel() for parameter in self.own_parameters(task))
        return counts

    def _gate(self, states: Tensor, mask: Tensor, places: Tensor | None) -> Tensor:
        """Give the weights of all experts: [row, token or 1, expert], in single precision at least.

        Rows that hold several sequences stay as they are: the mean of a token's own sequence is a product of its row
        with itself, so that a pass that is split by task still knows whose rows these are.
        """
        with torch.autocast(states.device.type, enabled=False):
            if places is None:
                real = mask.unsqueeze(-1).to(states.dtype)
                mean = ((states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)).unsqueeze(1)
            else:
                owners = (places == 0).cumsum(dim=1)
                same = (owners.unsqueeze(1) == owners.unsqueeze(2)).to(states.dtype)
                mean = torch.bmm(same / same.sum(dim=-1, keepdim=True), states)
            return torch.softmax(self.gate.project(self.task_rows, mean, WHERE), dim=-1)

    def _weighed(self, narrow: Tensor, gate: Tensor) -> Tensor:
        """Weigh the middles of experts: [row, token, expert × k] by [row, token or 1, expert]."""
        inner = functional.gelu(narrow).view(narrow.shape[0], narrow.shape[1], -1, self.narrow)
        weighed: Tensor = self.dropout((inner * gate.to(narrow.dtype).unsqueeze(-1)).view(narrow.shape))
        return weighed


def _drawn(outputs: int, inputs: int) -> Tensor:
    """Draw a first map as torch draws that of a linear layer: [outputs, inputs]."""
    value = torch.empty(outputs, inputs)
    nn.init.kaiming_uniform_(value, a=math.sqrt(5))
    return value


def made_head_experts(
    section: HeadExpertsSection, width: int, tasks: Sequence[str], owners: Collection[str]
) -> HeadExperts:
    """Make the experts of a model, initialised from torch's own generator.

    Raises:
        ModelError: no task reads hidden states.
    """
    if not owners:
        requirement = "stand beside a task with a head, which reads hidden states"
        found = "tasks that read words alone"
        raise ModelError(Fault(WHERE, requirement, found, "Leave it out"))
    return HeadExperts(width, tasks, owners, section)


def save_head_experts(experts: HeadExperts, folder: Path) -> None:
    """Write the experts and gates of all tasks."""
    weights = {key: value.detach().cpu().contiguous() for key, value in experts.state_dict().items()}
    save_file(weights, str(folder / FILE), metadata={"format": "pt"})


def load_head_experts(experts: HeadExperts, folder: Path) -> None:
    """Read the experts and gates of all tasks back.

    Raises:
        OSError: there is no such file.
        RuntimeError: the file holds others, or some of another shape.
    """
    experts.load_state_dict(load_file(str(folder / FILE)))
