"""The backbone and its tokenizer: found, refused where they cannot serve, loaded without running foreign code."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from taskloom.errors import Fault, MissingExtraError, ModelError, listed, nearest, said
from taskloom.model.bundled import BUNDLED_NAME, bundled_folder
from taskloom.model.families import PEFT_TASKS, class_for, family_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from taskloom.config.schema import ModelSection

LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError)
"""What transformers raises for names, files and settings it cannot use."""


def locate(name: str) -> str:
    """Say where a backbone is: an existing folder, the bundled package for its name, else the hub's name.

    The bundled encoder is also found under the last part of its name.
    """
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser().resolve())
    if name in {BUNDLED_NAME, BUNDLED_NAME.rpartition("/")[2]}:
        folder = bundled_folder()
        if folder is not None:
            return str(folder)
    return name


def load_tokenizer(section: ModelSection) -> PreTrainedTokenizerFast:
    """Load the tokenizer.

    Raises:
        ModelError: it is missing, or is a slow one, which cannot tell where a token came from.
    """
    with _explained(section):
        tokenizer = AutoTokenizer.from_pretrained(locate(section.name_or_path), **_common(section))
    if not tokenizer.is_fast:
        requirement = "have a fast tokenizer (tokenizer.json), which says where each token came from"
        found = f"`{section.name_or_path}` with a `{type(tokenizer).__name__}`"
        raise ModelError(Fault("model.name_or_path", requirement, found))
    fast: PreTrainedTokenizerFast = tokenizer
    return fast


def check_backbone(section: ModelSection) -> Any:
    """Read the backbone's configuration, and none of its weights.

    Raises:
        ModelError: it cannot be found.
    """
    with _explained(section):
        return AutoConfig.from_pretrained(locate(section.name_or_path), **_common(section))


def load_backbone(section: ModelSection, *, words: bool = False) -> nn.Module:
    """Load the backbone, in evaluation mode, without a pooling layer that no head reads.

    Args:
        section: of the run file.
        words: whether a task reads words, so that its language head is needed.

    Raises:
        ModelError: it cannot be found, has no weights in safetensors, or an adapter would leave a language head as it
            was drawn at random.
    """
    place, common, config = locate(section.name_or_path), _common(section), check_backbone(section)
    arguments: dict[str, Any] = {"dtype": getattr(torch, section.dtype), "use_safetensors": True}
    if section.attn_implementation:
        arguments["attn_implementation"] = section.attn_implementation
    if section.quantization:
        arguments["quantization_config"] = quantised(section.quantization)
    loader = class_for(config, words=words)
    model_class = loader._model_mapping.get(type(config), None)
    if model_class and "add_pooling_layer" in inspect.signature(model_class.__init__).parameters:
        arguments["add_pooling_layer"] = False
    with _explained(section), hushed():
        backbone, told = loader.from_pretrained(place, **common, **arguments, output_loading_info=True)
    if words and section.adapter:
        _refuse_random_head(section, sorted(told["missing_keys"]))
    loaded: nn.Module = backbone
    return loaded


def quantised(kind: str) -> Any:
    """Give transformers' settings of a backbone in 4 bits (NF4, doubly quantised) or 8.

    Raises:
        MissingExtraError: bitsandbytes is not installed.

    Paper: Dettmers et al., QLoRA, 2023, arXiv:2305.14314.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "quantize", f"load a backbone in `{kind}`")
    if kind == "int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)


def _refuse_random_head(section: ModelSection, missing: list[str]) -> None:
    """Refuse a language head that the checkpoint does not hold and the adapter would leave untrained."""
    kept = section.adapter.get("modules_to_save") or []
    lost = [name for name in missing if not any(module in name.split(".") for module in kept)]
    if lost:
        modules = sorted({name.rpartition(".")[0].rpartition(".")[2] for name in lost})
        fix = f"Train all of it (`adapter: null`), or add `modules_to_save: {modules}` to the adapter"
        found = f"`{section.name_or_path}`, whose checkpoint has none of {listed(lost, 3)}"
        raise ModelError(Fault("model.name_or_path", "bring its language head along", found, fix))


