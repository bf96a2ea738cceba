"""torchjd's weightings and aggregators, described: what balances by the tasks' gradients. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from taskloom.balance._row import SEED, Above, Count, NotBelow, Option, Row, Share

LEFT_OUT = {"NashMTL": "its solver ecos is under the GPL; `nash_mtl` solves the same problem exactly"}
"""torchjd's class -> why it has no row."""

NO_RIDGE = (
    "the projection is solved by scipy's nnls on the Gramian of unit gradients, not by quadprog with a ridge of 1e-4, "
    "which lets conflict pass where lengths differ 30-fold."
)

AGGREGATIONS: dict[str, Row] = {
    "aligned_mtl": Row(
        "AlignedMTLWeighting",
        "Rotate the tasks' gradients until they are orthogonal and of one length, then add them up.",
        "Prefer it where gradients differ much in length and direction and a trade-off by preference should hold. Do "
        "not where two tasks are nearly alike: the smallest eigenvalue sets the step, which becomes tiny under SGD.",
        "``w = s G^(-1/2) p`` with ``G^(-1/2) = V L^(-1/2) V^T`` from the eigenvalues L above zero, ``s`` the root of "
        "the smallest, median or mean of them, and p the preference.",
        "Senushkin et al., Independent Component Alignment for Multi-Task Learning, 2023, arXiv:2305.19000.",
        options={
            "scale_mode": Option(
                Literal["min", "median", "rmse"], "min", "the eigenvalue behind s; `min` is the paper's (min)"
            )
        },
        takes_preference=True,
    ),
    "cagrad": Row(
        "CAGradWeighting",
        "Stay within a ball around the mean gradient and help the worst task there the most.",
        "Prefer it for the mean loss where one task falls behind. Do not where conflict should be ruled out: c below 1 "
        "allows it. Needs the extra `balance`.",
        "``d = g_0 + (c |g_0| / |g_w|) g_w`` with ``g_0`` the mean gradient, ``g_w = J^T w`` and ``w`` on the simplex "
        "minimizing ``g_w . g_0 + c |g_0| |g_w|``.",
        "Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, 2021, arXiv:2110.14048.",
        options={"c": Option(NotBelow, 0.4, "radius of the ball over |g_0|; the paper's best values are near (0.4)")},
        differs="d is not divided by 1 + c^2, as in torchjd.",
    ),
    "config": Row(
        "ConFIG",
        "Step along the direction that has the same cosine to every task's gradient.",
        "Prefer it where tasks are few and their gradients differ in length. Do not with more tasks than directions: "
        "equal cosines then need not exist, and the direction may conflict.",
        "``d = (sum_t g_t . u) u`` with ``u`` the unit vector along ``U^+ p``, U the gradients divided by their "
        "lengths, ``U^+`` its pseudoinverse and p the preference.",
        "Liu, Chu and Thuerey, ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks, 2024, "
        "arXiv:2408.11104.",
        total="sum",
        takes_preference=True,
        conflict_free=True,
        differs="it reads a square root of the Gramian in float64 in place of the gradients: the same direction, and a "
        "pseudoinverse that millions of columns in float32 do not cut off.",
    ),
    "cr_mogm": Row(
        "CRMOGMWeighting",
        "Smooth the weights of another method that reads the Gramian over the steps.",
        "Prefer it where a method's weights jump from step to step. Do not where the method must hold at every step, "
        "such as freedom from conflict: smoothed weights do not keep it.",
        "``w_k = alpha w_(k-1) + (1 - alpha) v_k`` with v_k the weights of the other method in step k, and w_0 = v_1.",
        "Zhou et al., On the Convergence of Stochastic Multi-Objective Gradient Manipulation and Beyond, NeurIPS 2022.",
        options={
            "weighting": Option(str, "upgrad", "a method that reads the Gramian, with its default options (upgrad)"),
            "alpha": Option(Share, 0.9, "share of the past (0.9)"),
        },
        takes_preference=True,
        scales=False,
        differs="weights of a method whose total is the sum are divided by the number of tasks; a constant alpha where "
        "the paper's follows the learning rate.",
    ),
    "dualproj": Row(
        "DualProjWeighting",
        "Change the mean gradient as little as possible until it conflicts with no task.",
        "Prefer it where the mean loss matters and no task may lose. Do not where small tasks should gain: it only "
        "keeps them from losing; `upgrad` does more for them.",
        "``d = J^T v`` with ``v = argmin v^T G v`` subject to ``v >= p``, p the preference.",
        "Lopez-Paz and Ranzato, Gradient Episodic Memory for Continual Learning, 2017, arXiv:1706.08840.",
        takes_preference=True,
        conflict_free=True,
        differs=NO_RIDGE,
    ),
    "excess_mtl": Row(
        "ExcessMTLWeighting",
        "Give more to tasks that are further from convergence, as seen by gradients against their own history.",
        "Prefer it where labels of some tasks are noisy, so that a large loss is no sign of work left. Do not with "
        "many parameters: it keeps a number for each task and parameter.",
        "``w_t <- w_t exp(eta e_t / e_t0)``, normalized, with ``e_t = sum_p g_tp^2 / sqrt(S_tp)``, S_tp the sum of "
        "g_tp^2 over the steps and e_t0 the first e_t or its mean over the warm-up.",
        "He et al., Robust Multi-Task Learning with Excess Risks, 2024, arXiv:2402.02009.",
        needs="jacobian",
        options={
            "robust_step_size": Option(Above, 1.0, "eta (1.0)"),
            "n_warmup_steps": Option(
                Annotated[int, Field(ge=0)],
                0,
                "steps of equal weights that give e_t0; the paper takes three epochs (0)",
            ),
        },
        scales=False,
        differs="a task that is first seen later gets its own first e_t as e_t0.",
    ),
    "fairgrad": Row(
        "FairGradWeighting",
        "Share the gain among tasks by alpha-fairness: from the sum of gains over their product to the smallest.",
        "Prefer it to dial between the mean and the worst task. Do not with plain SGD: the length of the step does not "
        "follow the gradients' (at alpha 1 it is sqrt(T) always); Adam does not mind.",
        "``w > 0`` with ``G w = w^(-1/alpha)``.",
        "Ban and Ji, Fair Resource Allocation in Multi-Task Learning, 2024, arXiv:2402.15638.",
        total="sum",
        options={
            "alpha": Option(
                NotBelow, 1.0, "0 gives equal weights, 1 Nash's solution, more favours the worst task (1.0)"
            ),
            "max_iters": Option(
                Count | None, None, "iterations of scipy's least_squares; null for its own limit (null)"
            ),
        },
        conflict_free=True,
        scales=False,
        differs="solved on the Gramian divided by its mean diagonal and scaled back, so that no solver's tolerance "
        "depends on the gradients' scale; at alpha 0 the weights are 1, as near it, and not 1/T.",
    ),
    "graddrop": Row(
        "GradDrop",
        "Keep in each coordinate only the gradients of one sign, drawn by how much of the sum has that sign.",
        "Prefer it to compare with the literature. Do not elsewhere: it is noise by coordinate that Adam averages "
        "out, and it needs all tasks' gradients in memory.",
        "``d_p = sum_t (l + (1 - l) [sign(g_tp) is drawn]) g_tp``; positive is drawn with probability ``(1 + sum_t "
        "g_tp / sum_t |g_tp|) / 2``, and l is the leak.",
        "Chen et al., Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout, 2020, "
        "arXiv:2010.06808.",
        needs="jacobian",
        total="sum",
        options={"leak": Option(Share, 0.0, "share of each gradient that passes in any case (0.0)"), "seed": SEED},
        draws=True,
        differs="the recorded weights are those whose combination of the tasks' gradients is nearest to d.",
    ),
    "gradvac": Row(
        "GradVacWeighting",
        "Pull each pair of gradients up to the cosine that the pair has had on average.",
        "Prefer it where related tasks, such as languages, should stay alike. Do not for freedom from conflict: pairs "
        "are treated one after the other.",
        "where cos(g_i, g_j) lies below its running mean c_ij: ``g_i += g_j |g_i| (c_ij sqrt(1 - cos^2) - cos sqrt(1 "
        "- c_ij^2)) / (|g_j| sqrt(1 - c_ij^2))``; then all g_i are added up.",
        "Wang et al., Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively Multilingual "
        "Models, 2020, arXiv:2010.05874.",
        total="sum",
        options={
            "beta": Option(Share, 0.5, "how fast the running mean moves; the paper takes 0.01 (0.5)"),
            "eps": Option(NotBelow, 1e-8, "added to denominators (1e-8)"),
            "seed": SEED,
        },
        draws=True,
        differs="one group of all shared parameters.",
    ),
    "imtl_g": Row(
        "IMTLGWeighting",
        "Step along the direction that has the same projection on every task's unit gradient.",
        "Prefer it where tasks should gain alike whatever their gradients' lengths. Do not with many tasks of uneven "
        "lengths: its weights may be negative and large; take `nash_mtl`.",
        "``w`` proportional to ``G^+ n`` with n the gradients' lengths and ``G^+`` the pseudoinverse; adds up to 1.",
        "Liu et al., Towards Impartial Multi-task Learning, ICLR 2021; for dependent gradients: Quinton and Rey, 2024, "
        "arXiv:2406.16232.",
        conflict_free=True,
        differs="where weights that add up to 1 would step uphill for all tasks, they add up to -1.",
    ),
    "krum": Row(
        "KrumWeighting",
        "Take the gradients that lie nearest to the others and leave out the rest.",
        "Prefer it where some tasks may be garbage. Do not where tasks are meant to differ: it trains the one in the "
        "middle.",
        "the ``n_selected`` tasks with the least sum of distances to their ``T - n_byzantine - 2`` nearest gradients "
        "get ``1 / n_selected`` each.",
        "Blanchard et al., Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent, NeurIPS 2017.",
        options={
            "n_byzantine": Option(Annotated[int, Field(ge=0)], 1, "tasks that may be garbage (1)"),
            "n_selected": Option(Count, 1, "tasks that are taken (1)"),
        },
        minimum_tasks=3,
        differs="equal weights in a step with fewer tasks than n_byzantine + 3 or n_selected.",
    ),
    "mgda": Row(
        "MGDAWeighting",
        "Take the shortest vector in the convex hull of the tasks' gradients.",
        "Prefer it for a guarantee that every task improves. Do not by default: it follows the task with the shortest "
        "gradient and stops at any Pareto stationary point.",
        "``w = argmin w^T G w`` on the simplex, by Frank-Wolfe.",
        "Désidéri, Multiple-gradient descent algorithm for multiobjective optimization, 2012, "
        "doi:10.1016/j.crma.2012.03.014; Sener and Koltun, 2018, arXiv:1810.04650.",
        options={
            "epsilon": Option(Above, 1e-5, "the step of Frank-Wolfe at which it stops (1e-5)"),
            "max_iters": Option(Count, 1000, "steps of Frank-Wolfe; one is exact for two tasks (1000)"),
        },
        differs="torchjd's defaults are 1e-3 and 100, at which the vector still conflicted in one of 30 draws of "
        "gradients whose lengths differ up to 100-fold; the least cosine was -0.3.",
    ),
    "modo": Row(
        "MoDoWeighting",
        "Learn MGDA's weights by projected gradient steps on independent halves of the step's rows.",
        "Prefer it to `mgda` where batches are small, as its estimate is unbiased. Do not without watching gamma: it "
        "acts on squared gradient lengths.",
        "``w <- P(w - gamma (J_1 J_2^T w + rho w))`` with P the projection on the simplex, J_1 and J_2 the gradients "
        "of the two halves.",
        "Chen et al., Three-Way Trade-Off in Multi-Objective Learning: Optimization, Generalization and "
        "Conflict-Avoidance, 2023, arXiv:2305.20057.",
        needs="cross_gramian",
        options={
            "gamma": Option(Above, 0.1, "step size of the weights (0.1)"),
            "rho": Option(NotBelow, 0.1, "pull towards equal weights (0.1)"),
        },
        scales=False,
        differs="the halves of one batch are the two batches.",
    ),
    "pcd": Row(
        "PCDWeighting",
        "Follow one task's gradient as closely as the others' least progress allows.",
        "Prefer it where one task is the product and the rest serve it. Do not where tasks are peers.",
        "``d`` nearest to the primary's normalized gradient with ``h_j . d >= tau |h_j|^2`` for every other task, h_j "
        "its gradient over a running mean of its length; scaled to the primary's length.",
        "Varam and AlHajri, Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical "
        "Multi-Objective Optimization, 2026, arXiv:2606.29521.",
        options={
            "primary": Option(str, ..., "name of the task that is followed"),
            "tau": Option(Share, 0.02, "progress of the others over that along their own gradient (0.02)"),
            "beta": Option(Annotated[float, Field(ge=0, lt=1)], 0.999, "decay of the running mean (0.999)"),
            "eps": Option(NotBelow, 1e-8, "added to the running mean (1e-8)"),
        },
        scales=False,
        differs="running means are kept by task; equal weights in a step without the primary.",
    ),
    "pcgrad": Row(
        "PCGradWeighting",
        "Take out of each gradient what opposes another task's, one pair after the other, and add them up.",
        "Prefer it to compare with the literature. Do not with more than two tasks where conflict should be ruled "
        "out: a later pair may bring back what an earlier took out; take `upgrad`.",
        "for j in random order: where ``g_i . g_j < 0``, ``g_i -= (g_i . g_j / |g_j|^2) g_j``; ``d = sum_i g_i``.",
        "Yu et al., Gradient Surgery for Multi-Task Learning, 2020, arXiv:2001.06782.",
        total="sum",
        options={"seed": SEED},
        draws=True,
    ),
    "sdmgrad": Row(
        "SDMGradWeighting",
        "Learn MGDA's weights on independent halves of the step's rows, pulled towards the preferred direction.",
        "Prefer it to `modo` where a preference should hold. Do not where steps have few rows: each half then says "
        "little.",
        "``(w + lambda p) / (1 + lambda)`` with w by ``n_iter`` steps of projected SGD on ``w^T J_1 J_2^T (w + lambda "
        "p)`` on the simplex, and p the preference.",
        "Xiao, Ban and Ji, Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms, "
        "2023, arXiv:2305.18409.",
        needs="cross_gramian",
        options={
            "lr": Option(Above, 10.0, "of the inner steps (10.0)"),
            "momentum": Option(Annotated[float, Field(ge=0, lt=1)], 0.5, "of the inner steps (0.5)"),
            "n_iter": Option(Count, 20, "inner steps (20)"),
            "lambda_": Option(NotBelow, 0.3, "pull towards the preferred direction (0.3)"),
        },
        takes_preference=True,
        differs="the halves of one batch are the two batches, and the step's rows serve the update too.",
    ),
    "trimmed_mean": Row(
        "TrimmedMean",
        "Average the tasks' gradients in each coordinate without the largest and the smallest.",
        "Prefer it where some tasks may be garbage. Do not where tasks are meant to differ: what one task alone asks "
        "for is cut off. It needs all tasks' gradients in memory.",
        "``d_p`` is the mean of g_tp over t without the ``trim_number`` largest and smallest.",
        "Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, 2018, arXiv:1803.01498.",
        needs="jacobian",
        options={"trim_number": Option(Annotated[int, Field(ge=0)], 1, "values that go at each end (1)")},
        minimum_tasks=3,
        differs="a step with too few tasks trims what it can; the recorded weights are those whose combination of the "
        "tasks' gradients is nearest to d.",
    ),
    "upgrad": Row(
        "UPGradWeighting",
        "Move each task's gradient to where it conflicts with no task, and average these.",
        "Prefer it where no task may lose: to first order no loss rises, and tasks with short gradients keep their "
        "say. Do not expect that of Adam's step, which rescales every coordinate.",
        "``w = sum_t v_t`` with ``v_t = argmin v^T G v`` subject to ``v >= p_t e_t``, p the preference.",
        "Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, 2024, arXiv:2406.16232.",
        takes_preference=True,
        conflict_free=True,
        differs=NO_RIDGE,
    ),
}
"""Name in run files -> the method."""
