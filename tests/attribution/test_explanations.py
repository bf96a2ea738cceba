"""Attributions: they add up, equal closed forms and what is done by hand, and find a planted trigger."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from attribution_tools import CASES, Embedded, all_aims, explainer_for, items_of, row_of, rows_of
from torch import Tensor

from family_tokenizers import tokenizer_of
from taskloom.attribution.aims import aims_of
from taskloom.attribution.explaining import Explainer, answered_rows
from taskloom.attribution.sanity import ALL, HEAD, checked, randomised, rank_correlation
from taskloom.batches.chunks import collate
from taskloom.errors import DataError, MissingExtraError
from taskloom.model import MultiTaskModel
from taskloom.tasks import TASKS
from taskloom.tasks.classification import Classification
from taskloom.types import Family


def asked_by_hand(explainer: Explainer, aim: Any, ids: list[list[int]]) -> Tensor:
    """Give an aim's number for an item with other tokens, the plain way."""
    held = collate([("asked", aim.item | {"input_ids": ids})], explainer.tasks, explainer.padding)
    with torch.no_grad():
        return aim.read(explainer.model(held)["asked"].unsqueeze(0))[0]


@pytest.mark.parametrize(("kind", "family"), CASES)
def test_integrated_gradients_add_up_in_every_type_and_family(kind: str, family: Family) -> None:
    explainer = explainer_for(kind, family)
    for aim in all_aims(explainer, rows_of(kind, 2))[:3]:
        found = explainer.explain(aim, "integrated_gradients")
        total = sum(word.weight for word in found.words)
        assert abs(total - (found.value - found.baseline)) < 0.05 * abs(found.value - found.baseline)
        assert found.completeness_error == pytest.approx(abs(total / (found.value - found.baseline) - 1), abs=1e-6)
        assert all(found.text[word.start : word.end] == word.word for word in found.words)
        assert found.value == pytest.approx(float(asked_by_hand(explainer, aim, aim.item["input_ids"])), abs=1e-5)


@pytest.mark.parametrize(("kind", "family"), CASES)
def test_leave_one_out_is_what_the_model_says_without_each_token(kind: str, family: Family) -> None:
    explainer = explainer_for(kind, family)
    tokenizer = explainer.tokenizer
    # The padding of Llama's table is nought, of which its norms make nothing.
    names = {"encoder": "mask_token_id", "decoder": "unk_token_id", "encoder_decoder": "pad_token_id"}
    blank = getattr(tokenizer, names[family])
    for aim in all_aims(explainer, [row_of(kind, 1)])[:2]:
        found = explainer.explain(aim, "leave_one_out")
        ids, expected = aim.item["input_ids"], {}
        whole = asked_by_hand(explainer, aim, ids)
        for sequence, words in enumerate(aim.reading.word_of()):
            for place, word in enumerate(words[: aim.kept]):
                if word is not None:
                    other = [list(each) for each in ids]
                    other[sequence][place] = blank
                    lost = float(whole - asked_by_hand(explainer, aim, other))
                    expected[word] = expected.get(word, 0.0) + lost
        assert [word.weight for word in found.words] == pytest.approx(
            [expected[key] for key in sorted(expected)], abs=2e-5
        )


def test_each_type_explains_the_number_that_its_answer_is_made_of() -> None:
    for kind, family in CASES:
        explainer = explainer_for(kind, family)
        row = row_of(kind, 1)
        answered = next(iter(answered_rows(explainer, [row], items_of(explainer, [row]))))
        aims = aims_of(answered)
        values = [float(asked_by_hand(explainer, aim, aim.item["input_ids"])) for aim in aims]
        value = answered.prediction.value
        if kind == "classification":
            assert values == pytest.approx([answered.outputs[0][0].max()], abs=1e-5)
            assert [aim.target for aim in aims] == [value]
        elif (
            kind in {"regression", "similarity"} and 0.0 < value < 5.0
        ):  # a likeness is clipped to the range of training
            assert values == pytest.approx([value], abs=1e-4)
        elif kind == "multiple_choice":
            assert aims[0].target == row["choices"][value]
            assert values == pytest.approx([answered.outputs[0].max()], abs=1e-5)
        elif kind == "extractive_qa":
            assert aims[0].target == value
            best = [score for o, item in zip(answered.outputs, answered.items, strict=True) for score in spans(o, item)]
            assert values == pytest.approx([max(best)], abs=1e-4)
        elif kind == "token_classification":
            assert [aim.target.split("/")[1] for aim in aims] == [tag for tag in value if tag != "O"] or "O" in set(
                value
            )


