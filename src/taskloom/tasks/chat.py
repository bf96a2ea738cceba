"""Conversations of several turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskloom.tasks._chat_templates import (
    ANSWERS,
    conversation,
    fitting,
    messages_fault,
    refusal,
    template_of,
)
from taskloom.tasks._prompts import most_frequent
from taskloom.tasks._text import item_of
from taskloom.tasks._words import TokenLimit, WrittenTask
from taskloom.types import IGNORED, Family, Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ENDS = "have an assistant's turn last in `messages`, for that is what is learned and judged"


class Chat(WrittenTask):
    """Speak an assistant's turns of a conversation, learning these alone.

    Prefer it for conversations, of one exchange or many, and for models that were tuned on a chat template. Do not for
    plain prompts of a model that knows no turns (`completion`).

    Formula: ``loss_i = -(1/n) sum_t log p(y_t | all tokens before)`` over the n tokens of all turns of assistants, the
    token that ends each turn included; what systems and users say, and the template's own words, are read and not
    learned. Judged is the last turn, generated from all that comes before it.

    Shapes: output [sequence, label token], the negative log-likelihood of each.

    Options:
        chat_template: the path of a Jinja file, or its text; null (default) for the tokenizer's own.
        max_length: tokens of a conversation (512). A longer one loses its oldest exchanges, whole ones, and what a
            system says stays; an exchange that is too long by itself is cut.
        max_new_tokens: tokens of a generated turn at most (64).
        num_beams: beams of the search (1: greedy).

    Errors: `ConfigError` where there is no template, or no token that ends a text; `DataError` where the template
    refuses a conversation, or writes earlier turns otherwise once others follow and has no `{% generation %}` marks.

    Differs: what a template marks with `{% generation %}` is what is learned; without marks, a turn is what stands
    between the template's text up to it and its text up to the turn's end, found token by token. What a template writes
    behind a turn's last special token is never generated, and so not learned.

    Paper: Ouyang et al., Training language models to follow instructions with human feedback, NeurIPS 2022,
    arXiv:2203.02155 (the supervised part).

    Golden example: rows {"messages": [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant",
    "content": "It arrives tomorrow."}]}.
    """

    columns = {
        "messages": "the turns in order, each with `role` (system, user, assistant) and `content`; the last is right"
    }
    identity_columns = ("messages",)
    families = frozenset({"decoder"})
    predicts = "text"
    default_metrics = ("rouge_l", "exact_match")

    def __init__(
        self,
        *,
        chat_template: str | None = None,
        max_length: int = 512,
        max_new_tokens: TokenLimit = 64,
        num_beams: TokenLimit = 1,
    ) -> None:
        super().__init__(max_length=max_length, max_new_tokens=max_new_tokens, num_beams=num_beams)
        self.chat_template = chat_template
        self.template: str | None = None
        self.tokenizer: PreTrainedTokenizerFast | None = None

    # --- rows -----------------------------------------------------------------------------------------------------

    def meet(self, family: Family, tokenizer: PreTrainedTokenizerFast) -> None:
        """Note the family and the tokenizer; see `WrittenTask.meet`."""
        super().meet(family, tokenizer)
        self.tokenizer = tokenizer

    def fault(self, row: Row) -> str | None:
        """Find what are no messages, unknown roles, what the template refuses, and no assistant's turn at the end."""
        messages = row.get("messages")
        complaint = messages_fault(messages, "messages")
        if complaint or messages is None:
            return complaint
        if self.tokenizer is not None:
            words = refusal(self.tokenizer, self._template(self.tokenizer), messages)
            if words is not None:
                return f"have `messages` that the chat template takes, which says: {words}"
        return None if messages[-1]["role"] == ANSWERS else ENDS

    def question_fault(self, row: Row) -> str | None:
        """Find what `fault` finds, but that the last turn is still to be spoken."""
        complaint = self.fault(row)
        return None if complaint == ENDS else complaint

    def asked(self, row: Row) -> Row:
        """Give the conversation up to the turn that is learned last."""
        messages = row["messages"]
        return {"messages": messages[:-1] if messages[-1]["role"] == ANSWERS else messages}

    def fit(self, rows: Sequence[Row]) -> None:
        """Take the chat template, so that what is trained is also what is served.

        Raises:
            ConfigError: there is none.
        """
        if self.tokenizer is not None:
            self._template(self.tokenizer)

    def state(self) -> dict[str, Any]:
        """Give the chat template."""
        return {"template": self.template}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the chat template back."""
        self.template = state["template"]

    # --- to the backbone ------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of one sequence for each row; a row whose last turn is not an assistant's asks for one."""
        template = self._template(tokenizer)
        for row in rows:
            found = fitting(tokenizer, template, row["messages"], self.max_length)
            yield [item_of([{"input_ids": found.ids}], labels=[found.labels], prompt_tokens=found.prompt_tokens)]

    def ends(self, tokenizer: PreTrainedTokenizerFast) -> list[int]:
        """Give the tokens that end a turn: the one that the template ends it with, and the end of a text."""
        turns = [{"role": "user", "content": "a"}, {"role": ANSWERS, "content": "b"}]
        sample = conversation(tokenizer, self._template(tokenizer), turns)
        return sorted({sample.end(tokenizer), int(tokenizer.eos_token_id)})

    # --- back to the user -----------------------------------------------------------------------------------------

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Any]) -> Prediction:
        """Give the turn that was generated."""
        return Prediction(outputs[0])

    def reference(self, row: Row) -> Any:
        """Give what the last turn says."""
        last = row["messages"][-1]
        return [last["content"].strip()] if last["role"] == ANSWERS else []

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer with the most frequent last turn of training."""
        return [most_frequent([text for row in train for text in self.reference(row)])] * len(rows)

    def describe(self, row: Row, item: Item) -> list[tuple[str, str]]:
        """Show the conversation as it is read, and of it what is learned."""
        if self.tokenizer is None:
            return super().describe(row, item)
        (ids,), (labels,) = item["input_ids"], item["labels"]
        learned = [label for label in labels if label != IGNORED]
        return [("read", repr(self.tokenizer.decode(ids))), ("learned", repr(self.tokenizer.decode(learned)))]

    def _template(self, tokenizer: PreTrainedTokenizerFast) -> str:
        if self.template is None:
            self.template = template_of(self.chat_template, tokenizer)
        return self.template
