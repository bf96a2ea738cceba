"""Schemes in half precision: parts stay in single precision, and outputs keep the backbone's."""

from __future__ import annotations

import pytest
import torch
from sharing_tools import MODELS, SCHEMES, TASK_OF_ROW, TASKS, gradients, inputs_of, installed, row_losses, scheme_of

LOW_RANK = [name for name in SCHEMES if name != "task_layers"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("name", LOW_RANK)
@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_a_backbone_in_half_precision_has_parts_in_single_precision(kind: str, name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = MODELS[kind]().to(dtype)
    routing = scheme_of(name).install(model, TASKS)
    assert {model.get_parameter(each).dtype for each in routing.owner} == {torch.float32}
    routing.rows(TASK_OF_ROW)
    logits = model(**inputs_of(model, len(TASK_OF_ROW))).logits
    assert logits.dtype == dtype
    row_losses(logits).sum().backward()
    found = gradients(model, routing)
    assert all(value.isfinite().all() for value in found.values())
    assert any(value.any() for value in found.values())


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_autocast_gives_nearly_what_single_precision_gives(kind: str, name: str) -> None:
    # All experts count here: in half precision another few may be the greatest, and then all differs.
    options = {"top_k": None} if name.startswith("experts") else {}
    model, routing = installed(kind, name, **options)
    inputs = inputs_of(model, len(TASK_OF_ROW))
    routing.rows(TASK_OF_ROW)
    wanted = model(**inputs).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(**inputs).logits
        row_losses(found).sum().backward()
    assert (found.float() - wanted).norm() < 0.1 * wanted.norm()
    assert all(value.isfinite().all() for value in gradients(model, routing).values())
