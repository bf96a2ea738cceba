"""The model: a transformers backbone, an adapter or a sharing scheme where asked for, and a head for each task."""

from taskloom.model.backbone import check_backbone, load_backbone, load_tokenizer, locate
from taskloom.model.folder import build_model, load_model, load_weights, save_model
from taskloom.model.multitask import MultiTaskModel
from taskloom.model.packed_rows import check_packing

__all__ = [
    "MultiTaskModel",
    "build_model",
    "check_backbone",
    "check_packing",
    "load_backbone",
    "load_model",
    "load_tokenizer",
    "load_weights",
    "locate",
    "save_model",
]
