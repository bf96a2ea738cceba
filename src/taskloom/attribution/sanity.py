"""Whether explanations depend on what was learned: the same ones of models whose weights are random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from taskloom.attribution.aims import Aim
from taskloom.attribution.explaining import Explainer, Explanation, Method

HEAD, ALL = "head", "head_and_backbone"
STEPS = 64
"""Of the integral: ranks need no more."""


@contextmanager
def randomised(parameters: Sequence[nn.Parameter], seed: int) -> Iterator[None]:
    """Draw parameters anew for a while, each from a normal distribution of its own mean and standard deviation.

    So the scale of activations stays what it was, and what was learned is gone.
    """
    before = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(seed)
    try:
        with torch.no_grad():
            for parameter in parameters:
                spread = parameter.float().std(correction=0)
                drawn = torch.randn(parameter.shape, generator=generator).to(parameter.device)
                parameter.copy_(parameter.float().mean() + spread * drawn)
        yield
    finally:
        with torch.no_grad():
            for parameter, held in zip(parameters, before, strict=True):
                parameter.copy_(held)


def checked(
    explainer: Explainer, aims: Sequence[Aim], found: Sequence[Explanation], method: Method, seed: int = 0
) -> list[Explanation]:
    """Say of each explanation how alike models with random weights rank its words.

    First the task's own head is drawn anew, where it has parameters, then the whole model. Explanations that stay as
    they are say something of the text, and nothing of what was learned.

    Args:
        explainer: that made them.
        aims: [explanation] what they explain.
        found: [explanation].
        method: by which they were made.
        seed: of the random weights.

    Returns:
        [explanation], each with ``sanity``: the correlation of ranks with those of each random model.

    Paper: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, arXiv:1810.03292.
    """
    model = explainer.model
    head = list(model.head_of(explainer.name).parameters())
    parts = {HEAD: head, ALL: [each for each in model.parameters() if each.is_floating_point()]}
    results: list[dict[str, float]] = [{} for _ in found]
    for part, parameters in parts.items():
        if not parameters:
            continue
        with randomised(parameters, seed):
            for place, (aim, explanation) in enumerate(zip(aims, found, strict=True)):
                other = explainer.explain(aim, method, steps=STEPS)
                results[place][part] = rank_correlation(explanation, other)
    return [replace(each, sanity=result) for each, result in zip(found, results, strict=True)]


def rank_correlation(one: Explanation, other: Explanation) -> float:
    """Give Spearman's correlation of the sizes of two explanations' weights; NaN for fewer than three words."""
    first, second = (np.abs([word.weight for word in each.words]) for each in (one, other))
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)
