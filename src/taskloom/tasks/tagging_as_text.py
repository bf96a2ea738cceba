"""The spans of a tagged sentence, written out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from taskloom.generation.constraints import Constraint, Tags
from taskloom.generation.forms import Word, read_pairs, runs_of, write_pairs
from taskloom.generation.spelling import spelling_of
from taskloom.tasks._labels import LabelledTask
from taskloom.tasks._rendered import RenderedTask, check_spelled, label_names_fault
from taskloom.tasks._words import TokenLimit
from taskloom.tasks.token_classification import TokenClassification, constant_tags
from taskloom.types import Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class TaggingAsText(RenderedTask, LabelledTask):
    """Write the tagged spans of a sentence, ``label: words; label: words``, or ``none``.

    Prefer it where a backbone that writes is to be used as it came, or where labels' names say what they mean and rows
    are few. Do not where every word has a tag of its own, or for speed (`token_classification` reads all at once).

    Formula: ``loss_i = -(1/n) sum_t log p(y_t | prompt, y_1 ... y_(t-1))`` over the n tokens of the answer and its end.

    Shapes: output [sequence, label token], the negative log-likelihood of each.

    Options:
        template: the text around a sentence, with `{text}` where it goes; null (default) for a line of
            "{text}" and one of "tags:".
        max_length: tokens after which a sentence is cut at its right (512), and words beyond are tagged "O"; a decoder
            reads sentence and answer in one sequence of as many tokens.
        max_new_tokens: tokens of an answer at most (128); one that would be longer ends after a whole span.
        num_beams: beams of the search (1: greedy).

    Errors: `DataError` where training has fewer than two tags, or the tokenizer cannot write a label; `ConfigError`
    where a template does not hold `{text}` once, or the tokenizer has no token that ends a text.

    Differs: while an answer is written, only labels of training and words of the sentence can come, from left to right
    without overlap, so every answer can be read. A value is read back as its first place behind the value before it: a
    span whose words stand earlier in the sentence too, untagged, is found at the wrong place. Spans that hold a
    semicolon, or signs that the tokenizer does not know, cannot be written, and are left out of what is learned.

    Paper: Raman et al., Transforming Sequence Tagging Into A Seq2Seq Task, EMNLP 2022, arXiv:2203.08378 (which compares
    such forms).

    Golden example: rows {"tokens": ["to", "New", "York"], "tags": ["O", "B-city", "I-city"]}.
    """

    columns = {"tokens": "the list of words", "tags": "the list of their tags O, B-x and I-x, of the same length"}
    identity_columns = ("tokens",)
    predicts = "tags"
    default_metrics = ("span_f1",)
    label_column = "tags"
    template_default = "{text}\ntags:"

    def __init__(
        self,
        *,
        template: str | None = None,
        max_length: int = 512,
        max_new_tokens: TokenLimit = 128,
        num_beams: TokenLimit = 1,
    ) -> None:
        super().__init__(template=template, max_length=max_length, max_new_tokens=max_new_tokens, num_beams=num_beams)

    def labels_of(self, row: Row) -> Iterable[Any]:
        """Give all tags of a row."""
        tags: list[Any] = row["tags"]
        return tags

    def completed(self, labels: list[Any]) -> list[Any]:
        """Add the tags that a span of any label may need, and O."""
        return sorted({"O", *(f"{mark}-{tag[2:]}" for tag in labels if tag != "O" for mark in "BI")})

    def choices(self) -> int | None:
        """Say that the loss is over tokens, not over tags."""
        return None

    @property
    def names(self) -> list[str]:
        """The labels of spans, in order."""
        return [tag[2:] for tag in self.labels if tag.startswith("B-")]

    def fault(self, row: Row) -> str | None:
        """Find what `token_classification` finds, and labels that could not be read back."""
        found = TokenClassification().fault(row)
        return found or label_names_fault([tag[2:] for tag in row["tags"] if tag != "O"], "tags")

    def texts(self, row: Row) -> dict[str, str]:
        """Give the sentence."""
        return {"text": " ".join(row["tokens"])}

    def answer(self, row: Row, shown: int, tokenizer: PreTrainedTokenizerFast) -> list[int] | None:
        """Spell the row's spans, as far as they are shown."""
        if row.get("tags") is None:
            return None
        tags = self._tags(row, shown, tokenizer)
        numbers = {name: number for number, name in enumerate(tags.labels)}
        spans = spans_of(row["tags"])
        return tags.tokens_of(
            (numbers[label], first, end) for label, first, end in spans if label in numbers and end <= len(tags.firsts)
        )

    def constraint(self, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> Constraint | None:
        """Give labelled runs of the words that are shown."""
        return self._tags(row, item["shown"], tokenizer)

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Any]) -> Prediction:
        """Give the tags of the spans that were written; all "O" where an answer cannot be read."""
        words = [Word(token) for token in row["tokens"]]
        tags = ["O"] * len(words)
        place = 0
        for label, value in read_pairs(outputs[0], self.names) or []:
            found = runs_of(words[place:], value)
            if found:
                first, end = place + found[0][0], place + found[0][1]
                tags[first:end] = [f"B-{label}", *[f"I-{label}"] * (end - first - 1)]
                place = end
        return Prediction(tags, {"text": outputs[0]})

    def reference(self, row: Row) -> Any:
        """Give the row's tags."""
        return row["tags"]

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer with the most frequent training tag for every word."""
        return constant_tags(train, rows)

    def describe(self, row: Row, item: Item) -> list[tuple[str, str]]:
        """Show what is asked and what is learned."""
        spans = spans_of(row.get("tags") or [])
        pairs = [(label, " ".join(row["tokens"][first:end])) for label, first, end in spans]
        return [("prompt", repr(self.prompt(row)[0])), ("answer", write_pairs(pairs))]

    def _words(self, row: Row, shown: int) -> list[Word]:
        words, start = [], 0
        for token in row["tokens"]:
            words.append(Word(token, start=start, end=start + len(token)))
            start += len(token) + 1
        return [word for word in words if word.end <= shown]

    def _tags(self, row: Row, shown: int, tokenizer: PreTrainedTokenizerFast) -> Tags:
        spelling, names = spelling_of(tokenizer), self.names
        check_spelled(spelling, names, self.label_column, behind=":")
        ends = self.ends(tokenizer)
        return Tags(names, self._words(row, shown), spelling, ends[0] if ends else -1, self.opening(tokenizer))


def spans_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Give a sentence's spans: label, first word, word after the last. An I-x that continues no x begins one.

    >>> spans_of(["O", "B-city", "I-city", "I-day"])
    [('city', 1, 3), ('day', 3, 4)]
    """
    spans: list[tuple[str, int, int]] = []
    for place, tag in enumerate(tags):
        if tag[:2] == "I-" and spans and spans[-1][0] == tag[2:] and spans[-1][2] == place:
            spans[-1] = (tag[2:], spans[-1][1], place + 1)
        elif tag != "O":
            spans.append((tag[2:], place, place + 1))
    return spans
