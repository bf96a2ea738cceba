"""Plain texts with spans to write out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from taskloom.errors import ConfigError, Fault
from taskloom.tasks._language import LanguageTask, generator_of, windows
from taskloom.tasks._text import item_of
from taskloom.types import Family, Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class SpanCorruption(LanguageTask):
    """Write out the spans of a text that were taken away, each behind the sentinel that stands in its place.

    Prefer it to bring an encoder-decoder closer to the language of a field, or beside other tasks so that it does not
    forget. Do not with backbones that were not made with sentinels.

    Formula: ``loss_i = -(1/n) sum_t log p(z_t | text with sentinels, z_1 ... z_(t-1))`` over the n tokens of
    ``z = sentinel_0 span_0 sentinel_1 span_1 ... sentinel_k end``. A window of m tokens loses ``round(m density)`` of
    them, in ``round(lost / mean length)`` spans.

    Shapes: output [sequence, label token], the negative log-likelihood of each.

    Options:
        max_length: tokens of a window, its end included (512); a longer text gives several items.
        noise_density: share of a window's tokens that are taken away (0.15, as in T5).
        mean_span_length: mean number of tokens of a span (3.0, as in T5).
        seed: what the spans are drawn from, together with the text (0).

    Errors: `ConfigError` where the tokenizer has no sentinels (`<extra_id_0>`, `<extra_id_1>`, ...), too few for the
    spans of a window, or no token that ends a text.

    Differs: the spans are drawn once for each text and not anew in every epoch, so that a run is a function of its data
    alone; texts are not joined to fill windows.

    Paper: Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, JMLR 2020,
    arXiv:1910.10683, section 3.1.4.

    Golden example: rows {"text": "The parcel came late and the box was torn."}.
    """

    families = frozenset({"encoder_decoder"})

    def __init__(
        self,
        *,
        max_length: Annotated[int, Field(ge=4)] = 512,
        noise_density: Annotated[float, Field(gt=0, lt=1)] = 0.15,
        mean_span_length: Annotated[float, Field(ge=1)] = 3.0,
        seed: int = 0,
    ) -> None:
        super().__init__(max_length=max_length)
        self.noise_density = noise_density
        self.mean_span_length = mean_span_length
        self.seed = seed

    def meet(self, family: Family, tokenizer: PreTrainedTokenizerFast) -> None:
        """Note the family and the tokenizer, and see that its sentinels suffice.

        Raises:
            ConfigError: it has too few of them, or no token that ends a text.
        """
        super().meet(family, tokenizer)
        held, needed = len(sentinels_of(tokenizer)), self._counts(self.max_length - 1)[1] + 1
        if not held or tokenizer.eos_token_id is None:
            lacking = "no `eos_token`" if held else "no `<extra_id_0>`"
            requirement = "be an encoder-decoder that was made with sentinels, such as T5"
            raise ConfigError(Fault("model.name_or_path", requirement, f"a tokenizer with {lacking}"))
        if needed > held:
            requirement = f"be so small that the {held} sentinels of the tokenizer suffice"
            fix = "Lower it or `noise_density`, or raise `mean_span_length`"
            raise ConfigError(Fault("max_length", requirement, f"`{self.max_length}`, which needs {needed}", fix))

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item for each window of each row."""
        sentinels, eos = sentinels_of(tokenizer), [tokenizer.eos_token_id]
        batch = tokenizer([row["text"] for row in rows], add_special_tokens=False)["input_ids"] if rows else []
        for row, ids in zip(rows, batch, strict=True):
            items = []
            for index, window in enumerate(windows(ids, self.max_length - 1)):
                source, target = self._corrupt(window, sentinels, generator_of(self.seed, index, row["text"]))
                labels = [target + eos]
                items.append(item_of([{"input_ids": source + eos}], labels=labels, prompt_tokens=len(source) + 1))
            yield items

    def _counts(self, length: int) -> tuple[int, int]:
        """Say how many tokens of a window are taken away, and in how many spans."""
        lost = max(1, min(round(length * self.noise_density), length - 1))
        kept = max(length - lost, 0)
        return lost, max(1, min(round(lost / self.mean_span_length), lost, kept))

    def _corrupt(
        self, ids: list[int], sentinels: list[int], generator: np.random.Generator
    ) -> tuple[list[int], list[int]]:
        """Take spans away: the text with sentinels, and the spans behind theirs.

        As in T5, lengths of spans and of what stands between them are drawn evenly among all that add up, and a text
        begins with what is kept.
        """
        lost, spans = self._counts(len(ids))
        kept_lengths = lengths(len(ids) - lost, spans, generator) if len(ids) > lost else [0]
        lost_lengths = lengths(lost, spans, generator)
        source: list[int] = []
        target: list[int] = []
        place = 0
        for number, (kept, gone) in enumerate(zip(kept_lengths, lost_lengths, strict=True)):
            source += [*ids[place : place + kept], sentinels[number]]
            target += [sentinels[number], *ids[place + kept : place + kept + gone]]
            place += kept + gone
        return source, [*target, sentinels[spans]]


def sentinels_of(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Give a tokenizer's sentinels in order, `<extra_id_0>` first."""
    vocabulary = tokenizer.get_vocab()
    found: list[int] = []
    while (number := vocabulary.get(f"<extra_id_{len(found)}>")) is not None:
        found.append(number)
    return found


def lengths(total: int, parts: int, generator: np.random.Generator) -> list[int]:
    """Cut `total` into `parts` of one or more, each way to cut as likely as any other."""
    cuts = np.sort(generator.choice(total - 1, size=parts - 1, replace=False) + 1) if parts > 1 else np.array([])
    edges = [0, *cuts.astype(int).tolist(), total]
    return [after - before for before, after in pairwise(edges)]
