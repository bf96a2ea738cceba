"""What every task's gradient costs: one joint step, ours, and the ways that pay a backward pass for each task.

    python benchmarks/gradients.py --quick     # T = 16, LoRA, under a minute
    python benchmarks/gradients.py             # T = 2 … 32, LoRA and full fine-tuning

All contestants run in one process on the same model (a Llama form with random weights), rows and weighting (UPGrad), by
turns; figures are medians of ratios to the joint step. Before they are timed, their gradients are held against each
other. On a GPU the model is one of more than a billion parameters in bf16. LibMTL's own loop takes part where
`pip install --no-deps LibMTL torchvision` has been run. The full command writes benchmarks/results/gradients.json.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["KINETO_LOG_LEVEL"] = "6"  # the profiler that measures memory says nothing

import peft
import torch
import transformers
from measuring import interleaved, machine, peak_bytes, ratio, write
from torch import Tensor, nn
from torchjd import autogram, autojac
from torchjd.aggregation import UPGrad, UPGradWeighting

from taskloom.balance import BALANCES
from taskloom.balance._projector import NnlsProjector
from taskloom.gradients import Balancer
from taskloom.model.bundled import bundled_folder

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()

Contestant = Callable[[], Tensor]

SMALL = {"hidden_size": 512, "intermediate_size": 1360, "num_hidden_layers": 6, "num_attention_heads": 8}
QUICK = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 6}
BILLION = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}
RANK = 16
EXACT = "separate passes"
WIDE = 64
"""GiB of a Jacobian above which a step that keeps it broke off with an illegal access of memory, on the GPU tried."""

LONG = 16
"""With more tasks than these, ways that pay a backward pass for each are timed by one call."""


class Problem:
    """A model, rows of T tasks, and their losses.

    Args:
        tasks: T.
        adapter: "lora" or "full".
        sizes: of the Llama form.
        rows: of each task.
        tokens: of each row.
        device: where.
    """

    def __init__(
        self, tasks: int, adapter: str, sizes: dict[str, int], *, rows: int, tokens: int, device: torch.device
    ) -> None:
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=2000, num_key_value_heads=sizes["num_attention_heads"], pad_token_id=0, use_cache=False, **sizes
        )
        with device:
            model: Any = transformers.LlamaModel(config)
            if adapter == "lora":
                model = peft.get_peft_model(model, peft.LoraConfig(r=RANK, target_modules="all-linear"))
                for name, parameter in model.named_parameters():
                    if "lora_B" in name:  # zeros at the start, so that the gradient of A would be zero
                        nn.init.normal_(parameter, std=0.02)
        self._fill(model, tasks, rows, tokens, sizes["hidden_size"], device)

    def _fill(self, model: Any, tasks: int, rows: int, tokens: int, width: int, device: torch.device) -> None:
        self.device = device
        self.model = model.to(device).train()
        self.tasks, self.rows, self.tokens = tasks, rows, tokens
        self.ids = torch.randint(1, 2000, (tasks * rows, tokens), device=device)
        self.mask = torch.ones_like(self.ids)
        self.task_of_row = [task for task in range(tasks) for _ in range(rows)]
        self.directions = torch.randn(tasks, width, device=device)
        self.shared = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.parameters = [parameter for _, parameter in self.shared]
        self.size = sum(parameter.numel() for parameter in self.parameters)
        self.half = device.type == "cuda"

    def losses(self) -> list[Tensor]:
        """Run the forward pass: the mean loss of each task."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            hidden = self.model(input_ids=self.ids, attention_mask=self.mask).last_hidden_state
        pooled = hidden.float().mean(dim=1)
        wanted = (pooled * self.directions.repeat_interleave(self.rows, dim=0)).sum(dim=1)
        return list(((wanted - 1) ** 2).view(self.tasks, self.rows).mean(dim=1))

    def gradient(self) -> Tensor:
        """Give ``.grad`` of all shared parameters as one vector."""
        return torch.cat([p.grad.flatten() for p in self.parameters if p.grad is not None])

    def clear(self) -> None:
        """Drop all gradients."""
        self.model.zero_grad(set_to_none=True)


class MiniLM(Problem):
    """The bundled pretrained encoder in full fine-tuning: 6 tasks × 8 rows × 48 tokens."""

    def __init__(self, device: torch.device) -> None:
        torch.manual_seed(0)
        quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        model = transformers.AutoModel.from_pretrained(bundled_folder(), add_pooling_layer=False, **quiet)
        self._fill(model, 6, 8, 48, model.config.hidden_size, device)


