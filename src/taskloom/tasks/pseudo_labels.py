"""Texts that the run labels itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from taskloom.tasks import Floats
from taskloom.tasks._text import encode_texts, item_of
from taskloom.tasks._unlabelled import Threshold, UnlabelledTask, sure
from taskloom.tasks.classification import softmax
from taskloom.types import IGNORED, Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PLACE = "place"
"""The key of a training item under which its own number stands; rows that are not trained on have none."""


class PseudoLabels(UnlabelledTask):
    """Train another task's head on texts without labels, by the labels that the run gives them itself.

    Prefer it where a `classification` has few labelled rows and many texts like them. Do not where the labelled rows
    are biased or the texts are of another kind: a model learns its own mistakes too. Compare with the same run without.

    Formula: ``loss_i = -log softmax(z_i)[y_i]`` where y_i is the likeliest label of text i at the last labelling, if
    its probability was ``threshold`` or more then; else 0. Texts are labelled by the model as it is at each evaluation,
    all anew; before the first none has a label.

    Shapes: output [sequence, label].

    Options:
        of: the `classification` of this run whose head it trains; null (default) for the only one there is.
        threshold: the probability from which a label is given (0.9; the paper has 0.95 for images).
        limit_per_label: how many texts of each label are taken at most, the surest first, so that frequent labels do
            not crowd out others; null (default) for all.
        max_length: tokens after which a text is cut (256).

    Errors: `ConfigError` where `of` names no `classification` of the run, or is left out and there are several.

    Differs: labels are those of the last evaluation instead of each step's, and no text is altered (`consistency` does
    both); a text under the threshold counts in the mean with a loss of 0, as in the second paper. Texts of validation
    and test are labelled on the spot.

    Papers: Lee, Pseudo-Label, ICML 2013 workshop on challenges in representation learning; Sohn et al., FixMatch,
    NeurIPS 2020, arXiv:2001.07685 (threshold).

    Golden example: rows {"text": "could you put on some jazz"}.
    """

    def __init__(
        self,
        *,
        of: str | None = None,
        threshold: Threshold = 0.9,
        limit_per_label: Annotated[int, Field(gt=0)] | None = None,
        max_length: int = 256,
    ) -> None:
        super().__init__(of=of, threshold=threshold, max_length=max_length)
        self.limit_per_label = limit_per_label
        self.given: Tensor | None = None

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of one sequence for each row."""
        texts, pairs = [row["text"] for row in rows], [row.get("text_pair") for row in rows]
        for sequence in encode_texts(tokenizer, texts, pairs, self.max_length):
            yield [item_of([sequence])]

    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Give ``place`` [item] int64, the number of each training item; -1 for others.

        Labels are looked up where the loss is formed: what collates items may run ahead, in a process of its own.
        """
        places = [item.get(PLACE) for item in items]
        return {PLACE: torch.tensor([-1 if place is None else int(place) for place in places])}

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give the cross-entropy of each item that has a label, and 0 of others: [item]."""
        places = targets[PLACE]
        now = output.detach().argmax(dim=-1).where(sure(output, self.threshold), IGNORED)
        if self.given is None:
            labels = now.where(places < 0, IGNORED)
        else:
            self.given = self.given.to(output.device)
            labels = now.where(places < 0, self.given[places.clamp(min=0)])
        return functional.cross_entropy(output, labels, reduction="none", ignore_index=IGNORED)

    def label(self, outputs: Sequence[Floats]) -> NDArray[np.int64]:
        """Choose labels by what the head gives for each training item, without putting them into force.

        Args:
            outputs: [item] outputs [1, label].

        Returns:
            [item] numbers of labels, `IGNORED` for none.
        """
        chances = softmax(np.stack([output[0] for output in outputs]).astype(np.float64))
        best, top = chances.argmax(axis=1), chances.max(axis=1)
        labels = np.where(top >= self.threshold, best, IGNORED).astype(np.int64)
        if self.limit_per_label is not None:
            for label in range(chances.shape[1]):
                own = np.flatnonzero(labels == label)
                # Stable: of equals the first stay.
                labels[own[np.argsort(-top[own], kind="stable")][self.limit_per_label :]] = IGNORED
        return labels

    def take(self, labels: NDArray[np.int64] | None) -> None:
        """Put labels into force: [item] numbers, `IGNORED` for none; None takes all away."""
        self.given = None if labels is None else torch.from_numpy(np.array(labels, dtype=np.int64))
