"""Labels that a run gives to texts itself, with a real model: what it says, when it holds, and how it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, AutoTokenizer, TrainerControl, TrainerState
from unlabelled_tools import LABELS, labelled_task

from taskloom.batches.chunks import Padding, collate
from taskloom.config import load_config
from taskloom.data.cache import Items
from taskloom.errors import ConfigError
from taskloom.model import MultiTaskModel
from taskloom.tasks import Task
from taskloom.tasks.pseudo_labels import PLACE, PseudoLabels
from taskloom.teaching.labelling import LABELS_FILE, Labelling, check_labelling
from taskloom.types import IGNORED

TEXTS = [
    f"{verb} the {thing}" for verb in ("play", "watch", "stop", "show") for thing in ("song", "movie", "big scene")
]


class Case:
    """A tiny encoder whose head two tasks use, and texts of one of them in two splits."""

    def __init__(self, encoder: Path, threshold: float) -> None:
        tokenizer = AutoTokenizer.from_pretrained(encoder)
        intent, self.more = labelled_task(), PseudoLabels(of="intent", threshold=threshold)
        self.more.share(intent)
        self.tasks: dict[str, Task] = {"intent": intent, "more": self.more}
        torch.manual_seed(0)
        self.model = MultiTaskModel(AutoModel.from_pretrained(encoder), self.tasks)
        self.model.heads["more"] = self.model.heads["intent"]
        held = [
            own[0] | {"row": row} for row, own in enumerate(self.more.encode([{"text": t} for t in TEXTS], tokenizer))
        ]
        self.items = {
            "more": {"train": Items(Dataset.from_list(held)), "validation": Items(Dataset.from_list(held[:2]))}
        }
        self.told: list[str] = []
        self.labelling = self.begin()

    def begin(self) -> Labelling:
        return Labelling(self.model, self.tasks, self.items, Padding(0), 512, self.told.append)

    def answers(self) -> torch.Tensor:
        """Give the head's probabilities of each text, read alone."""
        self.model.eval()
        found = []
        for index in range(len(TEXTS)):
            item = self.items["more"]["train"][index]
            inputs = {key: torch.tensor(item[key]) for key in ("input_ids", "token_type_ids")}
            mask = torch.ones_like(inputs["input_ids"])
            with torch.no_grad():
                states = self.model.backbone(**inputs, attention_mask=mask).last_hidden_state
                found.append(self.model.heads["intent"](states, mask)[0].softmax(dim=0))
        return torch.stack(found)


@pytest.fixture
def case(tiny_encoder: Path) -> Case:
    return Case(tiny_encoder, threshold=0.5001)


def test_every_text_gets_the_label_that_the_shared_head_finds_likeliest(case: Case) -> None:
    assert case.more.given is None
    before = torch.get_rng_state()
    counts = case.labelling.label(7)
    assert torch.equal(torch.get_rng_state(), before)
    answers = case.answers()
    wanted = answers.argmax(dim=1).where(answers.amax(dim=1) >= 0.5001, IGNORED)
    assert case.more.given is not None
    assert case.more.given.tolist() == wanted.tolist()
    assert counts == {"more": {label: wanted.tolist().count(place) for place, label in enumerate(LABELS)}}
    labelled = sum(label != IGNORED for label in wanted.tolist())
    assert case.told == [f"step 7: {labelled} of {len(TEXTS)} texts of more have a label"]


def test_a_sure_model_of_the_other_label_turns_the_labels_round(case: Case) -> None:
    bias = case.model.heads["intent"].linear.bias
    for place in (0, 1):
        with torch.no_grad():
            bias.copy_(torch.tensor([9.0, -9.0] if place == 0 else [-9.0, 9.0]))
        case.labelling.label(1)
        assert case.more.given is not None
        assert case.more.given.tolist() == [place] * len(TEXTS)


def test_items_that_a_loader_fetched_before_are_learned_by_the_new_labels(case: Case) -> None:
    items = case.items["more"]["train"]
    chunk = collate([("more", items[index]) for index in (3, 5)], case.tasks, Padding(0))
    assert chunk.parts["more"].targets[PLACE].tolist() == [3, 5]
    output = case.model(chunk)["more"]
    assert not case.more.loss(output, chunk.parts["more"].targets).any()
    labels = np.full(len(TEXTS), IGNORED)
    labels[5] = 1
    case.more.take(labels)
    loss = case.more.loss(output, chunk.parts["more"].targets)
    assert loss.tolist() == pytest.approx([0.0, float(-output[1].log_softmax(dim=0)[1].detach())])


def test_an_evaluation_of_the_trainer_labels_all_texts_anew(case: Case) -> None:
    control = TrainerControl()
    case.labelling.on_evaluate(None, TrainerState(global_step=30), control)  # type: ignore[arg-type]
    assert case.told[0].startswith("step 30: ")
    assert case.more.given is not None


def test_a_run_that_never_evaluates_is_refused(case: Case) -> None:
    config = load_config(
        {
            "model": {"name_or_path": "x"},
            "tasks": {
                "intent": {"type": "classification", "data": "x"},
                "more": {"type": "pseudo_labels", "data": "y"},
            },
        }
    )
    check_labelling(config, case.tasks, True)
    with pytest.raises(ConfigError) as caught:
        check_labelling(config, case.tasks, False)
    assert str(caught.value) == (
        "config: `tasks.more.type` should stand in a run that evaluates while it trains, since texts are labelled "
        "then. Found no evaluation. Set `training.eval_steps`, and give every task validation rows."
    )


def test_texts_of_validation_have_no_number_in_training(case: Case) -> None:
    assert PLACE not in case.items["more"]["validation"][0]


def test_labels_are_taken_up_where_a_checkpoint_left_them(case: Case, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    case.labelling.save(tmp_path / "first")  # before the first labelling
    case.labelling.label(1)
    assert case.more.given is not None
    held = case.more.given.tolist()
    case.labelling.save(tmp_path / "second")
    again = case.begin()
    assert case.more.given is None
    again.load(tmp_path / "second")
    assert case.more.given is not None
    assert case.more.given.tolist() == held
    again.load(tmp_path / "first")
    assert case.more.given is None


def test_a_run_without_such_tasks_writes_and_reads_nothing(case: Case, tmp_path: Path) -> None:
    tasks: dict[str, Any] = {"intent": case.tasks["intent"]}
    labelling = Labelling(case.model, tasks, {}, Padding(0), 512)
    assert labelling.label(1) == {}
    labelling.save(tmp_path)
    assert not (tmp_path / LABELS_FILE).exists()
    labelling.load(tmp_path)
