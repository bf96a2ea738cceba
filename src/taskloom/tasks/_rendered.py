"""Tasks of other kinds whose answers are written as text: their prompts, and answers in a form that is kept to."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from taskloom.errors import ConfigError, DataError, Fault
from taskloom.generation.forms import bare
from taskloom.tasks._prompts import Span, budget, prompt_ids
from taskloom.tasks._words import TokenLimit, WrittenTask, written
from taskloom.types import Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from taskloom.generation.spelling import Spelling

PLACEHOLDER = re.compile(r"\{(text_pair|text)\}")


class RenderedTask(WrittenTask):
    """A task that asks with a text in a template, and whose answers a constraint keeps in their form.

    Class attributes:
        template_default: what is asked with unless the run file says otherwise.
    """

    template_default: ClassVar[str]

    def __init__(
        self,
        *,
        template: str | None = None,
        max_length: int = 512,
        max_new_tokens: TokenLimit = 64,
        num_beams: TokenLimit = 1,
    ) -> None:
        super().__init__(max_length=max_length, max_new_tokens=max_new_tokens, num_beams=num_beams)
        if template is not None and template.count("{text}") != 1:
            fix = f"Write for example {self.template_default!r}"
            raise ConfigError(Fault("template", "hold `{text}` once", f"`{template}`", fix))
        self.template = template

    @abstractmethod
    def texts(self, row: Row) -> dict[str, str]:
        """Give what is put into the template: "text", and "text_pair" where there is one."""

    @abstractmethod
    def answer(self, row: Row, shown: int, tokenizer: PreTrainedTokenizerFast) -> list[int] | None:
        """Spell a row's answer, without its end; None where it has none.

        Args:
            row: the example.
            shown: how many characters of its text the prompt holds.
            tokenizer: the backbone's.
        """

    def prompt(self, row: Row) -> tuple[str, Span]:
        """Give the text that the backbone is asked with, and where the longest of the row's own texts lies in it.

        An answer begins with a blank, so that blanks at the template's end are left out.
        """
        return filled(self.template_of(row).rstrip(" "), self.texts(row))

    def template_of(self, row: Row) -> str:
        """Give the template that a row is put into."""
        return self.template or self.template_default

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of one sequence for each row, and ``shown``, how many characters of its text are read."""
        limit, most = budget(self.family, self.max_length, self.max_new_tokens)
        prompts = [self.prompt(row) for row in rows]
        asked = prompt_ids(tokenizer, prompts, self.family, limit, "beginning")
        opening = self.opening(tokenizer)
        ends = self.ends(tokenizer)
        for row, (text, span), prompt in zip(rows, prompts, asked, strict=True):
            shown = span[1] - span[0]
            if len(prompt) >= limit:
                shown = shown_of(tokenizer, text, span, limit)
            answer = self.answer(row, shown, tokenizer)
            item = written(
                prompt,
                None if answer is None else [*opening, *answer],
                self.family,
                eos=ends[0] if ends else None,
                max_length=self.max_length,
                max_answer=most,
            )
            yield [item | {"shown": shown}]

    def opening(self, tokenizer: PreTrainedTokenizerFast) -> list[int]:
        """Give the special tokens that what an encoder-decoder writes begins with."""
        if self.family != "encoder_decoder":
            return []
        ids: list[int] = tokenizer(text_target="a")["input_ids"]
        special = set(tokenizer.all_special_ids)
        first = next((place for place, number in enumerate(ids) if number not in special), 0)
        return list(ids[:first])


def filled(template: str, texts: Mapping[str, str]) -> tuple[str, Span]:
    """Put texts into a template: the whole, and where the longest of them lies in it.

    >>> filled("{text}; {text_pair}?", {"text": "yes", "text_pair": "{text}"})
    ('yes; {text}?', (5, 11))
    """
    longest = max(texts, key=lambda name: len(texts[name]))
    whole, span = "", (0, 0)
    for place, piece in enumerate(PLACEHOLDER.split(template)):
        written_text = texts.get(piece, "") if place % 2 else piece
        if place % 2 and piece == longest:
            span = (len(whole), len(whole) + len(written_text))
        whole += written_text
    return whole, span


def shown_of(tokenizer: PreTrainedTokenizerFast, text: str, span: Span, limit: int) -> int:
    """Count the characters of a span that are left of it in a prompt of at most `limit` tokens."""
    batch: Any = tokenizer(text, return_offsets_mapping=True)
    inside = [(start, end) for start, end in batch["offset_mapping"] if span[0] <= start < end <= span[1]]
    excess = len(batch["input_ids"]) - limit
    if excess <= 0 or not inside:
        return span[1] - span[0]
    # One token is counted as an end sign that a decoder's prompt goes without: a word less is never a word too many.
    kept = inside[: max(0, len(inside) - excess)]
    return kept[-1][1] - span[0] if kept else 0


def label_names_fault(labels: Sequence[str], column: str) -> str | None:
    """Say which name could not be told from what is written around it, as the words after "should", or None."""
    for label in labels:
        if not bare(label) or set(":;") & set(bare(label)):
            return f"have labels without `:` and `;` in `{column}`, not `{label}`"
    return None


def check_spelled(spelling: Spelling, names: Sequence[str], column: str, *, behind: str = "") -> list[tuple[int, ...]]:
    """Spell names of labels, with what stands behind them in an answer.

    Raises:
        DataError: one cannot be spelled, or is spelled as another.
    """
    spelled: dict[tuple[int, ...], str] = {}
    for name in names:
        tokens = spelling.after_blank(name + behind)
        if not tokens or tokens in spelled:
            found = f"`{name}`" + (f", which is written as `{spelled[tokens]}` is" if tokens else "")
            requirement = "have labels that the backbone's tokenizer can write and tell apart"
            raise DataError(Fault(column, requirement, found, "Rename the label"))
        spelled[tokens] = name
    return list(spelled)
