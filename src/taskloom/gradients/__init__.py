"""All tasks' gradients in one backward pass, their statistics, and their balanced sum; pure torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskloom.gradients.balanced_step import BalancedStep
    from taskloom.gradients.balancer import Balancer
    from taskloom.gradients.engine import Engine
    from taskloom.gradients.sketch import CountSketch
    from taskloom.gradients.step import GradientError, Step

__all__ = ["BalancedStep", "Balancer", "CountSketch", "Engine", "GradientError", "Step"]

_HOMES = {
    "BalancedStep": "balanced_step",
    "Balancer": "balancer",
    "CountSketch": "sketch",
    "Engine": "engine",
    "GradientError": "step",
    "Step": "step",
}
"""Loaded when first used: what reads recorded conflict (`taskloom.gradients.conflict`) needs no torch."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"`taskloom.gradients` has no `{name}`")
    return getattr(importlib.import_module(f"taskloom.gradients.{_HOMES[name]}"), name)
