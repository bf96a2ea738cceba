"""Tasks whose loss is that of words: each label token's negative log-likelihood under the backbone's language head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from taskloom.errors import ConfigError, Fault
from taskloom.tasks import Task
from taskloom.tasks._heads import padded
from taskloom.tasks._text import item_of
from taskloom.types import IGNORED, Family, Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from taskloom.generation.constraints import Constraint

TokenLimit = Annotated[int, Field(ge=1)]


class WordsTask(Task):
    """A task that reads words: its items have ``labels``, and it has no head of its own.

    The loss of an item is the mean over its label tokens, whatever the number of its sequences.
    """

    reads: ClassVar[Literal["hidden", "words"]] = "words"

    def head(self, width: int) -> nn.Module:
        """Give nothing: the language head is the backbone's."""
        return nn.Identity()

    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Give ``labels`` [sequence, label token] int64, and ``sizes`` [item], the sequences of each."""
        rows = [labels for item in items for labels in item["labels"]]
        if self.family == "encoder_decoder":
            tokens = max(map(len, rows))
        return {"labels": padded(rows, tokens, IGNORED), "sizes": torch.tensor([len(item["labels"]) for item in items])}

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give the mean over each item's label tokens: [item], from an output [sequence, label token]."""
        sums, counts = self.sums(output, targets)
        return by_item(sums, targets) / by_item(counts, targets).clamp(min=1)

    def terms(self, targets: Mapping[str, Tensor]) -> Tensor:
        """Count each item's label tokens: [item]."""
        return by_item((targets["labels"] != IGNORED).sum(dim=1), targets)

    def sums(self, output: Tensor, targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Give each sequence's summed negative log-likelihood and its label tokens: [sequence] each."""
        held = targets["labels"] != IGNORED
        return (output[:, : held.shape[1]] * held).sum(dim=1), held.sum(dim=1)


class WrittenTask(WordsTask):
    """A task that reads words and whose answers are generated.

    Options beside `max_length`:
        max_new_tokens: tokens of an answer at most.
        num_beams: beams of the search; one is greedy.
    """

    families = frozenset({"decoder", "encoder_decoder"})
    generates = True

    def __init__(self, *, max_length: int = 512, max_new_tokens: TokenLimit = 64, num_beams: TokenLimit = 1) -> None:
        super().__init__(max_length=max_length)
        self.max_new_tokens = max_new_tokens
        self.num_beams = num_beams

    def meet(self, family: Family, tokenizer: PreTrainedTokenizerFast) -> None:
        """Note the family, and see that answers can be ended.

        Raises:
            ConfigError: the tokenizer has no token that ends a text.
        """
        super().meet(family, tokenizer)
        check_end(tokenizer)

    def ends(self, tokenizer: PreTrainedTokenizerFast) -> list[int]:
        """Give the tokens that end an answer, as they are learned."""
        eos = tokenizer.eos_token_id
        return [] if eos is None else [int(eos)]

    def constraint(self, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> Constraint | None:
        """Give what an answer to a row may be; None for anything."""
        return None


def check_end(tokenizer: PreTrainedTokenizerFast) -> None:
    """See that a tokenizer has a token that ends a text.

    Raises:
        ConfigError: it has none.
    """
    if tokenizer.eos_token_id is None:
        requirement = "be a backbone whose tokenizer has a token that ends a text (`eos_token`)"
        fix = "Without one, generation would never stop; choose another backbone, or set `eos_token` in its tokenizer"
        raise ConfigError(Fault("model.name_or_path", requirement, "none", fix))


def by_item(values: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    """Add up values of sequences over each item's: [sequence] -> [item]."""
    sizes = targets["sizes"]
    item = torch.repeat_interleave(torch.arange(len(sizes), device=values.device), sizes)
    return values.new_zeros(len(sizes)).index_add_(0, item, values)


def written(
    prompt: list[int], answer: list[int] | None, family: str, *, eos: int | None, max_length: int, max_answer: int
) -> Item:
    """Make the item of a prompt and its answer; without an answer, of the prompt alone.

    Args:
        prompt: token ids that are asked with, special ones included.
        answer: token ids that are learned, without the end.
        family: of the backbone.
        eos: the token that ends an answer; None for none.
        max_length: tokens after which the prompt is cut, of a decoder prompt and answer together: the prompt loses
            its beginning, since its end says what to do.
        max_answer: tokens after which the answer is cut; its end is learned only where it is whole.
    """
    learned = [] if answer is None else answer[:max_answer]
    if eos is not None and (answer is None or len(learned) == len(answer)):
        learned = [*learned, eos]
    if family == "encoder_decoder":
        source = prompt[:max_length]
        return item_of([{"input_ids": source}], labels=[learned], prompt_tokens=len(source))
    learned = [] if answer is None else learned[: max(1, max_length - 1)]
    asked = prompt[-(max_length - len(learned)) :] if max_length > len(learned) else prompt[-1:]
    labels: list[int] = [IGNORED] * len(asked) + learned
    return item_of([{"input_ids": asked + learned}], labels=[labels], prompt_tokens=len(asked))


def ids_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    """Tokenise texts apart, with the tokenizer's special tokens or without: [text][token]."""
    ids: Any = tokenizer(list(texts), add_special_tokens=special)["input_ids"]
    return [list(each) for each in ids]
