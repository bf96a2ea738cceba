"""Prompts and their answers: how both are tokenised, what of a long prompt is kept, and tasks made of the two."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from taskloom.tasks._text import text_fault
from taskloom.tasks._words import TokenLimit, WrittenTask, written
from taskloom.types import Family, Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Side = Literal["beginning", "end"]
Span = tuple[int, int]


class PromptedTask(WrittenTask):
    """A task whose rows hold one text that asks and one that answers.

    Class attributes:
        asks: the column that asks.
        answers: the column that answers.
        keeps: which side of a long text that asks is kept.
    """

    asks: ClassVar[str]
    answers: ClassVar[str]
    keeps: ClassVar[Side]
    predicts = "text"
    default_metrics = ("rouge_l", "exact_match")

    def __init__(
        self,
        *,
        max_length: int = 512,
        max_target_length: TokenLimit = 128,
        max_new_tokens: TokenLimit = 64,
        num_beams: TokenLimit = 1,
    ) -> None:
        super().__init__(max_length=max_length, max_new_tokens=max_new_tokens, num_beams=num_beams)
        self.max_target_length = max_target_length

    @abstractmethod
    def prompt(self, row: Row) -> tuple[str, Span]:
        """Give the text that the backbone is asked with, and where the row's own text lies in it."""

    def fault(self, row: Row) -> str | None:
        """Find what is no text, or empty."""
        return text_fault(row, self.asks, self.answers)

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of one sequence for each row; what asks is cut alike with and without an answer."""
        limit, most = budget(self.family, self.max_length, self.max_target_length)
        asked = prompt_ids(tokenizer, [self.prompt(row) for row in rows], self.family, limit, self.keeps)
        texts = [self._answers(row) for row in rows]
        answered = iter(answer_ids(tokenizer, [own[0] for own in texts if own], self.family))
        for prompt, own in zip(asked, texts, strict=True):
            answer = next(answered) if own else None
            yield [
                written(
                    prompt,
                    answer,
                    self.family,
                    eos=tokenizer.eos_token_id,
                    max_length=self.max_length,
                    max_answer=most,
                )
            ]

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Any]) -> Prediction:
        """Give the text that was generated."""
        return Prediction(outputs[0])

    def reference(self, row: Row) -> Any:
        """Give the texts that are right."""
        return [text.strip() for text in self._answers(row)]

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer with the most frequent answer of training."""
        return [most_frequent([self.reference(row)[0] for row in train])] * len(rows)

    def describe(self, row: Row, item: Item) -> list[tuple[str, str]]:
        """Show what is asked and what is learned."""
        return [("prompt", repr(self.prompt(row)[0])), ("answer", repr(self._answers(row)[0]))]

    def _answers(self, row: Row) -> list[str]:
        """Give a row's answers, the first of which is learned; none where it has none."""
        given = row.get(self.answers)
        return [] if given is None else list(given) if isinstance(given, list) else [given]


def budget(family: Family, max_length: int, max_answer: int) -> tuple[int, int]:
    """Share `max_length` between a prompt and its answer: the most tokens of each, the answer's end not counted.

    A decoder reads both in one sequence, of which the answer gets half at most. What the prompt gets does not depend
    on the row's own answer, so that training and generation ask alike.
    """
    if family == "encoder_decoder":
        return max_length, max_answer
    most = max(1, min(max_answer, max_length // 2))
    return max(1, max_length - most - 1), most


def prompt_ids(
    tokenizer: PreTrainedTokenizerFast, prompts: Sequence[tuple[str, Span]], family: Family, limit: int, keeps: Side
) -> list[list[int]]:
    """Tokenise prompts with the tokenizer's special tokens, but for a decoder without one that ends the text.

    Args:
        tokenizer: of the backbone.
        prompts: each with the span of it that may be shortened; what stands around is kept whole.
        family: of the backbone.
        limit: tokens after which a prompt is shortened.
        keeps: which side of the span is kept.

    Returns:
        [prompt][token].
    """
    if not prompts:
        return []
    batch: Any = tokenizer([text for text, _ in prompts], return_offsets_mapping=True, return_special_tokens_mask=True)
    found = []
    for index, (_, span) in enumerate(prompts):
        ids = list(batch["input_ids"][index])
        special, offsets = batch["special_tokens_mask"][index], batch["offset_mapping"][index]
        if family == "decoder" and ids and special[-1] and ids[-1] == tokenizer.eos_token_id:
            ids = ids[:-1]
        own = [
            place
            for place in range(len(ids))
            if not special[place] and span[0] <= offsets[place][0] and offsets[place][1] <= span[1]
        ]
        excess = max(0, len(ids) - limit)
        dropped = set(own[:excess] if keeps == "end" else own[len(own) - min(excess, len(own)) :])
        found.append([number for place, number in enumerate(ids) if place not in dropped])
    return found


def answer_ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], family: Family) -> list[list[int]]:
    """Tokenise answers apart from their prompts and without the end: [answer][token].

    What an encoder-decoder writes begins with the special tokens that its tokenizer begins a target with.
    """
    if not texts:
        return []
    if family != "encoder_decoder":
        return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
    targets = [list(ids) for ids in tokenizer(text_target=list(texts))["input_ids"]]
    return [ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids for ids in targets]


def most_frequent(texts: Sequence[str]) -> str:
    """Give the most frequent text, the first in order among equals."""
    counts = Counter(texts)
    return max(sorted(counts), key=lambda text: counts[text])
