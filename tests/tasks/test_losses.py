"""Forms of the loss against torch's losses, the papers' formulas in numpy, scikit-learn's weights, and differences."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from taskloom.errors import ConfigError, DataError
from taskloom.tasks._losses import LabelLoss, label_weights, pair_weights, squared
from taskloom.tasks.classification import Classification
from taskloom.tasks.extractive_qa import ExtractiveQa
from taskloom.tasks.multi_label import MultiLabel
from taskloom.tasks.multiple_choice import MultipleChoice
from taskloom.tasks.regression import Regression
from taskloom.tasks.similarity import Similarity
from taskloom.tasks.token_classification import TokenClassification
from taskloom.types import IGNORED

FORMS = {
    "smoothed": {"label_smoothing": 0.2},
    "focal": {"focal_gamma": 2.0},
    "barely focal": {"focal_gamma": 0.5},
    "focal and smoothed": {"focal_gamma": 1.5, "label_smoothing": 0.1},
    "robust": {"noise_robustness": 0.7},
    "linear": {"noise_robustness": 1.0},
}
WITH_LABELS = [Classification, TokenClassification, MultiLabel, MultipleChoice, ExtractiveQa]
WEIGHTS = [0.3, 2.0, 1.0, 0.7]


def drawn(*shape: int, labels: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    return torch.tensor(generator.normal(0, 3, (*shape, labels))), torch.tensor(generator.integers(labels, size=shape))


def cost(p, form):
    """Give what a label of probability p costs, as the papers write it."""
    if form.get("noise_robustness"):
        return (1 - p ** form["noise_robustness"]) / form["noise_robustness"]
    return -((1 - p) ** form.get("focal_gamma", 0.0)) * np.log(p)


def by_hand(logits, right, form, weights=None):
    """Give the loss of [item, label] logits in numpy, label by label."""
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    weights = np.ones(p.shape[1]) if weights is None else np.asarray(weights)
    smoothing = form.get("label_smoothing", 0.0)
    share = np.full(p.shape, smoothing / p.shape[1])
    share[np.arange(len(p)), right] += 1 - smoothing
    return (share * weights * cost(p, form)).sum(axis=1)


# --- the forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighed"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_smoothing_and_weights_are_those_of_torch(smoothing, weights) -> None:
    logits, right = drawn(12)
    held = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    wanted = functional.cross_entropy(logits, right, held, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(LabelLoss(smoothing)(logits, right, held), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighed"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_is_the_papers_formula(form, weights) -> None:
    logits, right = drawn(9, seed=1)
    held = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    loss = LabelLoss(**form)(logits, right, held)
    np.testing.assert_allclose(loss, by_hand(logits.numpy(), right.numpy(), form, weights), rtol=1e-10)


def test_nothing_asked_for_is_the_cross_entropy_bit_for_bit() -> None:
    logits, right = drawn(20, 6)
    right[0, 2:] = IGNORED
    logits = logits.float()
    wanted = functional.cross_entropy(logits.transpose(1, 2), right, reduction="none")
    assert torch.equal(LabelLoss()(logits, right), wanted)
    assert LabelLoss().plain
    # The way that weights take is the same loss, up to rounding.
    torch.testing.assert_close(LabelLoss()(logits, right, torch.ones(4)), wanted)


@pytest.mark.parametrize("name", ["label_smoothing", "focal_gamma", "noise_robustness"])
def test_each_form_becomes_the_cross_entropy_as_its_number_goes_to_zero(name) -> None:
    logits, right = drawn(30)
    plain = LabelLoss()(logits, right)
    distances = [float((LabelLoss(**{name: size})(logits, right) - plain).abs().max()) for size in (1e-2, 1e-4, 1e-6)]
    assert distances[0] > 1e-3
    assert distances[1] == pytest.approx(distances[0] / 100, rel=0.1)
    assert distances[2] == pytest.approx(distances[0] / 10_000, rel=0.1)


def test_a_form_is_bounded_by_its_robustness_and_a_focal_loss_leaves_right_rows_alone() -> None:
    sure_and_wrong, sure_and_right = torch.tensor([[200.0, 0.0]]), torch.tensor([[6.0, 0.0]])
    one, zero = torch.tensor([1]), torch.tensor([0])
    assert float(LabelLoss()(sure_and_wrong, one)) == pytest.approx(200)
    assert float(LabelLoss(noise_robustness=0.5)(sure_and_wrong, one)) == pytest.approx(2)
    plain, focal = LabelLoss()(sure_and_right, zero), LabelLoss(focal_gamma=2.0)(sure_and_right, zero)
    assert float(focal / plain) == pytest.approx((1 - 1 / (1 + math.exp(-6))) ** 2, rel=1e-3)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_losses_and_gradients_are_finite_however_sure_the_model_is(form) -> None:
    for dtype in (torch.float32, torch.float64):
        logits = torch.tensor([[1e4, 0.0, -1e4], [30.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
        for right in range(3):
            given = logits.clone().requires_grad_()
            loss = LabelLoss(**form)(given, torch.full((3,), right))
            loss.sum().backward()
            assert torch.isfinite(loss).all()
            assert (loss >= 0).all()
            assert torch.isfinite(given.grad).all()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_gradients_equal_finite_differences(form) -> None:
    logits, right = drawn(3, 2, seed=2)
    right[1, 1] = IGNORED
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)

    def loss(given: torch.Tensor) -> torch.Tensor:
        return LabelLoss(**form)(given, right, weights)

    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))


def test_what_is_ignored_costs_nothing_and_moves_nothing() -> None:
    logits, right = drawn(2, 3)
    right[:, 1] = IGNORED
    given = logits.requires_grad_()
    loss = LabelLoss(focal_gamma=2.0, label_smoothing=0.1)(given, right)
    loss.sum().backward()
    assert not loss[:, 1].any()
    assert not given.grad[:, 1].any()
    assert (given.grad[:, [0, 2]] != 0).all()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_may_not_be_chosen_is_as_if_it_were_not_there(form) -> None:
    logits, _ = drawn(5, labels=6)
    right = torch.tensor([0, 2, 3, 2, 0])
    allowed = torch.tensor([True, False, True, True, False, True]).expand(5, 6)
    there = allowed[0].nonzero().flatten()
    given = logits.clone().requires_grad_()
    loss = LabelLoss(**form)(given.masked_fill(~allowed, float("-inf")), right, allowed=allowed)
    loss.sum().backward()
    renamed = torch.tensor([there.tolist().index(label) for label in right.tolist()])
    alone = logits[:, there].clone().requires_grad_()
    wanted = LabelLoss(**form)(alone, renamed)
    wanted.sum().backward()
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(given.grad[:, there], alone.grad)
    assert not given.grad[:, [1, 4]].any()


@pytest.mark.parametrize("delta", [None, 0.1, 1.35, 1e6])
def test_squares_with_straight_tails_are_twice_the_loss_of_huber(delta) -> None:
    difference = torch.linspace(-4, 4, 33, dtype=torch.float64)
    zeros = torch.zeros_like(difference)
    wanted = difference**2 if delta is None else 2 * functional.huber_loss(difference, zeros, "none", delta)
    torch.testing.assert_close(squared(difference, delta), wanted)
    if delta == 1.35:
        near = difference.abs() <= delta
        torch.testing.assert_close(squared(difference, delta)[near], difference[near] ** 2)
        assert (squared(difference, delta)[~near] < difference[~near] ** 2).all()


# --- the tasks ------------------------------------------------------------------------------------------------------


def fitted(kind, *labels, **options):
    task = kind(**options)
    task.fit([{"text": "x", "label": label} for label in labels])
    return task


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_classification_takes_the_form_and_the_weights(form) -> None:
    task = fitted(Classification, *"aaab", *"cd", class_weights={"a": 2.0, "d": 5.0}, **form)
    logits, right = drawn(7)
    raw = np.array([2.0, 1.0, 1.0, 5.0])
    weights = raw / (np.array([3, 1, 1, 1]) * raw / 6).sum()
    loss = task.loss(logits, {"label": right})
    np.testing.assert_allclose(loss, by_hand(logits.numpy(), right.numpy(), form, weights), rtol=1e-10)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_tagging_takes_the_mean_of_the_form_over_the_words(form) -> None:
    task = TokenClassification(scheme="plain", class_weights="balanced", **form)
    task.fit([{"tags": list("aabcd")}])
    logits, right = drawn(3, 5)
    right[0, 1], right[2, 2:] = IGNORED, IGNORED
    weights = [5 / 8, 5 / 4, 5 / 4, 5 / 4]
    loss = task.loss(logits, {"tags": right})
    for row in range(3):
        held = right[row] != IGNORED
        wanted = by_hand(logits[row][held].numpy(), right[row][held].numpy(), form, weights).mean()
        assert float(loss[row]) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_several_labels_are_choices_between_two(form) -> None:
    task = MultiLabel(class_weights={"b": 3.0}, **form)
    task.fit([{"labels": ["a"]}, {"labels": ["b", "a"]}, {"labels": []}, {"labels": ["c"]}])
    logits, held = drawn(6, labels=3)[0], np.random.default_rng(4).integers(2, size=(6, 3))
    loss = task.loss(logits, {"labels": torch.tensor(held, dtype=torch.float64)})
    mean = 0.25 * 3 + 0.75
    columns = []
    for label, weights in enumerate([None, [1 / mean, 3 / mean], None]):
        both = np.stack([np.zeros(6), logits[:, label].numpy()], axis=1)
        columns.append(by_hand(both, held[:, label], form, weights))
    np.testing.assert_allclose(loss, np.mean(columns, axis=0), rtol=1e-10)


def test_weights_of_several_labels_are_torchs_weights_of_positives_brought_to_a_mean_of_one() -> None:
    task = MultiLabel(class_weights={"a": 4.0})
    task.fit([{"labels": ["a"]}, {"labels": ["b"]}, {"labels": ["b"]}, {"labels": ["a", "b"]}, {"labels": []}])
    logits, held = drawn(8, labels=2)[0], torch.tensor(np.random.default_rng(1).integers(2, size=(8, 2))).double()
    more = torch.tensor([4.0, 1.0], dtype=torch.float64)
    plain = functional.binary_cross_entropy_with_logits(logits, held, reduction="none", pos_weight=more)
    wanted = (plain / torch.tensor([0.4 * 4 + 0.6, 1.0], dtype=torch.float64)).mean(dim=1)
    torch.testing.assert_close(task.loss(logits, {"labels": held}), wanted)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_choices_are_labels_of_their_own_row(form) -> None:
    scores = torch.tensor(np.random.default_rng(0).normal(0, 2, (7, 1)))
    targets = {"label": torch.tensor([1, 0, 2]), "sizes": torch.tensor([2, 2, 3])}
    loss = MultipleChoice(**form).loss(scores, targets)
    rows = [scores[:2], scores[2:4], scores[4:]]
    wanted = [by_hand(row.T.numpy(), [label], form)[0] for row, label in zip(rows, (1, 0, 2), strict=True)]
    np.testing.assert_allclose(loss, wanted, rtol=1e-10)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_places_of_an_answer_are_labels_of_their_own_window(form) -> None:
    output = torch.tensor(np.random.default_rng(0).normal(0, 2, (2, 5, 2)))
    allowed = torch.tensor([[True, False, True, True, True], [True, False, True, True, False]])
    targets = {"start": torch.tensor([2, 0]), "end": torch.tensor([4, 3]), "allowed": allowed}
    loss = ExtractiveQa(**form).loss(output, targets)
    for row in range(2):
        there = allowed[row].nonzero().flatten().tolist()
        ends = [
            by_hand(output[row, there, side].numpy()[None], [there.index(int(targets[key][row]))], form)[0]
            for side, key in enumerate(("start", "end"))
        ]
        assert float(loss[row]) == pytest.approx(sum(ends) / 2, rel=1e-10)


@pytest.mark.parametrize("kind", [Regression, Similarity])
def test_numbers_take_straight_tails(kind) -> None:
    plain, robust = kind(), kind(huber_delta=1.0)
    for task in (plain, robust):
        task.fit([{"text": "x", "text_pair": "y", "label": number} for number in (1.0, 2.0, 6.0)])
    output = torch.tensor(np.random.default_rng(0).normal(0, 1, (12, 1 if kind is Regression else 8)))
    items = [{"number": number} for number in np.linspace(1, 6, len(output) if kind is Regression else 6)]
    errors = plain.loss(output, plain.targets(items, 3)).sqrt()
    wanted = 2 * functional.huber_loss(errors, torch.zeros_like(errors), "none", 1.0)
    torch.testing.assert_close(robust.loss(output, robust.targets(items, 3)), wanted)
    assert (errors > 1).any()
    assert (errors < 1).any()


# --- weights of labels ----------------------------------------------------------------------------------------------


def test_balanced_weights_are_those_of_scikit_learn_and_all_labels_count_alike() -> None:
    labels = list("aaaaaabbbc")
    task = fitted(Classification, *labels, class_weights="balanced")
    wanted = compute_class_weight("balanced", classes=np.array(task.labels), y=np.array(labels))
    np.testing.assert_allclose(task.weights, wanted)
    assert np.mean([task.weights[task.ids[label]] for label in labels]) == pytest.approx(1)
    totals = [labels.count(label) * weight for label, weight in zip(task.labels, task.weights, strict=True)]
    assert totals == pytest.approx([10 / 3] * 3)


def test_named_weights_keep_their_proportions_and_are_one_on_average_over_the_rows() -> None:
    labels = ["a"] * 7 + ["b"] * 2 + ["c"]
    task = fitted(Classification, *labels, class_weights={"b": 4, "c": 10})
    assert task.weights[1] / task.weights[0] == pytest.approx(4)
    assert task.weights[2] / task.weights[0] == pytest.approx(10)
    assert np.mean([task.weights[task.ids[label]] for label in labels]) == pytest.approx(1)
    again = fitted(Classification, *labels, class_weights={"a": 3, "b": 12, "c": 30})
    np.testing.assert_allclose(again.weights, task.weights)


def test_labels_that_are_no_texts_are_named_as_they_are_written() -> None:
    assert fitted(Classification, 0, 1, 1, class_weights={"1": 2.0}).weights == pytest.approx([0.6, 1.2])
    assert fitted(Classification, False, True, class_weights={"True": 3.0}).weights == pytest.approx([0.5, 1.5])


def test_a_tag_that_only_decoding_needs_is_neither_endless_nor_unknown() -> None:
    rows = [{"tags": ["I-x", "I-x", "O"]}]
    for given, wanted in (("balanced", [1.0, 0.75, 1.5]), ({"B-x": 9.0, "O": 4.0}, [1.0, 0.5, 2.0])):
        task = TokenClassification(class_weights=given)
        task.fit(rows)
        assert task.labels == ["B-x", "I-x", "O"]
        assert task.weights == pytest.approx(wanted)


def test_balanced_choices_between_two_weigh_both_sides_alike_and_a_label_of_all_rows_not_at_all() -> None:
    rows = [{"labels": labels} for labels in (["a", "b"], ["a"], ["a", "b"], ["a", "c", "c"])]
    task = MultiLabel(class_weights="balanced")
    task.fit(rows)
    assert task.weights == [[1.0, 1.0], [1.0, 1.0], pytest.approx([4 / 6, 2.0])]
    assert pair_weights("balanced", ["a"], {"a": 1}, 4) == [pytest.approx([4 / 6, 2.0])]


@pytest.mark.parametrize("kind", [Classification, MultiLabel, TokenClassification])
def test_weights_survive_saving_and_are_not_made_again(kind) -> None:
    rows = [{"label": label, "labels": [label], "tags": [label]} for label in "aab"]
    options = {"class_weights": {"b": 3.0}, **({"scheme": "plain"} if kind is TokenClassification else {})}
    task, again = kind(**options), kind(**options)
    task.fit(rows)
    again.restore(json.loads(json.dumps(task.state())))
    assert again.weights == task.weights is not None
    assert vars(again) == vars(task)
    plain = kind(**{**options, "class_weights": None})
    plain.fit(rows)
    assert plain.state().keys() == {"labels"}, "a model without weights is saved as it always was"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"plya": 2.0}, "`class_weights` should name labels that training has. Found `plya`. Did you mean `play`?"),
        (
            {"play": 2.0, "x": 1.0, "why": 1.0},
            "`class_weights` should name labels that training has. Found `x`, `why`. Choose one of `alarm`, `play`.",
        ),
    ],
)
def test_unknown_labels_are_one_fault(given, message) -> None:
    for kind in (Classification, MultiLabel):
        task = kind(class_weights=given)
        with pytest.raises(DataError) as caught:
            task.fit([{"label": label, "labels": [label]} for label in ("play", "alarm")])
        assert str(caught.value) == message


def test_no_weights_are_none() -> None:
    assert label_weights(None, ["a"], {"a": 1}) is None
    assert pair_weights(None, ["a"], {"a": 1}, 1) is None


# --- what does not go together --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITH_LABELS)
def test_a_bounded_loss_beside_another_form_is_refused_in_one_sentence(kind) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(noise_robustness=0.7, focal_gamma=2.0)
    assert str(caught.value) == (
        "`noise_robustness` should be 0 beside `focal_gamma`. Found `0.7`. "
        "It bounds what one row can cost, and is another form of the loss; keep one of them."
    )
    with pytest.raises(ConfigError, match=r"should be 0 beside `label_smoothing`, `focal_gamma`\. Found `1`"):
        kind(noise_robustness=1.0, focal_gamma=2.0, label_smoothing=0.1)
    assert kind(focal_gamma=2.0, label_smoothing=0.1).form == LabelLoss(0.1, 2.0)
