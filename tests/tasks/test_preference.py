from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from chat_families import CHATML, GEMMA, TURNS
from torch.nn import functional

from taskloom.errors import ConfigError, DataError
from taskloom.tasks.preference import Preference, log_odds
from taskloom.types import IGNORED

pytest_plugins = ("word_tokenizers",)

ROW = {"prompt": "Where is my parcel?", "chosen": " It came late.", "rejected": " hello"}
SPOKEN = {
    "prompt": TURNS[:3],
    "chosen": [{"role": "assistant", "content": "hello, fine"}],
    "rejected": [{"role": "assistant", "content": "you"}],
}
COSTS = [
    ([0.5, 1.25, 0.3], [2.0, 0.7, 1.1, 0.9], (-2.6, -4.1)),
    ([3.0, 2.5], [0.4], (-4.0, -1.5)),
    ([0.01, 0.02, 0.03, 0.04, 0.05], [0.9, 1.9], (-1.0, -2.0)),
]
"""Negative log-likelihoods of the tokens of chosen and rejected answers, and what a reference model gives both."""

FROM_TRL = [
    ({"loss": "dpo"}, [0.6372993954215309, 0.8315734864417375, 0.6140464521322404]),
    ({"loss": "dpo", "beta": 0.5}, [0.44641821006991494, 1.5410084538329922, 0.36341666212657087]),
    ({"loss": "dpo", "label_smoothing": 0.1}, [0.6487993954215309, 0.8055734864417375, 0.6305464521322405]),
    ({"loss": "simpo"}, [0.7015152357136306, 5.703340380170368, 0.1617109436895858]),
    (
        {"loss": "simpo", "beta": 2.5, "gamma": 0.3, "label_smoothing": 0.2},
        [0.5186436175882658, 4.942078644039264, 0.6679990792290879],
    ),
    ({"loss": "orpo"}, [0.7196636868019898, 3.0926606953144073, 0.03099187437444926]),
]
"""Options -> the loss of each pair of `COSTS` by the formulas of TRL 1.16.0 in float64: DPOTrainer's "sigmoid" for dpo,
CPOTrainer's "simpo", and its "sigmoid" of the gains for smoothed dpo; for orpo ORPOTrainer's odds ratio loss beside the
chosen answer's mean cost."""


def met(task: Preference, family, tokenizer) -> Preference:
    task.meet(family, tokenizer)
    return task


