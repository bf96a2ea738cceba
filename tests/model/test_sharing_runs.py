"""Runs under every sharing scheme: trained with and without balancing, saved, read back, and loaded by plain peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from taskloom.errors import ConfigError
from taskloom.model import load_model
from taskloom.model.sharing import SHARINGS
from taskloom.run import train

OPTIONS: dict[str, dict[str, Any]] = {
    "groups": {"groups": {"one": ["intent", "slots"], "two": ["answer"]}},
    "experts": {"experts": 3},
    "task_layers": {"top": 1},
    "prefix": {"length": 4},
}
NOT_PLAIN = {"task_layers", "bottleneck", "prefix"}
NOTHING_SHARED = {"task_layers", "bottleneck", "per_task", "prefix"}


def values_of(scheme: str, run_values: dict[str, Any], **more: Any) -> dict[str, Any]:
    kept = ("intent", "slots", "answer")
    run_values["tasks"] = {name: run_values["tasks"][name] for name in kept}
    run_values["model"].pop("adapter", None)
    run_values["model"]["sharing"] = {"scheme": scheme, **OPTIONS.get(scheme, {}), **more}
    return run_values


@pytest.mark.parametrize("method", ["equal", "upgrad"])
@pytest.mark.parametrize("scheme", SHARINGS.names())
def test_a_run_under_a_scheme_is_trained_saved_and_read_back(
    scheme: str, method: str, run_values: dict[str, Any], tmp_path: Path
) -> None:
    values = values_of(scheme, run_values)
    values["balance"] = {"method": method, **({"record_steps": 1} if method == "upgrad" else {})}
    if method == "upgrad" and scheme in NOTHING_SHARED:
        with pytest.raises(ConfigError) as raised:
            train(values, tmp_path / "run")
        assert f"Found `upgrad` with `model.sharing.scheme: {scheme}`. Write `equal`." in str(raised.value)
        return
    run = train(values, tmp_path / "run")
    model, _, _ = run.loaded()
    assert model.routing is not None
    parts = model.routing.counts()
    assert set(parts) == {"shared", "intent", "slots", "answer"}
    assert sum(parts.values()) > 0
    again, _, _ = load_model(run.record.model)
    for (name, one), (_, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    assert {score.task for score in run.scores} == {"intent", "slots", "answer", "composite"}


@pytest.mark.parametrize("scheme", [name for name in SHARINGS.names() if name not in NOT_PLAIN])
def test_each_task_s_adapter_loads_in_plain_peft(scheme: str, run_values: dict[str, Any], tmp_path: Path) -> None:
    from peft import PeftModel

    values = values_of(scheme, run_values)
    run = train(values, tmp_path / "run")
    model, _, tokenizer = run.loaded()
    inputs = tokenizer(["where is my parcel", "it is late"], return_tensors="pt", padding=True)
    for task in ("intent", "slots", "answer"):
        base = AutoModel.from_pretrained(values["model"]["name_or_path"], add_pooling_layer=False)
        plain = PeftModel.from_pretrained(base, run.record.model / "adapters" / task).eval()
        model.route(task, 2)
        with torch.inference_mode():
            wanted, found = model.backbone(**inputs)[0], plain(**inputs)[0]
            merged = plain.merge_and_unload()(**inputs)[0]
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(merged, wanted, rtol=1e-5, atol=1e-5)


def test_rows_may_be_packed_under_a_scheme(run_values: dict[str, Any], tmp_path: Path) -> None:
    values = values_of("shared_and_task", run_values)
    values["batching"] = {"packing": True}
    values["balance"] = "upgrad"
    packed = train(values, tmp_path / "packed")
    assert {score.task for score in packed.scores} == {"intent", "slots", "answer", "composite"}
