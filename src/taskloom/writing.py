"""Prompts in batches of like length, and the texts that a backbone writes after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from taskloom.generation.constraints import Constraint, ConstraintProcessor
from taskloom.model.multitask import MultiTaskModel, unwrapped
from taskloom.types import Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from taskloom.tasks._words import WrittenTask


@dataclass(frozen=True)
class Writer:
    """A model that writes answers.

    Attributes:
        model: with a language head.
        tokenizer: the backbone's.
        limit_tokens: tokens of one batch of prompts, with what may be written, beams included.
    """

    model: MultiTaskModel
    tokenizer: PreTrainedTokenizerFast
    limit_tokens: int

    def write(self, name: str, task: WrittenTask, rows: Sequence[Row], items: Sequence[Item]) -> list[str]:
        """Write an answer after each prompt, greedily or with the task's beams, in evaluation mode.

        Args:
            name: of the task.
            task: says what may be written, how much, and what ends an answer.
            rows: [example].
            items: those that are answered, each with its ``row``.

        Returns:
            [item] texts without special tokens.
        """
        prompts = [item["input_ids"][0][: item["prompt_tokens"]] for item in items]
        order = sorted(range(len(items)), key=lambda index: -len(prompts[index]))
        texts = [""] * len(items)
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            start = 0
            while start < len(order):
                each = (len(prompts[order[start]]) + task.max_new_tokens) * task.num_beams
                stop = start + max(1, self.limit_tokens // each)
                batch = order[start:stop]
                allowed = [task.constraint(rows[items[i]["row"]], items[i], self.tokenizer) for i in batch]
                written = self._generate(name, task, [prompts[index] for index in batch], allowed)
                for index, ids in zip(batch, written, strict=True):
                    texts[index] = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
                start = stop
        self.model.train(was_training)
        return texts

    def _generate(
        self, name: str, task: WrittenTask, prompts: Sequence[list[int]], allowed: Sequence[Constraint | None]
    ) -> list[list[int]]:
        """Run one batch: the ids that were written after each prompt."""
        backbone = unwrapped(self.model.backbone)
        ids, mask = self._filled(prompts)
        ends = task.ends(self.tokenizer)
        options: dict[str, Any] = {
            "max_new_tokens": task.max_new_tokens,
            "num_beams": task.num_beams,
            "do_sample": False,
            "eos_token_id": ends or None,
            "pad_token_id": self.tokenizer.pad_token_id,
        }
        begun = 1 if self.model.family == "encoder_decoder" else ids.shape[1]
        if any(constraint is not None for constraint in allowed):
            options["logits_processor"] = [ConstraintProcessor(allowed, begun, task.max_new_tokens, task.num_beams)]
        self.model.route(name, len(prompts))
        with self.model.adapted(name):
            found: Tensor = backbone.generate(input_ids=ids, attention_mask=mask, **options)
        return [[int(each) for each in row[begun:]] for row in found.cpu()]

    def _filled(self, prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Fill prompts up to the longest: a decoder's in front, so that what it writes comes right behind."""
        longest, filling = max(map(len, prompts)), int(self.tokenizer.pad_token_id or 0)
        front = self.model.family == "decoder"
        ids, mask = [], []
        for prompt in prompts:
            gap = longest - len(prompt)
            ids.append([filling] * gap + prompt if front else prompt + [filling] * gap)
            mask.append([0] * gap + [1] * len(prompt) if front else [1] * len(prompt) + [0] * gap)
        device = next(self.model.parameters()).device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
