"""One backbone, a head for each task."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from taskloom.errors import Fault, ModelError
from taskloom.model.families import family_of
from taskloom.model.head_experts import HeadExperts
from taskloom.model.words import Words
from taskloom.tasks import Task
from taskloom.tasks._unlabelled import shared_heads
from taskloom.types import Chunk

if TYPE_CHECKING:
    from taskloom.model.sharing._routing import Routing

_OF_WORDS = {"labels", "decoder_input_ids"}
"""Inputs of a chunk that are not the backbone's first."""

HALVES = (torch.bfloat16, torch.float16)
"""Precisions in which hidden states are widened before a head reads them."""


def _config(backbone: Any) -> Any:
    """Give a backbone's configuration; torch's types know no such attribute."""
    return backbone.config


def unwrapped(backbone: Any) -> Any:
    """Give transformers' own model, where peft is wrapped around it."""
    return backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone


def _refused(base: Any, config: Any) -> frozenset[str]:
    """Find out whether a backbone has a use for token types; DistilBERT takes none, RoBERTa has but one."""
    takes = "token_type_ids" in inspect.signature(base.forward).parameters
    return frozenset() if takes and getattr(config, "type_vocab_size", 2) > 1 else frozenset({"token_type_ids"})


class ScaledGradient(torch.autograd.Function):
    """Leaves a tensor as it is, and multiplies its gradient by a factor on its way back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, factor: float) -> Tensor:
        """Give the tensor; what watches calls of torch sees one, and so knows whose rows the result holds."""
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Scale the gradient."""
        return gradients[0] * ctx.factor, None


PLACE_TABLES = {"position_embeddings", "embed_positions", "wpe"}
"""What families call their learned table of places: BERT and its kin, BART, GPT-2."""


def _place_table(backbone: nn.Module) -> nn.Embedding | None:
    """Find a backbone's learned embedding of places, also where an adapter is wrapped around it."""
    for path, module in backbone.named_modules():
        if PLACE_TABLES & set(path.split(".")) and isinstance(module, nn.Embedding):
            return module
    return None


SHARED = "default"
"""What peft calls the adapter that all tasks have in common."""


def own_adapter(task: str) -> str:
    """Give peft's name of the adapter of one task alone; the hyphen keeps it from being the name of a module."""
    return f"own-{task}"


def tasks_of_rows(chunk: Chunk, number_of: Mapping[str, int]) -> list[int]:
    """Give the number of each row's task; a task that shares another's head goes through that one's parts."""
    found = [0] * chunk.inputs["input_ids"].shape[0]
    for name, part in chunk.parts.items():
        rows = part.sequences if chunk.packing is None else chunk.packing.rows[part.sequences]
        for row in rows.tolist():
            found[row] = number_of[name]
    return found


def _by_sequence(states: Tensor, chunk: Chunk) -> Tensor:
    """Lay rows out by sequence: [row, token, width] -> [sequence, token, width]."""
    return states if chunk.packing is None else states.flatten(0, 1)[chunk.packing.places]


def share_of(chunk: Chunk, names: Sequence[str]) -> Chunk:
    """Give what a chunk holds of some of its tasks."""
    held = torch.cat([chunk.parts[name].sequences for name in names])
    parts, start = {}, 0
    for name in names:
        part = chunk.parts[name]
        end = start + len(part.sequences)
        parts[name] = replace(part, sequences=torch.arange(start, end, device=held.device))
        start = end
    packing, rows = chunk.packing, held
    if packing is not None:  # rows hold sequences of one task each
        rows, place_of = torch.unique(packing.rows[held], return_inverse=True)
        width = chunk.inputs["input_ids"].shape[1]
        places = packing.places[held] + ((place_of - packing.rows[held]) * width).unsqueeze(1)
        halves = [packing.halves[row] for row in rows.tolist()]
        packing = replace(packing, rows=place_of, places=places, mask=packing.mask[held], halves=halves)
    inputs = {key: value[held if key == "labels" else rows] for key, value in chunk.inputs.items()}
    return Chunk(inputs, parts, packing)