def joint(problem: Problem) -> Tensor:
    """Take a plain step on the mean loss."""
    problem.clear()
    torch.stack(problem.losses()).mean().backward()
    return problem.gradient()


def ours(problem: Problem, balancer: Balancer) -> Tensor:
    """Take a balanced step in one backward pass."""
    problem.clear()
    with balancer.step() as step:
        step.rows(problem.task_of_row, {"input_ids": problem.ids, "attention_mask": problem.mask})
        step.backward({str(task): loss for task, loss in enumerate(problem.losses())})
    return problem.gradient()


def separate(problem: Problem, weighting: UPGradWeighting) -> Tensor:
    """Take one backward pass for each task."""
    problem.clear()
    losses = problem.losses()
    jacobian = torch.empty(problem.tasks, problem.size, device=problem.device)
    for task, loss in enumerate(losses):
        gradients = torch.autograd.grad(loss, problem.parameters, retain_graph=task + 1 < len(losses))
        torch.cat([each.flatten() for each in gradients], out=jacobian[task])
    return weighting(jacobian @ jacobian.T) @ jacobian


def by_autojac(problem: Problem, aggregator: UPGrad) -> Tensor:
    """Take torchjd's Jacobian, row by row."""
    problem.clear()
    autojac.backward(problem.losses(), inputs=problem.parameters, parallel_chunk_size=1)
    autojac.jac_to_grad(problem.parameters, aggregator)
    return problem.gradient()


def by_autogram(problem: Problem, engine: autogram.Engine, weighting: UPGradWeighting) -> Tensor:
    """Take torchjd's Gramian, then a backward pass of the weighted losses."""
    problem.clear()
    losses = torch.stack(problem.losses())
    losses.backward(weighting(engine.compute_gramian(losses)))
    return problem.gradient()


def by_libmtl(problem: Problem, loop: Any, weighting: UPGradWeighting) -> Tensor:
    """Take LibMTL's loop over tasks."""
    problem.clear()
    gradients = loop._get_grads(problem.losses(), mode="backward")
    return weighting(gradients @ gradients.T) @ gradients


def libmtl_loop(problem: Problem) -> Any:
    """Make LibMTL's abstract weighting over the problem's parameters; None where it is not installed."""
    try:
        base = importlib.import_module("LibMTL.weighting.abstract_weighting").AbsWeighting
    except ImportError:
        return None
    loop = base()
    loop.rep_grad, loop.task_num, loop.device = False, problem.tasks, problem.device
    loop.get_share_params = lambda: problem.parameters
    loop.zero_grad_share_params = problem.clear
    return loop


def balancer_of(problem: Problem, statistic: str) -> Balancer:
    """Make our balancer with UPGrad."""
    names = [str(task) for task in range(problem.tasks)]
    return Balancer(problem.shared, names, BALANCES.load("upgrad")(), statistic=statistic)  # type: ignore[arg-type]


def contestants(problem: Problem, twin: Problem, adapter: str) -> dict[str, Contestant]:
    """Give all ways that run here, by name; `twin` is for the one whose hooks would be in the others' way."""
    weighting, aggregator = UPGradWeighting(projector=NnlsProjector()), UPGrad(projector=NnlsProjector())
    found: dict[str, Contestant] = {"joint": functools.partial(joint, problem)}
    kinds = {"lora": ("jacobian", "sketch"), "full": ("jacobian", "gramian", "sketch")}[adapter]
    for kind in kinds:
        found[f"taskloom, {kind}"] = functools.partial(ours, problem, balancer_of(problem, kind))
    found[EXACT] = functools.partial(separate, problem, weighting)
    found["torchjd.autojac"] = functools.partial(by_autojac, problem, aggregator)
    engine = autogram.Engine(twin.model, batch_dim=None)
    found["torchjd.autogram"] = functools.partial(by_autogram, twin, engine, weighting)
    loop = libmtl_loop(problem)
    if loop is not None:
        found["LibMTL's loop"] = functools.partial(by_libmtl, problem, loop, weighting)
    return found