def spans(output: np.ndarray, item: Any) -> list[float]:
    """Give the scores of all answers of at most 30 tokens in a window."""
    held = [place for place, begin in enumerate(item["begins"]) if begin >= 0]
    return [float(output[0, a, 0] + output[0, b, 1]) for n, a in enumerate(held) for b in held[n : n + 30]]


def test_written_tokens_are_explained_by_the_log_probability_of_each() -> None:
    explainer = explainer_for("text_to_text", "decoder")
    row = row_of("text_to_text", 2)
    aims = all_aims(explainer, [row])
    (item,) = (aims[0].item,)
    ids, start = item["input_ids"][0], item["prompt_tokens"]
    with torch.no_grad():
        logits = explainer.model.backbone(input_ids=torch.tensor([ids])).logits.log_softmax(dim=-1)[0]
    expected = [float(logits[place - 1, ids[place]]) for place in range(start, len(ids))]
    values = [float(asked_by_hand(explainer, aim, [ids])) for aim in aims]
    assert values == pytest.approx(expected, abs=1e-4)
    assert [aim.target for aim in aims] == [explainer.tokenizer.decode([each]) for each in ids[start:]]


def linear_toy() -> tuple[Explainer, Classification]:
    tokenizer = tokenizer_of("encoder")
    task = Classification(dropout=0.0)
    task.meet("encoder", tokenizer)
    task.fit(rows_of("classification"))
    torch.manual_seed(0)
    model = MultiTaskModel(Embedded(len(tokenizer), 8), {"asked": task}).eval()
    return Explainer(model, {"asked": task}, "asked", tokenizer), task


@pytest.mark.parametrize("method", ["integrated_gradients", "leave_one_out"])
def test_a_linear_model_has_the_attributions_of_its_closed_form(method: Any) -> None:
    explainer, task = linear_toy()
    for row in rows_of("classification", 4):
        (aim,) = all_aims(explainer, [row])
        found = explainer.explain(aim, method)
        ids, head = torch.tensor(aim.item["input_ids"][0]), explainer.model.head_of("asked")
        weight = head.linear.weight[task.ids[aim.target]]
        table = explainer.table.weight
        each = ((table[ids] - table[explainer.tokenizer.mask_token_id]) @ weight / len(ids)).detach()
        expected: dict[int, float] = {}
        for word, value in zip(aim.reading.word_of()[0], each.tolist(), strict=True):
            if word is not None:
                expected[word] = expected.get(word, 0.0) + value
        assert [word.weight for word in found.words] == pytest.approx(
            [expected[key] for key in sorted(expected)], abs=1e-5
        )
        assert found.completeness_error < 1e-3


def test_steps_are_doubled_until_the_weights_add_up() -> None:
    explainer = explainer_for("classification", "encoder")
    (aim,) = all_aims(explainer, [row_of("classification", 0)])
    rough = explainer.explain(aim, "integrated_gradients", steps=1)
    fine = explainer.explain(aim, "integrated_gradients")
    assert fine.completeness_error < 0.05
    assert fine.completeness_error < rough.completeness_error
    assert (rough.steps, fine.steps % 32) == (1, 0)


def test_special_tokens_and_the_written_answer_stay_and_weigh_nothing() -> None:
    explainer = explainer_for("text_to_text", "decoder")
    aim = all_aims(explainer, [row_of("text_to_text", 0)])[-1]
    given, blank, taken = explainer.embedded(aim)
    assert not taken[:, aim.kept :].any()
    assert torch.equal(given[:, aim.kept :], blank[:, aim.kept :])
    explainer = explainer_for("classification", "encoder")
    (aim,) = all_aims(explainer, [row_of("classification", 1)])
    given, blank, taken = explainer.embedded(aim)
    special = [
        number in {explainer.tokenizer.cls_token_id, explainer.tokenizer.sep_token_id}
        for number in aim.item["input_ids"][0]
    ]
    assert taken[0].tolist() == [not each for each in special]
    assert sum(special) == 3


def test_no_gradient_is_left_and_every_parameter_is_as_it_was() -> None:
    explainer = explainer_for("classification", "encoder")
    (aim,) = all_aims(explainer, [row_of("classification", 0)])
    before = {name: (each.detach().clone(), each.requires_grad) for name, each in explainer.model.named_parameters()}
    found = explainer.explain(aim, "integrated_gradients")
    checked(explainer, [aim], [found], "integrated_gradients")
    for name, each in explainer.model.named_parameters():
        assert torch.equal(each, before[name][0])
        assert each.requires_grad == before[name][1]
        assert each.grad is None


# --- a planted trigger ------------------------------------------------------------------------------------------------

FILLERS = ["take", "the", "hotel", "later", "from", "head", "play", "music", "day", "city", "grant", "queen", "monday"]
TRIGGER = "jazz"


