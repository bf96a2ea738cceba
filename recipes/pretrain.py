"""Make a small pretrained backbone out of the data sets' own training texts, where none can be downloaded.

    python recipes/pretrain.py --family t5 --data FOLDER --out runs/pretrained-t5
    python recipes/pretrain.py --family llama --data FOLDER --out runs/pretrained-llama

FOLDER holds the data sets of the recipes; those of `TEXTS` that it lacks are left out. A tokenizer is learned from
their training texts, a model of a few million parameters is drawn at random in transformers' own class, and Taskloom
trains all of it: `span_corruption` for T5, `causal_language_modelling` for Llama, a task for each data set. OUT/model
is then a backbone for `model.name_or_path`, and OUT/run the run that made it. It has read half a million tokens or
so, where real ones read a million times as many: what it scores says how a recipe works, and not what such models do.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

import taskloom
from taskloom.record import write_text

FamilyName = Literal["t5", "llama"]
Texts = dict[str, dict[str, list[str]]]

TEXTS: dict[str, tuple[str, ...]] = {
    "scitldr": ("source", "target"),
    "squad_v1": ("context", "question"),
    "sst2": ("text",),
    "snips": ("text",),
    "xquad_en_de": ("source", "target"),
    "sgd": ("messages",),
}
"""Data set -> the columns whose texts are learned from."""

TOKENS, SENTINELS, WIDTH, LAYERS, HEADS = 6000, 100, 256, 4, 4
STEPS, TABLE_SCALE = 300, 0.05
LIMIT_JUDGED = 60
"""Texts of each data set that a validation or test split keeps: enough for a curve."""

MINUTES = "minutes.json"

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

NAMED = {
    "t5": {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
    "llama": {"pad_token": "<|pad|>", "eos_token": "<|im_end|>"},
}
"""Family -> its tokenizer's special tokens by what they are for."""

TASKS = {"t5": "span_corruption", "llama": "causal_language_modelling"}
RATES = {"t5": 2e-3, "llama": 1e-3}


def texts_of(folder: Path) -> Texts:
    """Read the texts of every data set that is there: data set -> split -> texts, each once.

    A conversation is one text in the form of ChatML.
    """
    found: Texts = {}
    for name, columns in TEXTS.items():
        splits = {}
        for split in ("train", "validation", "test"):
            path = folder / name / f"{split}.jsonl"
            if path.is_file():
                lines = path.read_text(encoding="utf-8").splitlines()
                texts = dict.fromkeys(text for line in lines for text in read(json.loads(line), columns))
                splits[split] = list(texts) if split == "train" else list(texts)[:LIMIT_JUDGED]
        if splits.get("train"):
            found[name] = splits
    return found


def read(row: Mapping[str, Any], columns: tuple[str, ...]) -> Iterator[str]:
    """Give the texts of a row that are not empty."""
    for column in columns:
        value = row[column]
        if isinstance(value, list):
            turns = [f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in value]
            yield "".join(turns)
        elif value.strip():
            yield value.strip()


def t5_tokenizer(texts: Texts) -> PreTrainedTokenizerFast:
    """Learn pieces as T5's tokenizer has them: a unigram model, `</s>` behind every text, and sentinels."""
    special, unknown = list(NAMED["t5"].values()), {"unk_token": NAMED["t5"]["unk_token"]}
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=TOKENS, special_tokens=special, show_progress=False, **unknown)
    tokenizer.train_from_iterator(_training(texts), trainer)
    sentinels = [f"<extra_id_{number}>" for number in range(SENTINELS)]
    tokenizer.add_special_tokens(sentinels)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        **NAMED["t5"],
        additional_special_tokens=sentinels,
    )


def llama_tokenizer(texts: Texts) -> PreTrainedTokenizerFast:
    """Learn pieces as newer decoders have them: pairs of bytes, and the turns of ChatML."""
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENS, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_training(texts), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=1024,
        **NAMED["llama"],
        additional_special_tokens=special[1:2],
    )
    fast.chat_template = CHATML
    return fast


def backbone(family: FamilyName, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Draw a small model at random."""
    torch.manual_seed(0)
    if family == "t5":
        config = T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=WIDTH // HEADS,
            d_ff=2 * WIDTH,
            num_heads=HEADS,
            num_layers=LAYERS,
            num_decoder_layers=LAYERS,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            decoder_start_token_id=tokenizer.pad_token_id,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        model = T5ForConditionalGeneration(config)
        with torch.no_grad():  # T5's tables are drawn for Adafactor, whose steps grow with them; Adam's do not
            for table in (model.shared.weight, model.lm_head.weight):
                table.mul_(TABLE_SCALE)
        return model
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=LAYERS + 2,
            num_attention_heads=HEADS,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def pretrain(
    family: FamilyName, data: Path, out: Path, *, steps: int | None = None, console: Console | None = None
) -> Path:
    """Make OUT/model in `STEPS` steps or as many as are given, unless it is there; gives its folder."""
    finished = out / "model"
    if finished.is_dir():
        return finished
    started, texts = clock(), texts_of(data)
    if not texts:
        raise SystemExit(f"`--data` should hold one of {', '.join(TEXTS)} at least. Found none in {data}.")
    tokenizer = t5_tokenizer(texts) if family == "t5" else llama_tokenizer(texts)
    start = out / "start"
    backbone(family, tokenizer).save_pretrained(start)
    tokenizer.save_pretrained(start)
    config = {
        "model": {"name_or_path": str(start)},
        "tasks": {name: {"type": TASKS[family], "data": "memory", "max_length": 256} for name in texts},
        "training": {
            "max_steps": steps or STEPS,
            "per_device_train_batch_size": 32,
            "learning_rate": RATES[family],
            "eval_steps": 0.5,
            "load_best_model_at_end": False,
        },
        "evaluation": {"resamples": 100},
    }
    rows = {
        name: {split: [{"text": text} for text in held] for split, held in splits.items()}
        for name, splits in texts.items()
    }
    run = taskloom.train(config, out / "run", rows=rows, console=console)
    note_minutes(out, started)
    shutil.copytree(run.record.model / "backbone", out / "unfinished", dirs_exist_ok=True)
    (out / "unfinished").rename(finished)
    return finished


def clock() -> tuple[float, float]:
    """Give the time on the wall and that of this process's own work, which other work beside it does not lengthen."""
    return time.perf_counter(), time.process_time()


def note_minutes(folder: Path, started: tuple[float, float]) -> None:
    """Write how long something took since `started`."""
    spent = [round((now - then) / 60, 1) for now, then in zip(clock(), started, strict=True)]
    write_text(folder / MINUTES, json.dumps(dict(zip(("minutes", "processor_minutes"), spent, strict=True))))


def minutes(folder: Path) -> dict[str, float | None]:
    """Read what `note_minutes` wrote."""
    read_back: dict[str, float | None] = json.loads((folder / MINUTES).read_text(encoding="utf-8"))
    return read_back


def _training(texts: Texts) -> Iterator[str]:
    """Give all training texts; the turns' marks of conversations stand for no text of their own."""
    for splits in texts.values():
        for text in splits["train"]:
            for mark in ("<|im_start|>", "<|im_end|>"):
                text = text.replace(mark, "")  # noqa: PLW2901
            yield text


def main() -> None:
    """Make a backbone, and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=sorted(TASKS), required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    made = pretrain(arguments.family, arguments.data, arguments.out, steps=arguments.steps, console=Console())
    print(f"`model.name_or_path: {made}`")


if __name__ == "__main__":
    main()
