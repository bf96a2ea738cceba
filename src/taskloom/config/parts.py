"""`model.adapter` and `model.sharing`: what is trained of the backbone, checked against peft and the schemes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from taskloom.config.document import Document
from taskloom.config.faults import validated
from taskloom.config.schema import ADAPTERS_REFUSED, SHARING_ROOM, adapter_model, adapter_names, sharing_model
from taskloom.errors import ConfigError, Fault, listed, nearest

ADAPTER_NAMES = {"rank": "r", "lora_r": "r", "lora_rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
"""What other tools call peft's fields -> peft's name."""


def checked_adapter(values: Any, document: Document, faults: list[Fault]) -> dict[str, Any] | None:
    """Check `model.adapter` against the fields of peft's config of that type; keeps only what is set."""
    if values is None:
        return None
    path = ("model", "adapter")
    name = str(values.get("type", "lora")).lower() if isinstance(values, dict) else str(values).lower()
    section = {**values, "type": name} if isinstance(values, dict) else {"type": name}
    if name not in adapter_names():
        refused = name in ADAPTERS_REFUSED
        found = f"`{name}`, which lengthens the input" if refused else f"`{name}`"
        source = document.source((*path, "type"))
        fix = "Take one that leaves the input as it is, such as `lora`" if refused else nearest(name, adapter_names())
        faults.append(
            Fault("model.adapter.type", "be an adapter of peft that leaves the input as it is", found, fix, source)
        )
        return None
    model = adapter_model(name)
    for old in [key for key in section if key in ADAPTER_NAMES and key not in model.model_fields]:
        fix = f"Write `{ADAPTER_NAMES[old]}: {section.pop(old)}`"
        source = document.source((*path, old))
        faults.append(Fault(f"model.adapter.{old}", "be named as in peft", f"`{old}`", fix, source))
    checked = validated(model, section, document, path, faults)
    return {key: value for key, value in checked.model_dump().items() if value is not None} if checked else None


def checked_sharing(
    model: Mapping[str, Any], tasks: Any, document: Document, faults: list[Fault]
) -> dict[str, Any] | None:
    """Check `model.sharing`: a scheme's name, or a mapping with its `scheme` and options.

    Args:
        model: the section as it stands in the file.
        tasks: the run's tasks, as they stand there.
        document: for places in messages.
        faults: what is wrong is added here.

    Returns:
        the scheme and all its options; None for no scheme, or a wrong one.
    """
    values, path = model.get("sharing"), ("model", "sharing")
    if values is None:
        return None
    section = dict(values) if isinstance(values, dict) else {"scheme": values}
    source = document.source((*path, "scheme") if isinstance(values, dict) else path)
    if model.get("adapter") is not None:
        fix = "Leave out `model.adapter`; a scheme has `r` and its other settings among its own options"
        faults.append(Fault("model.sharing", "stand without `model.adapter`", "both", fix, source))
        return None
    return _scheme(section, list(tasks) if isinstance(tasks, dict) else [], document, source, faults)


def quantization_faults(model: Mapping[str, Any], document: Document) -> list[Fault]:
    """Refuse a quantised backbone that nothing is trained beside: its own weights cannot be."""
    wanted = model.get("quantization")
    if wanted is None or model.get("adapter") is not None:
        return []
    source = document.source(("model", "quantization"))
    fix = "Write `adapter: lora`, or leave out `quantization`"
    return [Fault("model.quantization", "stand beside `model.adapter`", f"`{wanted}` without one", fix, source)]


def _scheme(
    section: dict[str, Any], tasks: list[str], document: Document, source: str, faults: list[Fault]
) -> dict[str, Any] | None:
    """Check a scheme's options, at last by making the scheme and letting it meet the tasks."""
    where, name = "model.sharing.scheme", section.get("scheme")
    if name is None:
        fix = f"Add `scheme:` with one of {listed(SHARING_ROOM.names())}"
        faults.append(Fault(where, "be a sharing scheme that Taskloom has", "nothing", fix, source))
        return None
    try:
        checked = validated(sharing_model(str(name)), section, document, ("model", "sharing"), faults)
    except ConfigError as error:
        inner = error.faults[0]
        faults.append(Fault(where, inner.requirement, inner.found, inner.fix, source))
        return None
    resolved = checked.model_dump() if checked else {}
    if resolved and tasks:
        try:
            scheme = SHARING_ROOM.load(str(name))(**{key: resolved[key] for key in resolved if key != "scheme"})
            scheme.check(tasks)
        except ConfigError as error:
            faults += [replace(fault, source=_place(fault.where, document)) for fault in error.faults]
            return None
    return resolved or None


def _place(where: str, document: Document) -> str:
    return document.source(tuple(where.split(".")))
