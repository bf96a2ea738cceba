"""torchjd's scalarizers, described: what balances by the tasks' losses alone. Imports neither torch nor torchjd."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from taskloom.balance._row import SEED, Above, Count, NotBelow, Option, Row

Finite = Annotated[float, Field()]

RATE = "of the Adam that learns s"
REFERENCE = Option(dict[str, Finite], {}, "task -> the least loss it could have; 0 where not given ({})")

SCALARIZATIONS: dict[str, Row] = {
    "constant": Row(
        "Constant",
        "Multiply each task's gradient by a number of your own.",
        "Prefer `static`, which is the same by Taskloom's own name, with weights that add up to 1. Do not as a first "
        "try.",
        "``w_t = weights_t``.",
        "Kurin et al., In Defense of the Unitary Scalarization for Deep Multi-Task Learning, 2022, arXiv:2201.04122, "
        "on how far fixed weights reach.",
        needs="nothing",
        total="sum",
        options={"weights": Option(dict[str, NotBelow], ..., "task -> a number from 0; every task of the run has one")},
        minimum_tasks=1,
    ),
    "cosmos": Row(
        "COSMOS",
        "Pull the vector of losses towards the direction of the preference.",
        "Prefer it where losses should stand to each other as the preference says. Do not near losses of zero: the "
        "pull grows with one over their length and may turn weights negative.",
        "gradient of ``sum_t p_t L_t - lambda cos(p, L)``, p the preference.",
        "Ruchte and Grabocka, Scalable Pareto Front Approximation for Deep Multi-Objective Learning, 2021, "
        "arXiv:2103.13392.",
        needs="losses",
        options={"lambda_": Option(NotBelow, 0.1, "strength of the pull; the paper takes 0.01 to 8 by data set (0.1)")},
        takes_preference=True,
        differs="the model does not see the preference: one trade-off, not the whole front.",
    ),
    "dwa": Row(
        "DWA",
        "Give more to tasks whose loss fell more slowly over the last two windows of steps.",
        "Prefer it where tasks learn at different speeds and losses are smooth. Do not with short windows: it then "
        "chases noise.",
        "``w_t = T softmax_t(r_t / temperature)`` with ``r_t`` the mean loss of the last window over that of the one "
        "before; 1 until a task has both.",
        "Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention, 2019, arXiv:1803.10704.",
        needs="losses",
        total="sum",
        options={
            "temperature": Option(Above, 2.0, "larger is nearer to equal weights (2.0)"),
            "window": Option(Count, 25, "steps of a window (25)"),
        },
        differs="windows of steps in place of epochs, of which language models see few; means are kept by task.",
    ),
    "famo": Row(
        "FAMO",
        "Let all losses fall at one rate, seen from how much each fell in the last step.",
        "Prefer it as the balance by rate that costs nothing. Do not with few rows a task: differences of two small "
        "batches are mostly noise.",
        "``w_t = z_t / (c (L_t - b_t))`` with ``z = softmax(xi)`` and c so that they add up to 1; ``xi`` by Adam along "
        "``(diag z - z z^T) (log before - log after)``.",
        "Liu et al., FAMO: Fast Adaptive Multitask Optimization, 2023, arXiv:2306.03792.",
        needs="losses",
        options={
            "min_losses": Option(
                dict[str, Finite], {}, "task -> b_t, the least loss it could have; 0 where not given ({})"
            ),
            "lr": Option(NotBelow, 0.025, "of the Adam that learns xi (0.025)"),
            "weight_decay": Option(NotBelow, 1e-3, "of the Adam that learns xi (1e-3)"),
        },
        differs="`after` is the loss of the task's next batch, not of the same batch again: no second forward pass, "
        "and more noise.",
    ),
    "geometric_mean": Row(
        "GeometricMean",
        "Minimize the geometric mean of the losses.",
        "Prefer it where losses are on different scales. Do not where a loss may come near zero: its task takes all.",
        "``w_t = (prod_s L_s)^(1/T) / (T L_t)``: proportional to one over the loss.",
        "Chennupati et al., MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task "
        "Learning, 2019, arXiv:1904.08492.",
        needs="losses",
        differs="losses below 1e-8 count as 1e-8.",
    ),
    "imtl_l": Row(
        "IMTLL",
        "Learn a scale for each loss that brings all losses to one size.",
        "Prefer it to compare with the literature. Do not where you can have `uncertainty`, which begins where this "
        "one ends.",
        "``w_t = exp(s_t)`` with s_t learned on ``exp(s_t) L_t - s_t``; ends at ``1 / L_t``.",
        "Liu et al., Towards Impartial Multi-task Learning, ICLR 2021.",
        needs="losses",
        total="sum",
        options={"learning_rate": Option(Above, 0.01, f"{RATE} (0.01)")},
    ),
    "mean": Row(
        "Mean",
        "Average the tasks' losses.",
        "Prefer `equal`, which is the same by Taskloom's own name. Do not where tasks need other weights.",
        "``w_t = 1 / T``.",
        "Kurin et al., In Defense of the Unitary Scalarization for Deep Multi-Task Learning, 2022, arXiv:2201.04122.",
        needs="nothing",
        minimum_tasks=1,
    ),
    "pbi": Row(
        "PBI",
        "Go down along the preferred direction of losses and stay near that line.",
        "Prefer it where losses should end in the ratio of the preference. Do not where it is not known: a wrong "
        "direction costs every task.",
        "gradient of ``|p| (d_1 + theta d_2)`` with ``d_1 = (L - r) . p / |p|``, ``d_2 = |L - r - d_1 p / |p||``, p "
        "the preference and r the reference.",
        "Zhang and Li, MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition, 2007, "
        "doi:10.1109/TEVC.2007.892759.",
        needs="losses",
        options={
            "theta": Option(NotBelow, 5.0, "penalty on the distance to the line; the paper takes (5.0)"),
            "reference": REFERENCE,
        },
        takes_preference=True,
        differs="multiplied by |p|, so that equal tasks get weights that add up to 1.",
    ),
    "random": Row(
        "Random",
        "Draw the weights anew at every step.",
        "Prefer it as a control: a method that is no better than it balances nothing. Do not for a model to use.",
        "``w = softmax(z)`` with z from a standard normal distribution.",
        "Lin et al., Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning, 2021, "
        "arXiv:2111.10603.",
        needs="losses",
        options={"seed": SEED},
        draws=True,
    ),
    "stch": Row(
        "STCH",
        "Minimize a smooth maximum of the losses: the worst task first.",
        "Prefer it where the worst task decides. Do not where losses are on different scales without a reference: the "
        "largest is then not the worst.",
        "``w_t = T p_t softmax_t(p_t (L_t - r_t) / mu)``, p the preference and r the reference.",
        "Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization, 2024, arXiv:2402.19078.",
        needs="losses",
        options={
            "mu": Option(Above, 0.1, "smaller is nearer to the maximum; the paper takes 0.01 to 1 (0.1)"),
            "reference": REFERENCE,
            "warmup_steps": Option(Annotated[int, Field(ge=0)], 0, "steps of equal weights before (0)"),
        },
        takes_preference=True,
        differs="multiplied by T, so that equal tasks get weights that add up to 1.",
    ),
    "sum": Row(
        "Sum",
        "Add up the tasks' losses.",
        "Prefer `equal`: the sum only makes the step T times as long. Do not where tasks need other weights.",
        "``w_t = 1``.",
        "Kurin et al., In Defense of the Unitary Scalarization for Deep Multi-Task Learning, 2022, arXiv:2201.04122.",
        needs="nothing",
        total="sum",
        minimum_tasks=1,
    ),
    "uw": Row(
        "UW",
        "Learn each task's noise and divide its loss by it.",
        "Prefer it to compare with the literature. Do not in short runs: s begins at 0 and moves slowly; `uncertainty` "
        "begins where this one ends.",
        "``w_t = exp(-s_t) / 2`` with s_t learned on ``exp(-s_t) L_t / 2 + s_t / 2``; ends at ``1 / (2 L_t)``.",
        "Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and "
        "Semantics, 2017, arXiv:1705.07115.",
        needs="losses",
        total="sum",
        options={"learning_rate": Option(Above, 0.01, f"{RATE} (0.01)")},
    ),
}
"""Name in run files -> the method."""
