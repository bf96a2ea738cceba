"""Plain texts, foretold token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from taskloom.tasks._language import LanguageTask
from taskloom.tasks._text import item_of
from taskloom.types import IGNORED, Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class CausalLanguageModelling(LanguageTask):
    """Foretell each token of a text from those before it.

    Prefer it to bring a decoder closer to the language of a field, or beside other tasks so that it does not forget.
    Do not where texts are questions with answers (`completion`, `chat`): there only answers are to be learned.

    Formula: ``loss_i = -(1/n) sum_t log p(x_t | x_1 ... x_(t-1))`` over the n tokens of a window that have one before
    them in it, the text's end included.

    Shapes: output [sequence, label token], the negative log-likelihood of each.

    Options:
        max_length: tokens of a window (512). A longer text gives several items; each window begins with the last token
            of the one before, so that every token but the text's first is foretold once.

    Differs: texts are not joined into one stream; a window never holds two of them.

    Paper: Radford et al., Improving Language Understanding by Generative Pre-Training, OpenAI 2018.

    Golden example: rows {"text": "The parcel came late and the box was torn."}.
    """

    families = frozenset({"decoder"})

    def __init__(self, *, max_length: Annotated[int, Field(ge=2)] = 512) -> None:
        super().__init__(max_length=max_length)

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item for each window of each row."""
        eos = tokenizer.eos_token_id
        for ids in tokenizer([row["text"] for row in rows])["input_ids"] if rows else []:
            text = list(ids) if eos is None or (ids and ids[-1] == eos) else [*ids, eos]
            items = []
            for start in range(0, max(len(text) - 1, 1), self.max_length - 1):
                window = text[start : start + self.max_length]
                # The first token has none before it, and was foretold in the window before.
                items.append(item_of([{"input_ids": window}], labels=[[IGNORED, *window[1:]]], prompt_tokens=1))
            yield items
