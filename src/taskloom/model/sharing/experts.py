"""A mixture of LoRA experts that all tasks share, under a gate of the task, of the token, or of both."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from taskloom.errors import ConfigError, Fault
from taskloom.model.sharing._low_rank import Alpha, Dropout, LowRank, Rank, at_least_one
from taskloom.model.sharing._pairs import StackedPairs
from taskloom.model.sharing._routing import Factors, RoutedLinear, widened
from taskloom.model.sharing._rows import ByTask, TaskRows
from taskloom.model.sharing._targets import ALL_LINEAR

SPREAD = 0.02
"""Standard deviation of fresh gates: nearly even, and no ties where only the first few count."""


class Experts(LowRank):
    """Give all tasks several LoRA experts, and a gate that says how much of each a row or a token takes.

    Prefer it with `gate: task` where tasks fall into groups that you do not know: the gate is cheap, tells afterwards
    what was shared, and a task's part merges into one LoRA. Do not expect more of it than of one LoRA of rank
    experts × r before you have compared the two.

    Formula: for a token x of a row of task t, with W the frozen weight and E experts,
    ``y = W x + (lora_alpha / r) sum_e g_e B_e A_e x``, with ``g = softmax(z)`` over all experts or the `top_k` greatest
    of z, and z = w_t (gate "task"), G x ("token") or w_t + G x ("task_and_token").

    Shapes: A [E r, in], B [out, E r], the experts side by side; w_t [E]; G [E, in]: E r (in + out) parameters a layer,
    and T E and E in of gates.

    Options:
        gate: "task" (default), "token" or "task_and_token". Only with "task" a task's part is a plain LoRA.
        experts: E (4).
        top_k: how many experts count for a row or token; all by default. All are computed either way.
        balance_loss: weight of ``E sum_e f_e p_e``, p the mean gate and f the share of rows and tokens that chose
            expert e (p itself where all count); its least is 1, where experts are used alike (0: none).
        r: rank of each expert (16).
        lora_alpha: the update is scaled by lora_alpha / r (32).
        lora_dropout: of the input of A and G (0).
        target_modules: ends of the names of linear layers, or `all-linear`, which leaves out the output embeddings.

    A balance loss needs checkpoints that are not reentrant. Padding counts in it, and in the record of gates.

    Errors: ConfigError for less than one expert, and for `top_k` beyond the experts.

    Differs: MOELoRA makes its gate from an embedding of the task by a linear map, which says the same as a vector of
    the task's own; MixLoRA has experts in feed-forward layers alone.

    Paper: Liu et al., When MOE Meets LLMs (MOELoRA), 2023, arXiv:2310.18339; Li et al., MixLoRA, 2024,
    arXiv:2404.15159; the balance loss: Fedus et al., Switch Transformers, 2021, arXiv:2101.03961.
    """

    def __init__(
        self,
        *,
        gate: Literal["task", "token", "task_and_token"] = "task",
        experts: Annotated[int, Field(ge=1)] = 4,
        top_k: Annotated[int, Field(ge=1)] | None = None,
        balance_loss: Annotated[float, Field(ge=0)] = 0.0,
        r: Rank = 16,
        lora_alpha: Alpha = 32.0,
        lora_dropout: Dropout = 0.0,
        target_modules: str | list[str] = ALL_LINEAR,
    ) -> None:
        super().__init__(r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, target_modules=target_modules)
        at_least_one("experts", experts)
        if top_k is not None:
            at_least_one("top_k", top_k)
            if top_k > experts:
                requirement = "be no more than `experts`"
                raise ConfigError(Fault("model.sharing.top_k", requirement, f"`{top_k}` of `{experts}` experts"))
        self.gate = gate
        self.experts = experts
        self.top_k = top_k
        self.balance_loss = balance_loss

    def layer(self, base: nn.Module, path: str, rows: TaskRows) -> RoutedLinear:
        """Make a layer with experts and their gate."""
        layer = ExpertsLayer(base, path, rows, self.lora_dropout)
        layer.pairs = StackedPairs(layer, self.experts, self.r, self.scaling)
        layer.top_k, layer.balance_weight = self.top_k, self.balance_loss
        layer.of_task = ByTask() if self.gate != "token" else None
        layer.of_token = None
        if self.gate != "task":
            weight = torch.randn(self.experts, layer.in_features, **layer.fresh) * SPREAD
            layer.of_token = nn.Parameter(weight)
        for task in rows.tasks:
            layer.add_task(task, None)
        return layer


class ExpertsLayer(RoutedLinear):
    """A frozen layer, experts, and gates of tasks or tokens."""

    pairs: StackedPairs
    of_task: ByTask | None
    of_token: Tensor | None
    top_k: int | None
    balance_weight: float
    not_plain = "gates that look at each token"

    def __init__(self, base: nn.Module, path: str, rows: TaskRows, dropout: float) -> None:
        super().__init__(base, path, rows, dropout)
        self._balance: Tensor | None = None
        self._cut_off = False
        self._seen: dict[str, Tensor] = {}  # task -> gates summed over rows, and at the end how many rows

    def added(self, x: Tensor) -> Tensor:
        """Give each token its gate's sum of the experts' updates."""
        rows, logits = self.task_rows, None
        if self.of_token is not None:
            logits = functional.linear(x, self.of_token)
        if self.of_task is not None:
            of_task = self.of_task.gathered(rows, x, self.path).unsqueeze(1)
            logits = of_task if logits is None else logits + of_task
        assert logits is not None
        gate = self._weights(logits)
        self._balance = None
        if self.training:
            self._note(gate.expand(x.shape[0], -1, -1), x)
        return self.pairs.added(x, gate)

    def add_task(self, task: str, like: str | None) -> None:
        """Add a gate; where tokens alone are looked at, a task has nothing of its own."""
        if self.of_task is None:
            return
        fresh = torch.randn(self.pairs.count, **self.fresh) * SPREAD
        self.of_task.put(task, fresh if like is None else self.of_task.of(like).detach().clone())

    def factors(self, task: str) -> Factors:
        """Give all experts side by side under the task's gate."""
        if self.of_task is None or self.of_token is not None:
            return super().factors(task)
        return self.pairs.factors(self._weights(self.of_task.of(task)))

    def balance(self) -> Tensor | None:
        """Give the weighted balance loss of the last forward pass, once.

        Raises:
            ValueError: that pass kept nothing for a backward pass, as within a reentrant checkpoint.
        """
        held, self._balance = self._balance, None
        if held is not None and self._cut_off and torch.is_grad_enabled():
            raise ValueError(
                "`balance_loss` should be used with checkpoints that are not reentrant. Found a balance loss without a "
                "gradient; set `use_reentrant: false`."
            )
        return held

    @torch.no_grad()
    def gates(self) -> dict[str, Tensor]:
        """Give each task's gate, or the mean of its tokens' gates since last asked."""
        if self.of_task is not None and self.of_token is None:
            return {task: self._weights(self.of_task.of(task)) for task in self.task_rows.tasks}
        seen, self._seen = self._seen, {}
        return {task: sums[:-1] / sums[-1] for task, sums in seen.items()}

    def _weights(self, logits: Tensor) -> Tensor:
        """Give the gate [..., E] of logits [..., E], in single precision."""
        logits = widened(logits)
        if self.top_k is not None:
            greatest, places = logits.topk(self.top_k, dim=-1)
            logits = torch.full_like(logits, -math.inf).scatter(-1, places, greatest)
        return torch.softmax(logits, dim=-1)

    def _note(self, gate: Tensor, x: Tensor) -> None:
        """Keep the balance loss and the mean gate of each task: gate [row, token or 1, E]."""
        if self.balance_weight:
            mean = gate.mean(dim=(0, 1))
            chosen = mean.detach()
            if self.top_k is not None:
                chosen = (gate.detach() > 0).to(gate.dtype).mean(dim=(0, 1)) / self.top_k
            self._balance = self.balance_weight * self.pairs.count * (chosen * mean).sum()
            self._cut_off = not torch.is_grad_enabled()
        if self.of_token is None:
            return
        with torch.no_grad():
            of_row = gate.detach().mean(dim=1)
            numbers = self.task_rows.numbers(x, self.path)
            sums = of_row.new_zeros(len(self.task_rows.tasks), of_row.shape[1] + 1)
            sums.index_add_(0, numbers, torch.cat([of_row, torch.ones_like(of_row[:, :1])], dim=1))
            for number in self.task_rows.present:
                task = self.task_rows.tasks[number]
                self._seen[task] = self._seen.get(task, 0.0) + sums[number]
