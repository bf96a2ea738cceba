"""One label of a text or of a pair of texts, written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskloom.generation.constraints import Choices, Constraint
from taskloom.generation.forms import name_of
from taskloom.generation.spelling import spelling_of
from taskloom.tasks._labels import LabelledTask, label_fault
from taskloom.tasks._rendered import RenderedTask, check_spelled
from taskloom.tasks._text import text_fault
from taskloom.tasks._words import TokenLimit
from taskloom.types import Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class ClassificationAsText(RenderedTask, LabelledTask):
    """Write one label for a text, or for a pair of texts: its name, and nothing else.

    Prefer it where a backbone that writes is to be used as it came, or where labels' names say what they mean and rows
    are few. Do not where probabilities are wanted, or speed (`classification` reads all labels at once).

    Formula: ``loss_i = -(1/n) sum_t log p(y_t | prompt, y_1 ... y_(t-1))`` over the n tokens of the label's name and
    its end.

    Shapes: output [sequence, label token], the negative log-likelihood of each.

    Options:
        template: the text around a row's, with `{text}` and, if wanted, `{text_pair}`; null (default) for a line each
            of "{text}", of "{text_pair}" where there is one, and of "label:".
        max_length: tokens after which the longer text is cut at its right (512); a decoder reads prompt and label in
            one sequence of as many tokens.
        max_new_tokens: tokens of a written label at most (64); names that are longer cannot come.
        num_beams: beams of the search (1: greedy); more find the likeliest name where names differ in length.

    Errors: `DataError` where training has fewer than two labels, or the tokenizer cannot write a label, or writes two
    alike; `ConfigError` where a template does not hold `{text}` once, or the tokenizer has no token that ends a text.

    Differs: while a label is written, tokens that begin no label are left out, so every answer is a label.

    Paper: Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, JMLR 2020,
    arXiv:1910.10683.

    Golden example: rows {"text": "play some jazz", "label": "PlayMusic"}.
    """

    columns = {"text": "the text", "label": "its label: a text or a whole number"}
    optional_columns = {"text_pair": "a second text, judged together with the first"}
    identity_columns = ("text", "text_pair")
    predicts = "label"
    default_metrics = ("accuracy", "macro_f1")
    template_default = "{text}\nlabel:"
    template_of_pairs = "{text}\n{text_pair}\nlabel:"

    def __init__(
        self,
        *,
        template: str | None = None,
        max_length: int = 512,
        max_new_tokens: TokenLimit = 64,
        num_beams: TokenLimit = 1,
    ) -> None:
        super().__init__(template=template, max_length=max_length, max_new_tokens=max_new_tokens, num_beams=num_beams)

    def fault(self, row: Row) -> str | None:
        """Find empty texts and values that are no labels."""
        return text_fault(row, "text", optional=("text_pair",)) or label_fault(row.get("label"), "label")

    def choices(self) -> int | None:
        """Say that the loss is over tokens, not over labels."""
        return None

    def template_of(self, row: Row) -> str:
        """Give the template, by default with a line for the pair where there is one."""
        default = self.template_default if row.get("text_pair") is None else self.template_of_pairs
        return self.template or default

    def texts(self, row: Row) -> dict[str, str]:
        """Give the row's text, with its pair where it has one."""
        return {name: row[name] for name in ("text", "text_pair") if row.get(name) is not None}

    def answer(self, row: Row, shown: int, tokenizer: PreTrainedTokenizerFast) -> list[int] | None:
        """Spell the row's label."""
        label = row.get("label")
        return list(self._spelled(tokenizer)[label]) if label in self.ids else None

    def constraint(self, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> Constraint | None:
        """Give the labels' names."""
        return Choices(self._spelled(tokenizer).values(), self.ends(tokenizer)[0], self.opening(tokenizer))

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Any]) -> Prediction:
        """Give the label whose name was written; the first of all where it was cut short."""
        names = {str(label): label for label in self.labels}
        name = name_of(outputs[0], list(names))
        return Prediction(self.labels[0] if name is None else names[name], {"text": outputs[0]})

    def reference(self, row: Row) -> Any:
        """Give the row's label."""
        return row["label"]

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer with the most frequent training label."""
        return [self.most_frequent(train)] * len(rows)

    def describe(self, row: Row, item: Item) -> list[tuple[str, str]]:
        """Show what is asked and what is learned."""
        return [("prompt", repr(self.prompt(row)[0])), ("answer", repr(str(self.reference(row))))]

    def _spelled(self, tokenizer: PreTrainedTokenizerFast) -> dict[Any, tuple[int, ...]]:
        """Spell every label; see `check_spelled`."""
        names = [" ".join(str(label).split()) for label in self.labels]
        spelled = check_spelled(spelling_of(tokenizer), names, self.label_column)
        return dict(zip(self.labels, spelled, strict=True))
