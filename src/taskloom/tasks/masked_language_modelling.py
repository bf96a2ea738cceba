"""Plain texts with gaps to fill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from taskloom.errors import ConfigError, Fault
from taskloom.tasks._language import LanguageTask, generator_of
from taskloom.tasks._text import item_of, sequence_of
from taskloom.types import IGNORED, Family, Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHARE_MASKED, SHARE_KEPT = 0.8, 0.1
"""Of the chosen tokens, how many are replaced by the mask and how many stay; the rest become any token."""


class MaskedLanguageModelling(LanguageTask):
    """Foretell tokens of a text that were hidden, from what stands on both sides of them.

    Prefer it to bring an encoder closer to the language of a field, or beside other tasks so that it does not forget.
    Do not with decoders, which read forwards only (`causal_language_modelling`).

    Formula: ``loss_i = -(1/n) sum_m log p(x_m | masked text)`` over the n chosen tokens m of a window; of these 80 %
    are replaced by the mask, 10 % by any token, and 10 % stay.

    Shapes: output [sequence, label token], the negative log-likelihood of each.

    Options:
        max_length: tokens of a window, special ones included (512); a longer text gives several items.
        mask_share: share of a window's tokens that are chosen, one at least (0.15, as in BERT).
        seed: what the choice is made from, together with the text (0).

    Errors: `ConfigError` where the tokenizer has no mask.

    Differs: the choice is made once for each text and not anew in every epoch, so that a run is a function of its data
    alone, and scores of two runs are of the same tokens; another `seed` gives other gaps.

    Paper: Devlin et al., BERT, NAACL 2019, arXiv:1810.04805, section 3.1.

    Golden example: rows {"text": "The parcel came late and the box was torn."}.
    """

    families = frozenset({"encoder"})

    def __init__(
        self,
        *,
        max_length: Annotated[int, Field(ge=8)] = 512,
        mask_share: Annotated[float, Field(gt=0, lt=1)] = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__(max_length=max_length)
        self.mask_share = mask_share
        self.seed = seed

    def meet(self, family: Family, tokenizer: PreTrainedTokenizerFast) -> None:
        """Note the family and the tokenizer, and see that it has a mask.

        Raises:
            ConfigError: it has none.
        """
        super().meet(family, tokenizer)
        if tokenizer.mask_token_id is None:
            requirement = "be an encoder whose tokenizer has a mask (`mask_token`)"
            raise ConfigError(
                Fault("model.name_or_path", requirement, "none", "Choose an encoder that was made with one")
            )

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item for each window of each row."""
        special = set(tokenizer.all_special_ids)
        ordinary = np.array([number for number in range(len(tokenizer)) if number not in special])
        for row in rows:
            batch: Any = tokenizer(
                [row["text"]],
                truncation=True,
                max_length=self.max_length,
                return_overflowing_tokens=True,
                return_special_tokens_mask=True,
            )
            items = []
            for index, kinds in enumerate(batch["special_tokens_mask"]):
                sequence = sequence_of(batch, index)
                places = [place for place, is_special in enumerate(kinds) if not is_special]
                generator = generator_of(self.seed, index, row["text"])
                labels = self._hide(sequence["input_ids"], places, ordinary, tokenizer.mask_token_id, generator)
                items.append(item_of([sequence], labels=[labels], prompt_tokens=len(labels)))
            yield items

    def _hide(
        self, ids: list[int], places: list[int], ordinary: Any, mask: int | None, generator: np.random.Generator
    ) -> list[int]:
        """Choose among the places, hide what stands there, and give the labels."""
        labels = [IGNORED] * len(ids)
        if not places:
            return labels
        count = max(1, round(self.mask_share * len(places)))
        for place in generator.choice(places, size=count, replace=False).tolist():
            labels[place] = ids[place]
            draw = generator.random()
            if draw < SHARE_MASKED:
                assert mask is not None
                ids[place] = mask
            elif draw >= SHARE_MASKED + SHARE_KEPT:
                ids[place] = int(generator.choice(ordinary))
        return labels