def measure_minilm(repeats: int, device: torch.device) -> dict[str, Any]:
    """Time full fine-tuning of MiniLM whose Gramian is summed layer by layer, and sketched."""
    problem = MiniLM(device)
    runs: dict[str, Contestant] = {"joint": functools.partial(joint, problem)}
    for kind in ("gramian", "sketch"):
        runs[f"taskloom, {kind}"] = functools.partial(ours, problem, balancer_of(problem, kind))
    memory = {name: peak_bytes(run) for name, run in runs.items()}
    exact = separate(problem, UPGradWeighting(projector=NnlsProjector()))
    agreement = {name: float((run() - exact).norm() / exact.norm()) for name, run in runs.items()}
    seconds = interleaved(runs, repeats)
    return _figures(problem, "full, MiniLM", seconds, {}, memory, agreement, {})


def reason(error: Exception) -> str:
    """Say in a line why a contestant does not run."""
    if isinstance(error, torch.OutOfMemoryError):
        return f"out of the {torch.cuda.mem_get_info()[1] / 2**30:.0f} GiB of memory"
    return f"{type(error).__name__}: {str(error).splitlines()[0]}"[:160]


def free() -> None:
    """Give back what a contestant that failed has left of memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Race:
    """The contestants of one problem: what is found of each, in turn.

    Args:
        problem: the model and its rows.
        twin: the same once more; see `contestants`.
        adapter: "lora" or "full".
    """

    def __init__(self, problem: Problem, twin: Problem, adapter: str) -> None:
        self.problems = (problem, twin)
        self.runs = contestants(problem, twin, adapter)
        self.memory: dict[str, int] = {}
        self.agreement: dict[str, float | None] = {}
        self.failed: dict[str, str] = {}
        self.first: dict[str, list[float]] = {}
        self.exact: Tensor | None = None

    def leave_out(self) -> None:
        """Leave out the ways that keep every gradient where that is too large a matrix for CUDA's libraries."""
        problem = self.problems[0]
        gib = problem.tasks * problem.size * 4 / 2**30
        if problem.half and gib > WIDE:
            for name in ("taskloom, jacobian", EXACT, "torchjd.autojac", "LibMTL's loop"):
                if self.runs.pop(name, None):
                    self.failed[name] = f"left out: its Jacobian takes {gib:.0f} GiB"

    def enter(self, name: str) -> None:
        """Have a contestant take its first step, and hold it against the separate passes, which come first."""
        for each in self.problems:
            each.clear()
        free()
        try:
            # The first call is among those measured: engines allocate then, and ours learns what it may let go of.
            given: list[Tensor] = []
            started = time.perf_counter()
            self.memory[name] = peak_bytes(lambda: given.append(self.runs[name]()))
            self.first[name] = [time.perf_counter() - started]
            # The weights of a step that takes them from the last one are there from the second step on.
            found = self.runs[name]() if name.startswith("taskloom") else given[0]
            if name == EXACT:
                self.exact = found
            self.agreement[name] = (
                None if self.exact is None else float((found - self.exact).norm() / self.exact.norm())
            )
        except (RuntimeError, ValueError, NotImplementedError) as error:
            self.failed[name] = reason(error)
            del self.runs[name]

    def seconds(self, names: Sequence[str], repeats: int) -> dict[str, list[float]]:
        """Time those of some contestants that run, by turns."""
        return interleaved({name: self.runs[name] for name in names if name in self.runs}, repeats)