def add_adapter(
    backbone: nn.Module, adapter: Mapping[str, Any], name_or_path: str, *, words: bool = False
) -> nn.Module:
    """Put a new peft adapter on the backbone; everything else of it is frozen.

    Args:
        backbone: from `load_backbone`.
        adapter: its `type` and fields of peft's config of that type.
        name_or_path: the user's name of the backbone, which the saved adapter carries.
        words: whether the backbone has its language head.

    Raises:
        ModelError: a target module matches nothing, or peft refuses the settings.
    """
    import peft

    kind = str(adapter["type"])
    fields = {key: value for key, value in adapter.items() if key != "type"}
    try:
        family = family_of(backbone.config)
        task = PEFT_TASKS[family] if words or family == "encoder_decoder" else "FEATURE_EXTRACTION"
        config = peft.get_peft_config({"peft_type": kind.upper(), "task_type": task, **fields})
        with hushed():
            if getattr(backbone, "is_quantized", False):  # norms and tables in single precision, as QLoRA has them
                backbone = peft.prepare_model_for_kbit_training(backbone, use_gradient_checkpointing=False)
            wrapped = peft.get_peft_model(backbone, config)
    except (ValueError, TypeError, KeyError, NotImplementedError, ImportError) as error:
        raise ModelError(_adapter_fault(backbone, fields, error)) from error
    wrapped.peft_config["default"].base_model_name_or_path = name_or_path
    adapted: nn.Module = wrapped
    return adapted


def _adapter_fault(backbone: nn.Module, fields: Mapping[str, Any], error: Exception) -> Fault:
    targets = fields.get("target_modules")
    wanted = [targets] if isinstance(targets, str) else list(targets or [])
    linear = (nn.Linear, transformers.pytorch_utils.Conv1D)
    names = sorted({path.rpartition(".")[2] for path, m in backbone.named_modules() if isinstance(m, linear)})
    if wanted and "arget module" in str(error):
        shown = f"`{wanted[0]}`" if len(wanted) == 1 else listed(wanted)
        fix = f"The linear layers are {listed(names)}; `all-linear` takes all of them"
        return Fault("model.adapter.target_modules", "match layers of the backbone", shown, fix)
    return Fault("model.adapter", "be what peft accepts", f"what it answers with: {said(error)}")


def _common(section: ModelSection) -> dict[str, Any]:
    common: dict[str, Any] = {"trust_remote_code": section.trust_remote_code}
    if section.revision:
        common["revision"] = section.revision
    return common


@contextlib.contextmanager
def _explained(section: ModelSection) -> Iterator[None]:
    """Turn what transformers raises into one sentence."""
    try:
        yield
    except LOADING_ERRORS as error:
        raise ModelError(_loading_fault(section, error)) from error


def _loading_fault(section: ModelSection, error: Exception) -> Fault:
    """Say why a backbone did not load: its folder is missing or lacks files, or what transformers says."""
    name, where = section.name_or_path, "model.name_or_path"
    if section.attn_implementation and "attn_implementation" in str(error):
        fix = "Write `sdpa` or `eager`, or leave it out"
        return Fault("model.attn_implementation", f"be one that `{name}` has", f"`{section.attn_implementation}`", fix)
    path = Path(name).expanduser()
    if path.is_dir():
        lacking = [
            file for file in ("config.json", "tokenizer.json", "model.safetensors") if not (path / file).exists()
        ]
        found = (
            f"`{name}` without {listed(lacking)}" if lacking else f"`{name}`, of which transformers says: {said(error)}"
        )
        return Fault(where, "be a folder with a model", found)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(path.name, siblings)
        found, fix = f"`{name}`, which does not exist", hint if hint.startswith("Did") else "Check the path"
        return Fault(where, "be a folder, or a name on the Hugging Face hub", found, fix)
    found = f"`{name}`, which is no folder here and did not load from the hub ({said(error)})"
    fix = f"Check the name and the network; `pip install 'taskloom[offline]'` brings `{BUNDLED_NAME}` without one"
    return Fault(where, "be a folder, or a name on the Hugging Face hub", found, fix)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keep transformers and peft from bars, tables and warnings of their own inner workings."""
    level = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()
