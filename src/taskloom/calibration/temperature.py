"""One number that logits are divided by, so that probabilities mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

Numbers = NDArray[np.float64]

LEAST, MOST = 0.05, 20.0
"""Between which temperatures are looked for: where every answer is right, none is low enough."""


def mean_loss(logits: Numbers, right: NDArray[np.int64], temperature: float = 1.0) -> float:
    """Give the mean negative log-likelihood of the right options.

    Args:
        logits: [choice, option]; minus infinity for an option that a choice does not have.
        right: [choice].
        temperature: what logits are divided by.
    """
    return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(right)), right].mean())


def fit_temperature(logits: Numbers, right: NDArray[np.int64]) -> float:
    """Find the temperature with the least loss.

    Formula: ``T = argmin_T -(1/n) sum_i log softmax(z_i / T)[y_i]``; the loss is convex in 1/T, so that one search of a
    falling and rising curve finds it. Dividing by T moves no option before another.

    Args:
        logits: [choice, option].
        right: [choice].

    Returns:
        within `LEAST` and `MOST`.

    Paper: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.
    """
    held = np.asarray(logits, dtype=np.float64)
    bounds = (float(np.log(LEAST)), float(np.log(MOST)))
    found = minimize_scalar(
        lambda place: mean_loss(held, right, float(np.exp(place))),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-7},
    )
    return float(np.exp(found.x))


def at_limit(temperature: float) -> bool:
    """Say whether a search ended where it had to: the loss was still falling, or flat for all that numbers can tell."""
    return not LEAST * 1.2 < temperature < MOST / 1.2
