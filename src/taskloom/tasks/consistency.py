"""Texts without labels, and the same ones altered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from taskloom.errors import ConfigError, Fault
from taskloom.tasks._language import generator_of
from taskloom.tasks._text import encode_texts, item_of
from taskloom.tasks._unlabelled import Threshold, UnlabelledTask, sure
from taskloom.types import Family, Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Noise = Literal["auto", "mask", "drop"]


class Consistency(UnlabelledTask):
    """Train another task's head to say of an altered text what it says of the text as it stands.

    Prefer it where a `classification` has few labelled rows and many texts like them, and a word more or less does not
    change the label. Do not where single words decide (negation, entities): the altered text may be of another label.
    Compare with the same run without.

    Formula: ``loss_i = [max_k p_i(k) >= threshold] KL(q_i || p'_i)`` with p_i and p'_i the probabilities of the text
    and of the altered text, and ``q_i = softmax(z_i / temperature)`` of the text's logits z_i, through which no
    gradient goes.

    Shapes: output [sequence, label]; an item is two sequences, the text and the altered one.

    Options:
        of: the `classification` of this run whose head it trains; null (default) for the only one there is.
        threshold: the probability of the text's likeliest label from which it counts (0.8).
        temperature: below 1 it sharpens what the altered text is to be given (0.4).
        noise: how a text is altered: "mask" puts the tokenizer's mask in a token's place, "drop" leaves it out; "auto"
            (default) masks where the tokenizer has a mask.
        rate: share of the tokens that are altered, one at least (0.2).
        seed: of the alterations (0).
        max_length: tokens after which a text is cut (256).

    Errors: `ConfigError` where `of` names no `classification` of the run, or is left out and there are several, or if
    the tokenizer has no mask and `noise` asks for one.

    Differs: each text is altered in one way, drawn from the seed and the text, in place of translation there and back;
    text and altered text are read in one pass, both under dropout. No annealing of the labelled rows' signal.

    Paper: Xie et al., Unsupervised Data Augmentation for Consistency Training, NeurIPS 2020, arXiv:1904.12848.

    Golden example: rows {"text": "could you put on some jazz"}.
    """

    def __init__(
        self,
        *,
        of: str | None = None,
        threshold: Threshold = 0.8,
        temperature: Annotated[float, Field(gt=0)] = 0.4,
        noise: Noise = "auto",
        rate: Annotated[float, Field(gt=0, lt=1)] = 0.2,
        seed: Annotated[int, Field(ge=0)] = 0,
        max_length: int = 256,
    ) -> None:
        super().__init__(of=of, threshold=threshold, max_length=max_length)
        self.temperature = temperature
        self.noise: Noise = noise
        self.rate = rate
        self.seed = seed

    def meet(self, family: Family, tokenizer: PreTrainedTokenizerFast) -> None:
        """Note the family, and see that a token can be masked where that is asked for.

        Raises:
            ConfigError: the tokenizer has no mask.
        """
        super().meet(family, tokenizer)
        if self.noise == "mask" and tokenizer.mask_token_id is None:
            found = "a tokenizer without one"
            raise ConfigError(Fault("noise", "find a mask token in the tokenizer", found, "Write `noise: drop`"))

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of two sequences for each row."""
        texts, pairs = [row["text"] for row in rows], [row.get("text_pair") for row in rows]
        for row, sequence in zip(rows, encode_texts(tokenizer, texts, pairs, self.max_length), strict=True):
            yield [item_of([sequence, self._altered(row, sequence, tokenizer)])]

    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Give ``sizes`` [item]: nothing is compared with but the model itself."""
        return {"sizes": torch.tensor([len(item["input_ids"]) for item in items])}

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give how far each altered text's probabilities are from the text's, where these are sure: [item]."""
        clean, altered = output[0::2].detach(), output[1::2]
        wanted = (clean / self.temperature).log_softmax(dim=-1)
        far = (wanted.exp() * (wanted - altered.log_softmax(dim=-1))).sum(dim=-1)
        return far.where(sure(clean, self.threshold), 0.0)

    def terms(self, targets: Mapping[str, Tensor]) -> Tensor:
        """Count one term for each item."""
        return torch.ones_like(targets["sizes"])

    def describe(self, row: Row, item: Item) -> list[tuple[str, str]]:
        """Say how many tokens are altered."""
        clean, altered = item["input_ids"]
        if len(clean) != len(altered):
            return [("altered", f"{len(clean) - len(altered)} of {len(clean)} tokens left out")]
        changed = sum(one != other for one, other in zip(clean, altered, strict=True))
        return [("altered", f"{changed} of {len(clean)} tokens masked")]

    def _altered(
        self, row: Row, sequence: Mapping[str, list[int]], tokenizer: PreTrainedTokenizerFast
    ) -> dict[str, list[int]]:
        """Alter some tokens of a sequence, special ones aside; one of the text's own tokens stays."""
        ids = sequence["input_ids"]
        special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
        own = [place for place, token in enumerate(ids) if token not in special]
        chance = generator_of(self.seed, 0, f"{row['text']}\n{row.get('text_pair') or ''}")
        count = min(max(1, round(self.rate * len(own))), len(own) - 1)
        chosen = {own[each] for each in chance.permutation(len(own))[: max(count, 0)].tolist()}
        mask: Any = tokenizer.mask_token_id
        if self.noise == "drop" or mask is None:
            return {
                key: [each for place, each in enumerate(held) if place not in chosen] for key, held in sequence.items()
            }
        masked = [int(mask) if place in chosen else token for place, token in enumerate(ids)]
        return {**sequence, "input_ids": masked}