def planted_rows(seed: int, count: int) -> list[dict[str, Any]]:
    """Make rows whose label is whether they hold the trigger."""
    generator, rows = np.random.default_rng(seed), []
    for number in range(count):
        words = generator.choice(FILLERS, size=int(generator.integers(5, 12))).tolist()
        if number % 2:
            words[int(generator.integers(len(words)))] = TRIGGER
        rows.append({"text": " ".join(words), "label": "yes" if number % 2 else "no"})
    return rows


@pytest.fixture(scope="module")
def planted() -> Explainer:
    """A tiny encoder that has learned to follow the trigger."""
    explainer, rows = explainer_for("classification", "encoder", dropout=0.0), planted_rows(0, 256)
    task = TASKS.load("classification")(dropout=0.0)
    task.meet("encoder", explainer.tokenizer)
    task.fit(rows)
    model = MultiTaskModel(explainer.model.backbone, {"asked": task}).train()
    explainer = Explainer(model, {"asked": task}, "asked", explainer.tokenizer)
    items, optimizer = items_of(explainer, rows), torch.optim.AdamW(model.parameters(), lr=2e-3)
    generator = np.random.default_rng(1)
    for _ in range(120):
        drawn = [("asked", items[int(place)]) for place in generator.integers(len(items), size=32)]
        chunk = collate(drawn, explainer.tasks, explainer.padding)
        loss = task.loss(model(chunk)["asked"], chunk.parts["asked"].targets).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    model.eval()
    return explainer


@pytest.mark.parametrize("method", ["integrated_gradients", "leave_one_out"])
def test_a_planted_trigger_is_the_top_word(planted: Explainer, method: Any) -> None:
    rows = [row for row in planted_rows(5, 120) if row["label"] == "yes"]
    answered = list(answered_rows(planted, rows, items_of(planted, rows)))
    assert all(each.prediction.value == "yes" for each in answered)
    tops = [planted.explain(aim, method).top.word for each in answered for aim in aims_of(each)]
    assert len(tops) == 60
    assert tops.count(TRIGGER) >= 0.95 * len(tops)


def test_random_weights_do_not_rank_the_words_alike(planted: Explainer) -> None:
    rows = [row for row in planted_rows(6, 40) if row["label"] == "yes"]
    aims = all_aims(planted, rows)
    found = [planted.explain(aim, "integrated_gradients") for aim in aims]
    held = checked(planted, aims, found, "integrated_gradients", seed=3)
    assert [each.words for each in held] == [each.words for each in found]
    assert set(held[0].sanity) == {HEAD, ALL}
    assert abs(np.nanmean([each.sanity[ALL] for each in held])) < 0.5
    again = [planted.explain(aim, "integrated_gradients", steps=64) for aim in aims]
    assert np.mean([rank_correlation(one, two) for one, two in zip(found, again, strict=True)]) > 0.95


def test_drawn_weights_keep_mean_and_spread_and_are_taken_back() -> None:
    parameter = torch.nn.Parameter(torch.randn(200, 50) * 3 + 1)
    before = parameter.detach().clone()
    with randomised([parameter], seed=0):
        assert float(parameter.detach().mean()) == pytest.approx(1, abs=0.2)
        assert float(parameter.detach().std()) == pytest.approx(3, rel=0.05)
        assert abs(float(torch.corrcoef(torch.stack([parameter.detach().flatten(), before.flatten()]))[0, 1])) < 0.05
    assert torch.equal(parameter, before)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_without_captum_the_extra_is_named_and_leave_one_out_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    explainer = explainer_for("classification", "encoder")
    (aim,) = all_aims(explainer, [row_of("classification", 0)])
    with pytest.raises(MissingExtraError) as caught:
        explainer.explain(aim, "integrated_gradients")
    assert str(caught.value) == (
        "`captum` should be installed to attribute answers by integrated gradients. Found no such package. "
        "Run `pip install 'taskloom[explain]'`."
    )
    assert explainer.explain(aim, "leave_one_out").words


def test_a_tag_of_a_word_that_is_not_there_is_refused() -> None:
    explainer = explainer_for("token_classification", "encoder")
    row = row_of("token_classification", 0)
    answered = next(iter(answered_rows(explainer, [row], items_of(explainer, [row]), [3, 40])))
    with pytest.raises(DataError) as caught:
        aims_of(answered)
    assert str(caught.value) == (
        "`word` should number a word that is read, from 0 to 8. Found `40`. Count the words of `tokens` from 0."
    )
    answered = next(iter(answered_rows(explainer, [row], items_of(explainer, [row]), [3])))
    assert [aim.target.split("/")[0] for aim in aims_of(answered)] == ["later,"]