class MultiTaskModel(nn.Module):
    """A backbone whose hidden states every task's head reads.

    Args:
        backbone: transformers' model, with or without a peft adapter; with its language head where a task reads words.
        tasks: task name -> task; each gives its head.
        routing: what a sharing scheme put into the backbone; None where there is none.

    Attributes:
        backbone: as given.
        routing: as given.
        family: of the backbone.
        reads_words: the names of tasks that read words.
        heads: task name -> head.
        sharers: task name -> the task whose head it shares, where it has none of its own.
        head_experts: what hidden states go through before heads read them; None where they are read as they are.
        config: the backbone's configuration, which Trainer callbacks read.
        refused: inputs that tokenizers may give and this backbone does not take.
        shared_updates: task name -> factor on the gradient that goes from its head into the backbone; 1 where absent.
        own_adapters: task name -> peft's fields of the LoRA that its rows alone go through, beside the shared one.
        at_rest: modules that stay in evaluation mode while others train, as what is frozen does.
    """

    accepts_loss_kwargs = False
    """Tells transformers' Trainer that losses are normalised here, not by a count of its own."""

    def __init__(self, backbone: nn.Module, tasks: Mapping[str, Task], routing: Routing | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.routing = routing
        self.config = _config(backbone)
        self.family = family_of(self.config)
        self.reads_words = frozenset(name for name, task in tasks.items() if task.reads == "words")
        base = unwrapped(backbone)
        # Its own language head, where it has one, is left out: losses of words need no logits.
        self._bare = base.get_output_embeddings() is None
        self._words = None if self._bare else Words(base)
        self.refused = _refused(base, self.config)
        # RoBERTa and its kin count places from behind their padding's number, BART from 2.
        table = _place_table(backbone)
        padding = getattr(table, "padding_idx", None)
        self._first_place = getattr(table, "offset", 0 if padding is None else padding + 1)
        width = int(self.config.hidden_size)
        self.sharers = shared_heads(tasks)
        self.heads = nn.ModuleDict({name: task.head(width) for name, task in tasks.items() if name not in self.sharers})
        self.head_experts: HeadExperts | None = None
        self.shared_updates: dict[str, float] = {}
        self.own_adapters: dict[str, dict[str, Any]] = {}
        self.at_rest: Sequence[nn.Module] = ()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is at rest stays in evaluation mode."""
        super().train(mode)
        for module in self.at_rest:
            module.training = False
        return self

    def add_head(self, name: str, task: Task) -> None:
        """Give a further task its head, initialised from torch's own generator.

        Raises:
            ModelError: tasks go through experts before their heads, which have no gate of this one.
        """
        if self.head_experts is not None:
            requirement, found = "be left out of a run that tasks are added to", "a gate for each task of the run alone"
            raise ModelError(Fault("model.head_experts", requirement, found, "Train a run of all tasks together"))
        self.heads[name] = task.head(int(self.config.hidden_size))
        if task.reads == "words":
            self.reads_words |= {name}

    @contextlib.contextmanager
    def adapted(self, task: str | None) -> Iterator[None]:
        """Have rows go through the adapter of one task too, where it has one, and not by the shared one alone."""
        if task is None or task not in self.own_adapters:
            yield
            return
        own = own_adapter(task)
        # peft's own switch would also freeze the adapters that it turns off, in the middle of a step.
        touched: list[Any] = [each for each in self.backbone.modules() if own in getattr(each, "lora_A", {})]
        for layer in touched:
            layer._active_adapter = [SHARED, own]
        try:
            yield
        finally:
            for layer in touched:
                layer._active_adapter = [SHARED]

    def forward(self, chunk: Chunk) -> dict[str, Tensor]:
        """Run the backbone and each task's head on its own sequences; once, but for tasks with adapters of their own.

        Returns:
            task name -> output [sequence, ...], sequences in the order of the task's items.
        """
        owners: dict[str | None, list[str]] = {}
        for name in chunk.parts:
            owners.setdefault(name if name in self.own_adapters else None, []).append(name)
        outputs: dict[str, Tensor] = {}
        for owner, names in owners.items():
            with self.adapted(owner):
                outputs |= self._outputs(chunk if len(owners) == 1 else share_of(chunk, names))
        return outputs

    def _outputs(self, chunk: Chunk) -> dict[str, Tensor]:
        """Run the backbone once and each task's head on its own sequences.

        Returns:
            task name -> output [sequence, ...], sequences in the order of the task's items.
        """
        for routed in (self.routing, self.head_experts):
            if routed is not None:
                places = {name: number for number, name in enumerate(routed.tasks)}
                places |= {name: places[owner] for name, owner in self.sharers.items()}
                routed.rows(tasks_of_rows(chunk, places))
        states, mask = self._states(chunk), chunk.mask
        hidden = losses = _by_sequence(states, chunk)
        if "labels" in chunk.inputs:
            losses = self._losses(hidden, chunk)
        if self.head_experts is not None and chunk.parts.keys() - self.reads_words:
            packed = None if chunk.packing is None else chunk.inputs["position_ids"]
            hidden = _by_sequence(self.head_experts(states, chunk.inputs["attention_mask"], packed), chunk)
        outputs = {}
        for name, part in chunk.parts.items():
            words = name in self.reads_words
            rows, factor = (losses if words else hidden)[part.sequences], self.shared_updates.get(name, 1.0)
            if factor != 1.0:
                rows = ScaledGradient.apply(rows, factor)  # type: ignore[no-untyped-call]
            outputs[name] = rows if words else self.head_of(name)(rows, mask[part.sequences])
        return outputs

    def _losses(self, hidden: Tensor, chunk: Chunk) -> Tensor:
        """Give what each label token costs: [sequence, label token]."""
        if self._words is None:
            raise ValueError("A backbone without a language head was given labels of words.")
        states, labels = hidden, chunk.inputs["labels"]
        if self.family == "encoder_decoder":
            states = self._words.written(hidden, chunk.inputs["attention_mask"], chunk.inputs["decoder_input_ids"])
        return self._words.losses(states, labels)

    def check_words(self) -> None:
        """Hold losses of words against the backbone's own logits; see `Words.check`."""
        if self._words is not None and self.reads_words:
            self.route(next(iter(self.reads_words)), 1)
            self._words.check()

    def route(self, name: str, rows: int) -> None:
        """Say that the next rows, so many, are all of one task; without a sharing scheme it makes no difference."""
        if self.routing is not None:
            self.routing.rows([self.routing.tasks.index(self.sharers.get(name, name))] * rows)

    def shared_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Give the parameters by name of the backbone, and of experts before heads, that are no single task's own."""
        owner = self.routing.owner if self.routing else {}
        shared = [(name, each) for name, each in self.backbone.named_parameters() if owner.get(name) is None]
        experts = self.head_experts.common_parameters() if self.head_experts is not None else []
        return shared + [(f"head_experts.{name}", each) for name, each in experts]

    def head_of(self, task: str) -> nn.Module:
        """Give a task's head, which may be another's."""
        return self.heads[self.sharers.get(task, task)]

    def private_parameters(self, task: str) -> list[nn.Parameter]:
        """Give the parameters that are a task's own: its head's, its parts of the backbone, its gate and experts."""
        owner = self.routing.owner if self.routing else {}
        own = [each for name, each in self.backbone.named_parameters() if owner.get(name) == task]
        own += self.head_experts.own_parameters(task) if self.head_experts is not None else []
        # A head that is shared is its first owner's: no parameter may stand in two lists.
        return own if task in self.sharers else [*self.heads[task].parameters(), *own]

    def hidden(self, chunk: Chunk) -> Tensor:
        """Run the backbone: [sequence, token, width], at least in single precision, whether rows are packed or not."""
        return _by_sequence(self._states(chunk), chunk)

    def _states(self, chunk: Chunk) -> Tensor:
        """Run the backbone: [row, token, width], at least in single precision."""
        inputs = {key: value for key, value in chunk.inputs.items() if key not in self.refused | _OF_WORDS}
        if self.routing is not None and not chunk.parts:  # rows of no task, when a backbone is tried out
            self.routing.rows([0] * len(inputs["input_ids"]))
        if chunk.packing is not None:
            # A sequence begins where places do; every token of the padding has place 0 and so sees itself alone.
            owners = (inputs["position_ids"] == 0).cumsum(dim=1)
            apart = (owners.unsqueeze(1) != owners.unsqueeze(2)).unsqueeze(1)
            if self.family == "decoder":  # which would see what comes behind, with a mask that is given whole
                apart = apart | torch.ones_like(apart).triu(diagonal=1)
            seen = torch.zeros((), dtype=next(self.backbone.parameters()).dtype, device=apart.device)
            inputs["attention_mask"] = torch.where(apart, seen - math.inf, seen)
            inputs["position_ids"] = inputs["position_ids"] + self._first_place
        states: Tensor = self.body()(**inputs, **self._without_cache).last_hidden_state
        # Heads stay in single precision where the backbone's weights are stored in half of it.
        return states.float() if states.dtype in HALVES else states

    def body(self) -> Any:
        """Give what makes hidden states: the whole backbone, or what is beneath its language head."""
        if self.family == "encoder_decoder":
            return unwrapped(self.backbone).get_encoder()
        return self.backbone if self._bare else unwrapped(self.backbone).base_model

    @property
    def _without_cache(self) -> dict[str, bool]:
        return {"use_cache": False} if self.family == "decoder" else {}

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Recompute activations in the backward pass, as transformers' Trainer asks for by this name.

        Raises:
            ModelError: a task has an adapter of its own, which a second forward pass would not know of.
        """
        if self.own_adapters:
            names = ", ".join(f"`{name}`" for name in self.own_adapters)
            requirement = "be left out where a task has an adapter of its own"
            raise ModelError(Fault("training.activation_checkpointing", requirement, f"`true` beside that of {names}"))
        backbone: Any = self.backbone
        base = unwrapped(backbone)
        base.activation_checkpointing_enable(**kwargs)
        if base is not backbone:
            base.enable_input_require_grads()

    def places(self) -> int | None:
        """Give how many tokens the backbone has learned places for; None where it counts distances instead."""
        table = _place_table(self.backbone)
        return None if table is None else table.num_embeddings - self._first_place

    def get_input_embeddings(self) -> nn.Module:
        """Give the backbone's embedding, to which `neftune_noise_alpha` adds its noise."""
        backbone: Any = self.backbone
        embeddings: nn.Module = backbone.get_input_embeddings()
        return embeddings

    def trained_parameters(self) -> dict[str, int]:
        """Count parameters.

        Returns:
            "backbone" in all, "trained" of the backbone, of a sharing scheme "parts shared" and those of each task, of
            each head by its task's name, and of experts before heads "head experts" and those of each task.
        """
        counts = {"backbone": 0, "trained": 0}
        for parameter in self.backbone.parameters():
            counts["backbone"] += parameter.numel()
            counts["trained"] += parameter.numel() if parameter.requires_grad else 0
        if self.routing is not None:
            counts |= {f"parts {name}": count for name, count in self.routing.counts().items()}
        for name, head in self.heads.items():
            counts[f"head {name}"] = sum(parameter.numel() for parameter in head.parameters())
        if self.head_experts is not None:
            for key, count in self.head_experts.counts().items():
                counts[key] = counts.get(key, 0) + count  # a task may be called `experts`
        return counts
