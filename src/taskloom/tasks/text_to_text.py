"""A text made from a text."""

from __future__ import annotations

from taskloom.errors import ConfigError, Fault
from taskloom.tasks._prompts import PromptedTask, Span
from taskloom.tasks._text import text_fault
from taskloom.tasks._words import TokenLimit
from taskloom.types import Row


class TextToText(PromptedTask):
    """Write a target text for a source text: a summary, a translation, an answer.

    Prefer it where one pattern fits all rows: text in, text out. Do not where each row brings a prompt of its own
    (`completion`) or several turns (`chat`), nor where the answer is one of few labels (`classification`).

    Formula: ``loss_i = -(1/n) sum_t log p(y_t | source, y_1 ... y_(t-1))`` over the n tokens of the target and its end;
    tokens of the source are read and not learned.

    Shapes: output [sequence, label token], the negative log-likelihood of each.

    Options:
        prefix: words before each source that name the task, such as "summarize: " (none).
        template: the text around a source, with `{source}` where it goes and, if wanted, `{prefix}`; null (default) for
            "{prefix}{source}" and, for decoders, a line's end before the target.
        max_length: tokens after which a source is cut at its right (512); prefix and template stay whole. A decoder
            reads source and target in one sequence of as many tokens, of which the target gets half at most.
        max_target_length: tokens after which a target is cut (128); one that is cut teaches no end.
        max_new_tokens: tokens of a generated text at most (64).
        num_beams: beams of the search (1: greedy).

    Errors: `ConfigError` where a template does not hold `{source}` once, or the tokenizer has no token that ends a
    text.

    Differs: source and target are tokenised apart, so that no token of a decoder lies across the boundary.

    Paper: Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, JMLR 2020,
    arXiv:1910.10683.

    Golden example: rows {"source": "The parcel came late and the box was torn.", "target": "Late and damaged parcel"}.
    """

    columns = {
        "source": "the text to read",
        "target": "the text to write, or a list of right ones; the first is learned",
    }
    answer_columns = frozenset({"target"})
    identity_columns = ("source",)
    asks = "source"
    answers = "target"
    keeps = "beginning"

    def __init__(
        self,
        *,
        prefix: str = "",
        template: str | None = None,
        max_length: int = 512,
        max_target_length: TokenLimit = 128,
        max_new_tokens: TokenLimit = 64,
        num_beams: TokenLimit = 1,
    ) -> None:
        super().__init__(
            max_length=max_length,
            max_target_length=max_target_length,
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
        )
        if template is not None and template.count("{source}") != 1:
            fix = 'Write for example "{source}\\nSummary:"'
            raise ConfigError(Fault("template", "hold `{source}` once", f"`{template}`", fix))
        self.prefix = prefix
        self.template = template

    def fault(self, row: Row) -> str | None:
        """Find what is no text, or empty; a target may be a list of texts."""
        targets = row.get("target")
        if not isinstance(targets, list):
            return super().fault(row)
        complaint = text_fault(row, "source")
        if complaint or (targets and all(isinstance(text, str) and text.strip() for text in targets)):
            return complaint
        return "have text in `target`, or a list of texts"

    def prompt(self, row: Row) -> tuple[str, Span]:
        """Put the row's source into the template."""
        ending = "\n" if self.family == "decoder" else ""
        template = self.template if self.template is not None else "{prefix}{source}" + ending
        before, _, after = template.partition("{source}")
        before, after = before.replace("{prefix}", self.prefix), after.replace("{prefix}", self.prefix)
        return before + row["source"] + after, (len(before), len(before) + len(row["source"]))