def plain(tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def only(task, row, tokenizer):
    ((item,),) = task.encode([row], tokenizer)
    return item


def costs_of_pairs(task: Preference) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Give `COSTS` as output and targets, each behind a prompt of two tokens whose costs are no part of the loss."""
    items, rows = [], []
    for chosen, rejected, before in COSTS:
        labels = [[IGNORED, IGNORED, *range(5, 5 + len(costs))] for costs in (chosen, rejected)]
        items.append({"input_ids": labels, "labels": labels, "reference": list(before)})
        rows += [[9.0, 9.0, *costs] for costs in (chosen, rejected)]
    width = max(map(len, rows))
    output = torch.tensor([row + [7.0] * (width - len(row)) for row in rows], dtype=torch.float64)
    return output, task.targets(items, width)


# --- losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "wanted"), FROM_TRL)
def test_the_loss_of_a_pair_is_that_of_trl(options, wanted) -> None:
    task = Preference(**options)
    assert task.loss(*costs_of_pairs(task)).tolist() == pytest.approx(wanted, abs=1e-6)


def test_the_loss_of_a_pair_is_the_papers_formula() -> None:
    output, targets = costs_of_pairs(Preference())
    found = Preference(beta=0.3).loss(output, targets)
    for (chosen, rejected, (before_chosen, before_rejected)), loss in zip(COSTS, found, strict=True):
        gain = (-sum(chosen) - before_chosen) - (-sum(rejected) - before_rejected)
        assert float(loss) == pytest.approx(float(-functional.logsigmoid(torch.tensor(0.3 * gain))), abs=1e-6)


def test_a_model_that_has_not_moved_yet_pays_the_logarithm_of_two() -> None:
    output, targets = costs_of_pairs(Preference())
    summed = -(output * (targets["labels"] != IGNORED)).sum(dim=1).view(-1, 2)
    loss = Preference().loss(output, targets | {"reference": summed})
    torch.testing.assert_close(loss, torch.full((3,), 2.0, dtype=torch.float64).log())


@pytest.mark.parametrize("form", ["dpo", "simpo", "orpo"])
def test_gradients_lower_the_chosen_answers_cost_raise_the_others_and_leave_the_prompt(form) -> None:
    task = Preference(loss=form)
    output, targets = costs_of_pairs(task)
    output.requires_grad_()
    assert torch.autograd.gradcheck(lambda costs: task.loss(costs, targets), output)
    (gradient,) = torch.autograd.grad(task.loss(output, targets).sum(), output)
    held = targets["labels"] != IGNORED
    assert (gradient[0::2][held[0::2]] > 0).all()
    assert (gradient[1::2][held[1::2]] < 0).all()
    assert not gradient[~held].any()


def test_odds_are_exact_for_answers_that_are_hopeless_and_finite_for_those_that_are_sure() -> None:
    chances = torch.tensor([1e-30, 1e-3, 0.5, 0.999], dtype=torch.float64)
    torch.testing.assert_close(log_odds(chances.log()), torch.logit(chances, eps=None), rtol=1e-9, atol=1e-12)
    sure = torch.tensor([0.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(log_odds(sure).sum(), sure)
    assert log_odds(sure).isfinite().all()
    assert gradient.isfinite().all()


def test_each_pair_is_one_term() -> None:
    task = Preference()
    _, targets = costs_of_pairs(task)
    assert task.terms(targets).tolist() == [1, 1, 1]


def test_dpo_needs_what_the_model_before_training_gave_and_the_others_do_not() -> None:
    item = {"input_ids": [[1, 2], [1, 3]], "labels": [[IGNORED, 2], [IGNORED, 3]]}
    output = torch.ones(4, 2)
    for missing in ({}, {"reference": None}):
        items = [item | {"reference": [-1.0, -1.0]}, item | missing]
        for form in ("simpo", "orpo"):
            task = Preference(loss=form)
            assert not task.needs_reference
            assert task.loss(output, task.targets(items, 2)).isfinite().all()
        assert Preference().needs_reference
        with pytest.raises(DataError) as raised:
            Preference().loss(output, Preference().targets(items, 2))
        assert str(raised.value) == (
            "`reference` should be there for each item of a task with `loss: dpo`. Found none. "
            "Measure the model before training, or choose `loss: simpo`, which compares with none."
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.0}, "`gamma` should stand beside `loss: simpo` alone. Found `loss: dpo`. Delete it."),
        (
            {"loss": "orpo", "label_smoothing": 0.1},
            "`label_smoothing` should be 0 with `loss: orpo`. Found `0.1`. Delete it.",
        ),
    ],
)
def test_an_option_that_the_loss_has_no_use_for_is_refused(options, message) -> None:
    with pytest.raises(ConfigError) as raised:
        Preference(**options)
    assert str(raised.value) == message


# --- pairs of texts -------------------------------------------------------------------------------------------------


def test_both_answers_follow_the_same_prompt_and_alone_are_labelled(bytes_of_decoder) -> None:
    item = only(met(Preference(), "decoder", bytes_of_decoder), ROW, bytes_of_decoder)
    prompt = [0, *plain(bytes_of_decoder, ROW["prompt"])]
    answers = [[*plain(bytes_of_decoder, ROW[name]), 1] for name in ("chosen", "rejected")]
    assert item == {
        "input_ids": [prompt + answer for answer in answers],
        "labels": [[IGNORED] * len(prompt) + answer for answer in answers],
        "prompt_tokens": len(prompt),
    }


def test_an_encoder_decoder_reads_the_prompt_twice_and_writes_both_answers(sentinels) -> None:
    item = only(met(Preference(), "encoder_decoder", sentinels), ROW, sentinels)
    source = [*plain(sentinels, ROW["prompt"]), 1]
    assert item["input_ids"] == [source, source]
    assert item["labels"] == [[*plain(sentinels, ROW[name]), 1] for name in ("chosen", "rejected")]


@pytest.mark.parametrize(("prompt", "chosen"), [(1, 60), (60, 1), (60, 60)])
def test_a_long_pair_keeps_the_prompts_end_and_the_answers_beginning(prompt, chosen, bytes_of_decoder) -> None:
    row = {"prompt": "late " * prompt + "now:", "chosen": " parcel" * chosen, "rejected": " you"}
    item = only(met(Preference(max_length=32), "decoder", bytes_of_decoder), row, bytes_of_decoder)
    asked = item["prompt_tokens"]
    assert max(map(len, item["input_ids"])) <= 32
    assert item["input_ids"][0][:asked] == item["input_ids"][1][:asked]
    assert bytes_of_decoder.decode(item["input_ids"][0][:asked]).endswith("now:")
    for ids, labels in zip(item["input_ids"], item["labels"], strict=True):
        assert labels == [IGNORED] * asked + ids[asked:]
    assert (item["labels"][0][-1] == 1) == (chosen == 1)
    assert item["labels"][1][-1] == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"prompt": None}, "have text in `prompt`, not nothing"),
        ({"chosen": ""}, "have text in `chosen`, which is empty"),
        ({"rejected": ["no"]}, "have text in `rejected`, not list `['no']`"),
        ({"rejected": ROW["chosen"]}, "have another text in `rejected` than in `chosen`"),
        ({}, None),
    ],
)
def test_a_pair_is_faulty_in_whole_words(change, complaint) -> None:
    assert Preference().fault(ROW | change) == complaint


# --- pairs of messages ----------------------------------------------------------------------------------------------


def test_answers_of_messages_are_learned_with_their_ends_and_earlier_turns_are_not(turns_of_decoder) -> None:
    task = met(Preference(chat_template=CHATML), "decoder", turns_of_decoder)
    item = only(task, SPOKEN, turns_of_decoder)
    before = "<|im_start|>user\nWhere is my parcel?<|im_end|>\n<|im_start|>assistant\nIt came late.<|im_end|>\n"
    before += "<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n"
    prompt = plain(turns_of_decoder, before)
    assert item["prompt_tokens"] == len(prompt)
    for ids, labels, text in zip(item["input_ids"], item["labels"], ("hello, fine", "you"), strict=True):
        answer = plain(turns_of_decoder, f"{text}<|im_end|>")
        assert ids[: len(prompt) + len(answer)] == prompt + answer
        assert labels[: len(prompt) + len(answer)] == [IGNORED] * len(prompt) + answer
        assert set(labels[len(prompt) + len(answer) :]) <= {IGNORED}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"prompt": []}, "have messages in `prompt`, which is empty"),
        ({"chosen": "hello"}, "have a list of messages in `chosen`, each with `role` and `content`"),
        ({"rejected": TURNS[:1]}, "have an assistant's turn last in `rejected`"),
        ({"rejected": SPOKEN["chosen"]}, "have another text in `rejected` than in `chosen`"),
        ({}, None),
    ],
)
def test_a_pair_of_messages_is_faulty_in_whole_words(change, complaint, turns_of_decoder) -> None:
    assert met(Preference(chat_template=CHATML), "decoder", turns_of_decoder).fault(SPOKEN | change) == complaint


def test_a_pair_that_the_template_or_the_backbone_does_not_take_is_told(turns_of_decoder, sentinels) -> None:
    row = SPOKEN | {"prompt": [{"role": "system", "content": "a"}, *TURNS[:1]]}
    assert met(Preference(chat_template=GEMMA), "decoder", turns_of_decoder).fault(row) == (
        "have messages that the chat template takes, which says: System role not supported"
    )
    assert met(Preference(), "encoder_decoder", sentinels).fault(SPOKEN) == (
        "have text in `prompt`, since an encoder-decoder reads no chat template"
    )


def test_the_template_is_remembered_where_rows_hold_messages(turns_of_decoder) -> None:
    task = met(Preference(chat_template=CHATML), "decoder", turns_of_decoder)
    task.fit([ROW])
    assert task.state() == {"template": None}
    task.fit([SPOKEN])
    again = met(Preference(), "decoder", turns_of_decoder)
    again.restore(json.loads(json.dumps(task.state())))
    assert only(again, SPOKEN, turns_of_decoder) == only(task, SPOKEN, turns_of_decoder)


# --- answers --------------------------------------------------------------------------------------------------------


def test_the_better_liked_answer_is_chosen_by_what_the_loss_compares() -> None:
    item = {"labels": [[IGNORED, 4, 5, 6], [IGNORED, 7]]}
    output = np.array([[9.0, 1.0, 1.0, 1.0], [9.0, 2.0, 8.0, 8.0]], dtype=np.float32)
    before = {"reference": [-5.0, -2.5]}
    said = {
        "sum": Preference().decode(ROW, [item], [output]),
        "gain": Preference().decode(ROW, [item | before], [output]),
        "mean": Preference(loss="simpo").decode(ROW, [item | before], [output]),
    }
    assert {kind: (answer.value, answer.detail) for kind, answer in said.items()} == {
        "sum": ("rejected", {"log_probability": {"chosen": -3.0, "rejected": -2.0}, "compared": "sum"}),
        "gain": ("chosen", {"log_probability": {"chosen": 2.0, "rejected": 0.5}, "compared": "gain"}),
        "mean": ("chosen", {"log_probability": {"chosen": -1.0, "rejected": -2.0}, "compared": "mean"}),
    }
    assert Preference().reference(ROW) == "chosen"


@pytest.mark.parametrize(
    ("longer", "wanted"), [(3, ["chosen", "rejected", "chosen"]), (1, ["rejected", "chosen", "chosen"])]
)
def test_the_baseline_chooses_by_length_as_was_better_in_training(longer, wanted) -> None:
    long, short = {"chosen": "aaa", "rejected": "b"}, {"chosen": "a", "rejected": "bbb"}
    train = [long] * longer + [short] * (4 - longer)
    assert Preference().baseline(train, [long, short, {"chosen": "a", "rejected": "b"}]) == wanted
