"""What a wrong answer costs: forms of the cross-entropy, weights of labels, and a squared error with straight tails.

Each form is a function of the probability p that the model gives to a label:

- cross-entropy: ``-log p``
- focal, of ``gamma`` (Lin et al., 2017, arXiv:1708.02002): ``-(1 - p)^gamma log p``, so that rows which are right
  already count less
- generalised, of ``q`` (Zhang and Sabuncu, 2018, arXiv:1805.07836): ``(1 - p^q) / q``, which is at most 1/q however
  sure the model is of another label, so that a wrong label in the data cannot pull without limit

With smoothing, a share of the loss is the mean over all labels of what each would cost if it were right. A weight
multiplies what its label costs. The mean weight is 1 over the training rows, so that a loss stays a mean over rows, and
a task counts as much beside others with weights as without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from taskloom.errors import ConfigError, DataError, Fault, listed, nearest
from taskloom.types import IGNORED

LabelSmoothing = Annotated[float, Field(ge=0, lt=1)]
FocalGamma = Annotated[float, Field(ge=0)]
NoiseRobustness = Annotated[float, Field(ge=0, le=1)]
ClassWeights = Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None
HuberDelta = Annotated[float, Field(gt=0)] | None


@dataclass(frozen=True)
class LabelLoss:
    """The form of a loss over labels; all zeros is the cross-entropy.

    Raises:
        ConfigError: `noise_robustness` stands beside one of the others.
    """

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    noise_robustness: float = 0.0

    def __post_init__(self) -> None:
        others = [name for name in ("label_smoothing", "focal_gamma") if getattr(self, name)]
        if self.noise_robustness and others:
            requirement = f"be 0 beside {listed(others)}"
            fix = "It bounds what one row can cost, and is another form of the loss; keep one of them"
            raise ConfigError(Fault("noise_robustness", requirement, f"`{self.noise_robustness:g}`", fix))

    @property
    def plain(self) -> bool:
        """Whether it is the cross-entropy."""
        return not (self.label_smoothing or self.focal_gamma or self.noise_robustness)

    def __call__(
        self, logits: Tensor, right: Tensor, weights: Tensor | None = None, allowed: Tensor | None = None
    ) -> Tensor:
        """Give the loss of each place that a label is chosen for.

        Args:
            logits: [item, label] or [item, token, label].
            right: [item] or [item, token] int64, the right label; where it is `IGNORED`, the loss is 0.
            weights: [label].
            allowed: like logits, false where a label may not be chosen; its logit is minus infinity.

        Returns:
            [item] or [item, token].
        """
        if self.plain and weights is None:
            return functional.cross_entropy(logits.movedim(-1, 1), right, reduction="none", ignore_index=IGNORED)
        held = right != IGNORED
        loss = self.of_logs(logits.log_softmax(dim=-1), right.where(held, 0), weights, allowed)
        return loss.where(held, 0.0)

    def of_logs(
        self, logs: Tensor, right: Tensor, weights: Tensor | None = None, allowed: Tensor | None = None
    ) -> Tensor:
        """Give the loss of log-probabilities.

        Args:
            logs: [..., label].
            right: [...] int64.
            weights: [..., label], or what spreads to it.
            allowed: [..., label], false where a log-probability is minus infinity.

        Returns:
            [...].
        """
        place = right.unsqueeze(-1)
        loss = self._cost(logs.gather(-1, place))
        if weights is not None:
            loss = loss * weights.expand_as(logs).gather(-1, place)
        loss = loss.squeeze(-1)
        if not self.label_smoothing:
            return loss
        # What may not be chosen costs nothing: filled in before, as the gradient of infinity times 0 is not a number.
        every = self._cost(logs if allowed is None else logs.masked_fill(~allowed, 0.0))
        every = (every if weights is None else every * weights).sum(dim=-1)
        count = logs.shape[-1] if allowed is None else allowed.sum(dim=-1)
        return (1 - self.label_smoothing) * loss + self.label_smoothing * every / count

    def _cost(self, logs: Tensor) -> Tensor:
        """Give what a label costs of which these are the log-probabilities."""
        if self.noise_robustness:
            return -torch.expm1(self.noise_robustness * logs) / self.noise_robustness
        if self.focal_gamma:
            # Kept off zero, where a power below 1 has an endless slope.
            doubt = (-torch.expm1(logs)).clamp(min=torch.finfo(logs.dtype).tiny)
            return doubt**self.focal_gamma * -logs
        return -logs


def squared(difference: Tensor, delta: float | None) -> Tensor:
    """Give squared differences, on which beyond `delta` the tangent goes on: twice Huber's loss."""
    if delta is None:
        return difference.square()
    return 2 * functional.huber_loss(difference, torch.zeros_like(difference), reduction="none", delta=delta)


def label_weights(given: ClassWeights, labels: Sequence[Any], counts: Mapping[Any, int]) -> list[float] | None:
    """Give each label's weight, 1 on average over the training rows.

    "balanced" is scikit-learn's ``n / (L n_c)`` over the L labels that occur, whose average is 1 as it is. Weights that
    a user names are divided by their average; labels without a name weigh 1 before that. A label that never occurs
    in training (a tag that only decoding needs) weighs 1.

    Args:
        given: the option.
        labels: in the order of the head's outputs.
        counts: label -> how often training has it.

    Raises:
        DataError: a name is no label.
    """
    if given is None:
        return None
    total, present = sum(counts[label] for label in labels), sum(counts[label] > 0 for label in labels)
    if given == "balanced":
        return [total / (present * counts[label]) if counts[label] else 1.0 for label in labels]
    named = _named(given, labels)
    mean = sum(counts[label] * weight for label, weight in zip(labels, named, strict=True)) / total
    return [weight / mean if counts[label] else 1.0 for label, weight in zip(labels, named, strict=True)]


def pair_weights(
    given: ClassWeights, labels: Sequence[Any], counts: Mapping[Any, int], rows: int
) -> list[list[float]] | None:
    """Give for each label what a row weighs in it that does not have it, and one that does: [label][2].

    Each label is a choice between two, so "balanced" is ``n / (2 n_c)`` of either side, and a weight that a user names
    is how much more a row counts that has the label. The average over the rows is 1 for each label. A label that all
    rows have leaves nothing to weigh.

    Args:
        given: the option.
        labels: in the order of the head's outputs.
        counts: label -> how many training rows have it.
        rows: how many training rows there are.

    Raises:
        DataError: a name is no label.
    """
    if given is None:
        return None
    if given == "balanced":
        sides = [(rows - counts[label], counts[label]) for label in labels]
        return [[rows / (2 * side) for side in both] if all(both) else [1.0, 1.0] for both in sides]
    pairs = []
    for label, weight in zip(labels, _named(given, labels), strict=True):
        share = counts[label] / rows
        mean = share * weight + 1 - share
        pairs.append([1 / mean, weight / mean])
    return pairs


def _named(given: Mapping[str, float], labels: Sequence[Any]) -> list[float]:
    """Give each label the weight that its name has; keys of a run file are texts, whatever the labels are."""
    names = [str(label) for label in labels]
    unknown = [name for name in given if name not in names]
    if unknown:
        fix = nearest(unknown[0], names)
        raise DataError(Fault("class_weights", "name labels that training has", listed(unknown), fix))
    return [float(given.get(name, 1.0)) for name in names]
