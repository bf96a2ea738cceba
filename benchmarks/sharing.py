"""What a mixed step costs under a sharing scheme: 8 tasks in one batch, over one shared LoRA of peft of the same rank.

    python benchmarks/sharing.py            # two minutes on two cores; writes benchmarks/results/sharing.json

All train the bundled encoder on the same 32 rows of 48 tokens, forward and backward, by turns in one process; a ratio
is the median over rounds. Rows of the 8 tasks lie in turns, so that no task's rows stand together.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import peft
import torch
import transformers
from measuring import interleaved, machine, ratio, write
from transformers import AutoModel

from taskloom.model.bundled import bundled_folder
from taskloom.model.sharing import SHARINGS

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()

TASKS = [f"task{number}" for number in range(8)]
ROWS, TOKENS, RANK, ROUNDS = 32, 48, 16, 9
LOW = {"r": RANK, "lora_alpha": 2.0 * RANK}
PEFT = "one LoRA for all (peft)"
SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
    "per_task": ("per_task", LOW),
    "shared_and_task, a quarter of the rank each": ("shared_and_task", {**LOW, "task_r": RANK // 4}),
    "groups, two": ("groups", {**LOW, "groups": {"one": TASKS[:4], "two": TASKS[4:]}}),
    "mtl_lora": ("mtl_lora", LOW),
    "experts, 4 of a quarter of the rank": ("experts", {"r": RANK // 4, "lora_alpha": RANK / 2}),
    "experts, gated by token": ("experts", {"r": RANK // 4, "lora_alpha": RANK / 2, "gate": "token"}),
}


def encoder() -> Any:
    """Load the encoder to be trained."""
    torch.manual_seed(0)
    return AutoModel.from_pretrained(bundled_folder(), add_pooling_layer=False).train()


def step_of(model: Any, ids: torch.Tensor, routing: Any = None) -> Callable[[], None]:
    """Make a step: forward and backward pass of a mixed batch."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    task_of_row = [row % len(TASKS) for row in range(ROWS)]

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        if routing is not None:
            routing.rows(task_of_row)
        model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.square().mean().backward()

    return step


def main() -> None:
    """Measure, print, and write the figures."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    ids = torch.randint(1000, 20000, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    lora = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
    model = peft.get_peft_model(encoder(), lora)
    steps = {PEFT: step_of(model, ids)}
    trained = {PEFT: sum(each.numel() for each in model.parameters() if each.requires_grad)}
    for name, (scheme, options) in SCHEMES.items():
        model = encoder()
        routing = SHARINGS.load(scheme)(**options).install(model, TASKS)
        steps[name], trained[name] = step_of(model, ids, routing), sum(routing.counts().values())
    for step in steps.values():
        step()
    seconds = interleaved(steps, ROUNDS)
    rows = [{"name": name, "ratio": round(ratio(seconds, name, PEFT), 3), "trained": trained[name]} for name in steps]
    print(machine())
    print(f"\none LoRA for all: {statistics.median(seconds[PEFT]):.3f} s a step")
    print(f"{'':46}{'time / one LoRA':>16}{'trained':>12}")
    for row in rows:
        print(f"{row['name']:46}{row['ratio']:16.2f}{row['trained']:12,}")
    path = write("sharing", "python benchmarks/sharing.py", {"tasks": len(TASKS), "rank": RANK, "schemes": rows})
    print(f"\nwrote {path}")


if __name__ == "__main__":
    main()