def measure(tasks: int, adapter: str, sizes: dict[str, int], repeats: int, **options: Any) -> dict[str, Any]:
    """Run all contestants of one problem; gives their time ratios, memory and agreement."""
    problem, twin = Problem(tasks, adapter, sizes, **options), Problem(tasks, adapter, sizes, **options)
    race = Race(problem, twin, adapter)
    fast = [name for name in race.runs if name.startswith(("joint", "taskloom"))]
    # Those that pay for each task come first, before we hold any memory.
    slow = sorted((name for name in race.runs if name not in fast), key=lambda name: name != EXACT)
    race.leave_out()
    for name in [name for name in slow if name in race.runs]:
        race.enter(name)
    slow_seconds = {} if tasks > LONG else race.seconds(["joint", *slow], max(1, repeats // 3))
    for name in [name for name in fast if name in race.runs]:
        race.enter(name)
    seconds = race.seconds(fast, repeats)
    if tasks > LONG:  # their first call is long enough
        slow_seconds = {name: race.first[name] for name in slow if name in race.runs}
        slow_seconds["joint"] = [statistics.median(seconds["joint"])]
    return _figures(problem, adapter, seconds, slow_seconds, race.memory, race.agreement, race.failed)


def _figures(
    problem: Problem,
    adapter: str,
    seconds: dict[str, list[float]],
    slow_seconds: dict[str, list[float]],
    memory: dict[str, int],
    agreement: Mapping[str, float | None],
    failed: dict[str, str],
) -> dict[str, Any]:
    """Put one problem's figures together."""
    rows = [
        {
            "name": name,
            "ratio": round(ratio(seconds if name in seconds else slow_seconds, name, "joint"), 3),
            "peak_mib": round(memory[name] / 2**20),
            "difference": agreement[name],
        }
        for name in dict.fromkeys([*seconds, *slow_seconds])
    ]
    return {
        "tasks": problem.tasks,
        "adapter": adapter,
        "parameters": problem.size,
        "rows": problem.rows,
        "tokens": problem.tokens,
        "joint_seconds": round(statistics.median(seconds["joint"]), 4),
        "contestants": rows,
        "failed": failed,
    }


def show(found: dict[str, Any]) -> None:
    """Print one problem's figures."""
    head = f"T = {found['tasks']}, {found['adapter']}, {found['parameters']:,} shared parameters"
    print(f"\n{head}; joint step {found['joint_seconds']:.3f} s")
    print(f"{'':22}{'time / joint':>14}{'peak MiB':>11}{'difference':>13}")
    for row in found["contestants"]:
        difference = "" if row["name"] == "joint" or row["difference"] is None else f"{row['difference']:.1e}"
        print(f"{row['name']:22}{row['ratio']:14.3f}{row['peak_mib']:11d}{difference:>13}")
    for name, reason in found["failed"].items():
        print(f"{name:22}does not run: {reason}")


def verdict(found: dict[str, Any]) -> None:
    """Print the figures that the quick run is there for."""
    rows = {row["name"]: row for row in found["contestants"]}
    mine = rows["taskloom, jacobian"]
    allowed = rows["joint"]["peak_mib"] + (1.3 * found["tasks"] * found["parameters"] * 4) / 2**20 + 64
    print(f"\ntaskloom, jacobian: {mine['ratio']:.3f} x joint (at most 1.15)")
    if "torchjd.autojac" in rows:
        print(f"torchjd.autojac / taskloom: {rows['torchjd.autojac']['ratio'] / mine['ratio']:.1f} (at least 5)")
    print(f"peak memory: {mine['peak_mib']} MiB (at most {allowed:.0f})")


def problem_of(adapter: str, tasks: int, device: torch.device) -> dict[str, Any]:
    """Measure one problem of the full table."""
    if adapter == "minilm":
        return measure_minilm(9, device)
    repeats = 9 if tasks <= 8 else 5
    if device.type == "cuda":
        return measure(tasks, adapter, BILLION, repeats, rows=4, tokens=256, device=device)
    return measure(tasks, adapter, SMALL, repeats, rows=2, tokens=64, device=device)


def apart(adapter: str, tasks: int) -> dict[str, Any]:
    """Measure one problem in a process of its own, so that what one leaves of memory is not another's; show it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        subprocess.run([sys.executable, __file__, "--problem", adapter, str(tasks), str(path)], check=True)  # noqa: S603
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    show(found)
    return found


def main() -> None:
    """Measure, print, and write the figures of the full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="T = 16 with LoRA alone")
    parser.add_argument("--minilm", action="store_true", help="full fine-tuning of MiniLM alone")
    parser.add_argument("--problem", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not arguments.problem:
        print(machine())
    if arguments.quick:
        found = measure(16, "lora", QUICK, 5, rows=2, tokens=48, device=device)
        show(found)
        verdict(found)
        return
    if arguments.minilm:
        show(measure_minilm(9, device))
        return
    if arguments.problem:
        adapter, tasks, path = arguments.problem
        Path(path).write_text(json.dumps(problem_of(adapter, int(tasks), device)), encoding="utf-8")
        return
    on_gpu = device.type == "cuda"
    counts, name = ((8, 16), "gradients-gpu") if on_gpu else ((2, 4, 8, 16, 32), "gradients")
    results: list[dict[str, Any]] = []
    problems = [(adapter, tasks) for adapter in ("lora", "full") for tasks in counts]
    for adapter, tasks in problems if on_gpu else [("minilm", 6), *problems]:
        results.append(apart(adapter, tasks))
        path = write(name, "python benchmarks/gradients.py", {"problems": results})  # what is there is kept
    print(f"\nwrote {path}")


if __name__ == "__main__":
    main()
