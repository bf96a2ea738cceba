"""Labelled values out of a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskloom.errors import DataError, Fault, nearest
from taskloom.generation import constraints
from taskloom.generation.forms import Word, read_pairs, runs_of, words_of, write_pairs
from taskloom.generation.spelling import spelling_of
from taskloom.tasks._rendered import RenderedTask, check_spelled, label_names_fault
from taskloom.tasks._text import text_fault
from taskloom.tasks._words import TokenLimit
from taskloom.types import Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Pair = tuple[str, str]
"""A label and its value."""


class Extraction(RenderedTask):
    """Write labelled values out of a text, ``label: value; label: value``, or ``none``.

    Prefer it where values stand word for word in a text and their places need not be known: the fields of a letter, an
    order, a report. Do not where every word is tagged already (`tagging_as_text`, `token_classification`), nor where an
    answer is to be worded freely (`text_to_text`).

    Formula: ``loss_i = -(1/n) sum_t log p(y_t | prompt, y_1 ... y_(t-1))`` over the n tokens of the answer and its end.

    Shapes: output [sequence, label token], the negative log-likelihood of each.

    Options:
        template: the text around a row's, with `{text}` where it goes; null (default) for a line of
            "{text}" and one of "values:".
        max_length: tokens after which a text is cut at its right (512), values beyond which are not asked for; a
            decoder reads text and answer in one sequence of as many tokens.
        max_new_tokens: tokens of an answer at most (128); one that would be longer ends after a whole value.
        num_beams: beams of the search (1: greedy).

    Errors: `DataError` where training has no value, or the tokenizer cannot write a label; `ConfigError` where a
    template does not hold `{text}` once, or the tokenizer has no token that ends a text.

    Differs: while an answer is written, only labels of training and words of the text can come, in the order of the
    values' first words, so every answer can be read, and ends. Values that hold a semicolon, or signs that the
    tokenizer does not know, cannot be written, nor can two values of a label that begin at one word; they are left out
    of what is learned.

    Paper: Paolini et al., Structured Prediction as Translation between Augmented Natural Languages, ICLR 2021,
    arXiv:2101.05779 (another form of the same idea).

    Golden example: rows {"text": "Two nights in New York from Monday", "slots": {"city": "New York", "day": "Monday"}}.
    """

    columns = {
        "text": "the text",
        "slots": "its values: a mapping of labels to texts or lists of texts, or a list of {label, value}",
    }
    answer_columns = frozenset({"slots"})
    predicts = "extraction"
    default_metrics = ("slot_f1",)
    template_default = "{text}\nvalues:"

    def __init__(
        self,
        *,
        template: str | None = None,
        max_length: int = 512,
        max_new_tokens: TokenLimit = 128,
        num_beams: TokenLimit = 1,
    ) -> None:
        super().__init__(template=template, max_length=max_length, max_new_tokens=max_new_tokens, num_beams=num_beams)
        self.labels: list[str] = []

    # --- rows -----------------------------------------------------------------------------------------------------

    def fault(self, row: Row) -> str | None:
        """Find empty texts, slots of a wrong form, and values that do not stand in the text."""
        found = text_fault(row, "text")
        if found:
            return found
        slots = row.get("slots")
        pairs = pairs_of(slots) if isinstance(slots, Mapping | list) else None
        if pairs is None:
            return "have a mapping of labels to texts in `slots`, or a list of {label, value}"
        unreadable = label_names_fault([label for label, _ in pairs], "slots")
        words = words_of(row["text"])
        absent = [value for _, value in pairs if not runs_of(words, value)]
        if unreadable or not absent:
            return unreadable
        return f"have values in `slots` that are whole words of its `text`, not `{absent[0]}`"

    def fit(self, rows: Sequence[Row]) -> None:
        """Take the labels of the training rows.

        Raises:
            DataError: there is none.
        """
        self.labels = sorted({label for row in rows for label, _ in self._pairs(row)})
        if not self.labels:
            raise DataError(Fault("slots", "have a value in training", "none", "Delete the task, or add rows"))

    def unseen(self, row: Row) -> str | None:
        """Say which label of a row no training row has."""
        for label, _ in self._pairs(row):
            if label not in self.labels:
                return f"have a label in `slots` that training has, not `{label}`. {nearest(label, self.labels)}"
        return None

    def state(self) -> dict[str, Any]:
        """Give the labels."""
        return {"labels": self.labels}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the labels back."""
        self.labels = list(state["labels"])

    # --- to the backbone, and back --------------------------------------------------------------------------------

    def texts(self, row: Row) -> dict[str, str]:
        """Give the row's text."""
        return {"text": row["text"]}

    def answer(self, row: Row, shown: int, tokenizer: PreTrainedTokenizerFast) -> list[int] | None:
        """Spell the row's values, as far as they are shown."""
        if row.get("slots") is None:
            return None
        words = self._words(row, shown)
        spans: list[constraints.Span] = []
        for label, value in self._pairs(row):
            if label in self.labels:
                number = self.labels.index(label)
                places = [(number, *run) for run in runs_of(words, value)]
                spans += [place for place in places if place not in spans][:1]
        return self._form(words, tokenizer).tokens_of(spans)

    def constraint(self, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> constraints.Constraint | None:
        """Give labelled runs of the words that are shown."""
        return self._form(self._words(row, item["shown"]), tokenizer)

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Any]) -> Prediction:
        """Give the values that were written, as they stand in the text; none where an answer cannot be read."""
        words = words_of(row["text"])
        values, starts = [], []
        before = 0
        for label, value in read_pairs(outputs[0], self.labels) or []:
            found = runs_of(words, value)
            behind = [run for run in found if run[0] >= before] or found
            if behind:
                before, end = behind[0]
                start, stop = words[before].start, words[end - 1].end
                values.append({"label": label, "value": row["text"][start:stop]})
                starts.append(start)
        return Prediction(values, {"starts": starts, "text": outputs[0]})

    def reference(self, row: Row) -> Any:
        """Give the row's values as a list of {label, value}."""
        return [{"label": label, "value": value} for label, value in self._pairs(row)]

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer with the most frequent pair of training wherever its value stands in the text."""
        counts = Counter(pair for row in train for pair in self._pairs(row))
        label, value = max(sorted(counts), key=lambda pair: counts[pair])
        pair = {"label": label, "value": value}
        return [[dict(pair)] if runs_of(words_of(row["text"]), value) else [] for row in rows]

    def describe(self, row: Row, item: Item) -> list[tuple[str, str]]:
        """Show what is asked and what is learned."""
        return [("prompt", repr(self.prompt(row)[0])), ("answer", write_pairs(self._pairs(row)))]

    def _pairs(self, row: Row) -> list[Pair]:
        return pairs_of(row.get("slots") or {}) or []

    def _words(self, row: Row, shown: int) -> list[Word]:
        return [word for word in words_of(row["text"]) if word.end <= shown]

    def _form(self, words: Sequence[Word], tokenizer: PreTrainedTokenizerFast) -> constraints.Extraction:
        spelling = spelling_of(tokenizer)
        check_spelled(spelling, self.labels, "slots", behind=":")
        ends = self.ends(tokenizer)
        return constraints.Extraction(self.labels, words, spelling, ends[0] if ends else -1, self.opening(tokenizer))


def pairs_of(slots: Any) -> list[Pair] | None:
    """Read slots in any of their forms, empty values left out; None where they have none of these.

    >>> pairs_of({"city": ["Rome", "New York"], "day": None})
    [('city', 'Rome'), ('city', 'New York')]
    >>> pairs_of([{"label": "day", "value": "Monday"}])
    [('day', 'Monday')]
    """
    if isinstance(slots, Mapping):
        listed = [(label, value) for label, given in slots.items() for value in _listed(given)]
    elif all(isinstance(slot, Mapping) and {"label", "value"} <= slot.keys() for slot in slots):
        listed = [(slot["label"], slot["value"]) for slot in slots]
    else:
        return None
    if not all(isinstance(label, str) and isinstance(value, str) for label, value in listed):
        return None
    return [(label, value) for label, value in listed if value.strip()]


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [] if given is None else [given]
