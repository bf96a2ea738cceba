from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.metrics.squad_f1 import SquadF1
from taskloom.tasks.extractive_qa import CONSTANT_RULES, ExtractiveQa

pytest_plugins = ("tokenizer_fixtures",)

GOOD = {"question": "Who left?", "context": "Ann left.", "answers": {"text": ["Ann"], "answer_start": [0]}}
FORM = "have `text` and `answer_start` in `answers`"


def row_of(context, answer=None, question="Who left?"):
    answers = (
        {"text": [answer], "answer_start": [context.index(answer)]} if answer else {"text": [], "answer_start": []}
    )
    return {"question": question, "context": context, "answers": answers}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"question": ""}, "have text in `question`, which is empty"),
        ({"question": None}, "have text in `question`, not nothing"),
        ({"context": " "}, "have text in `context`, which is empty"),
        ({"context": 3}, "have text in `context`, not int `3`"),
        ({"answers": None}, FORM),
        ({"answers": "Ann"}, FORM),
        ({"answers": {"text": ["Ann"]}}, FORM),
        (
            {"answers": {"text": ["Ann"], "answer_start": []}},
            "have as many `answers.text` as `answers.answer_start`",
        ),
        (
            {"answers": {"text": "Ann", "answer_start": [0]}},
            "have as many `answers.text` as `answers.answer_start`",
        ),
        (
            {"answers": {"text": ["Ann"], "answer_start": [-1]}},
            "have texts and offsets in `answers`, not `Ann` and `-1`",
        ),
        (
            {"answers": {"text": ["Ann"], "answer_start": ["0"]}},
            "have texts and offsets in `answers`, not `Ann` and `0`",
        ),
        ({"answers": {"text": [" "], "answer_start": [3]}}, "have texts and offsets in `answers`, not ` ` and `3`"),
        (
            {"answers": {"text": ["Ann"], "answer_start": [4]}},
            "have its answer `Ann` at offset 4 of `context`, where `lef` stands",
        ),
        (
            {"answers": {"text": ["Ann", "Bob"], "answer_start": [0, 0]}},
            "have its answer `Bob` at offset 0 of `context`, where `Ann` stands",
        ),
        (
            {"answers": {"text": ["Ann"], "answer_start": [900]}},
            "have its answer `Ann` at offset 900 of `context`, where `` stands",
        ),
        ({"answers": {"text": [], "answer_start": []}}, None),
        ({}, None),
    ],
)
def test_a_row_is_faulty_in_whole_words(change, complaint) -> None:
    assert ExtractiveQa().fault(GOOD | change) == complaint


def test_a_task_knows_from_training_whether_no_answer_can_be_said() -> None:
    task = ExtractiveQa()
    task.fit([GOOD])
    assert task.state() == {"unanswerable": False}
    task.fit([GOOD, row_of("Ann left.")])
    assert task.state() == {"unanswerable": True}


WORDS = ["the", "delivery", "of", "my", "order", "late", "Zanzibar-42", "never", "naïve", "café", "£30", "o'clock"]


@given(
    words=st.lists(st.sampled_from(WORDS), min_size=20, max_size=120),
    place=st.floats(0, 1),
    count=st.integers(1, 5),
    stride=st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_windows_cover_every_answer_that_fits_and_point_at_its_characters(pieces, words, place, count, stride) -> None:
    first = min(int(place * len(words)), len(words) - count)
    context, answer = " ".join(words), " ".join(words[first : first + count])
    begin = len(" ".join(words[:first])) + (first > 0)
    row = {"question": "What?", "context": context, "answers": {"text": [answer], "answer_start": [begin]}}
    task = ExtractiveQa(max_length=48, stride=stride)
    assert task.fault(row) is None
    (items,) = task.encode([row], pieces)
    whole = pieces(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    length = sum(1 for a, b in whole if a < begin + len(answer) and b > begin)
    found = 0
    covered = set()
    for item in items:
        assert len(item["input_ids"][0]) <= 48
        spans = [(a, b) for a, b in zip(item["begins"], item["ends"], strict=True) if a >= 0]
        covered |= set(spans)
        holds = {(a, b) for a, b in whole if a < begin + len(answer) and b > begin} <= set(spans)
        assert (item["start"] > 0) == (item["end"] > 0) == holds
        if holds:
            found += 1
            assert context[item["begins"][item["start"]] : item["ends"][item["end"]]] == answer
            assert task.describe(row, item) == [("answer", answer)]
        else:
            assert (item["start"], item["end"]) == (0, 0)
    assert covered == set(whole)
    assert found or length > min(stride, 24)


def test_an_answer_written_with_blanks_at_its_edges_is_still_found(pieces) -> None:
    row = {"question": "Who?", "context": "Then Ann left.", "answers": {"text": [" Ann "], "answer_start": [4]}}
    task = ExtractiveQa()
    assert task.fault(row) is None
    ((item,),) = task.encode([row], pieces)
    assert task.describe(row, item) == [("answer", "Ann")]


def test_question_tokens_are_no_place_for_an_answer(pieces) -> None:
    ((item,),) = ExtractiveQa().encode([row_of("Ann left.", "Ann", question="Ann?")], pieces)
    kinds = item["token_type_ids"][0]
    assert [begin >= 0 for begin in item["begins"]] == [bool(kind) for kind in kinds[:-1]] + [False]


@pytest.mark.parametrize("words", [5, 20, 28, 40, 400])
@pytest.mark.parametrize("stride", [0, 16, 1000])
def test_a_question_of_any_length_leaves_room_for_the_context(pieces, words, stride) -> None:
    task = ExtractiveQa(max_length=32, stride=stride)
    row = row_of("order " * 200 + "Ann", "Ann", question="why " * words)
    (items,) = task.encode([row], pieces)
    assert max(len(item["input_ids"][0]) for item in items) <= 32
    assert sum(item["start"] > 0 for item in items) >= 1
    assert len(items) <= 60


def test_the_loss_is_the_mean_surprise_of_both_ends_over_context_and_first_token() -> None:
    generator = np.random.default_rng(0)
    output = generator.normal(0, 3, (2, 6, 2))
    begins = [[-1, -1, -1, 0, 4, -1], [-1, -1, 0, 2, 6]]
    items = [
        {"begins": begins[0], "start": 3, "end": 4, "input_ids": [[0] * 6]},
        {"begins": begins[1], "start": 0, "end": 0, "input_ids": [[0] * 5]},
    ]
    allowed = [[0, 3, 4], [0, 2, 3, 4]]
    wanted = []
    for index, item in enumerate(items):
        total = 0.0
        for side, key in enumerate(("start", "end")):
            scores = output[index, :, side]
            total += math.log(math.fsum(math.exp(scores[place] - scores[item[key]]) for place in allowed[index]))
        wanted.append(total / 2)
    task = ExtractiveQa()
    given = torch.tensor(output, requires_grad=True)
    loss = task.loss(given, task.targets(items, 6))
    np.testing.assert_allclose(loss.detach(), wanted, rtol=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), given)
    for index, places in enumerate(allowed):
        outside = [place for place in range(6) if place not in places]
        assert not gradient[index, outside].any()


def random_window(generator, question, held, first):
    tokens = question + held + 1
    begins = [-1] * question + [first + 4 * place for place in range(held)] + [-1]
    ends = [-1] * question + [first + 4 * place + 3 for place in range(held)] + [-1]
    return {"begins": begins, "ends": ends}, generator.normal(0, 3, (1, tokens, 2)).astype(np.float32)


@pytest.mark.parametrize("unanswerable", [False, True])
@pytest.mark.parametrize("longest", [1, 3, 30])
@pytest.mark.parametrize("n_best", [1, 20])
@pytest.mark.parametrize("seed", range(6))
def test_the_answer_is_the_best_of_all_spans_in_all_windows(seed, n_best, longest, unanswerable) -> None:
    generator = np.random.default_rng(seed)
    context = "".join(f"{number:03d} " for number in range(60))
    task = ExtractiveQa(max_answer_length=longest, n_best=n_best)
    task.unanswerable = unanswerable
    windows = [random_window(generator, int(generator.integers(2, 6)), 30, first) for first in (0, 60, 120)]
    best, null = (-math.inf, ""), math.inf
    for item, output in windows:
        null = min(null, float(output[0, 0, 0] + output[0, 0, 1]))
        for start in range(len(item["begins"])):
            for end in range(start, min(start + longest, len(item["begins"]))):
                if item["begins"][start] >= 0 and item["begins"][end] >= 0:
                    score = float(output[0, start, 0] + output[0, end, 1])
                    best = max(best, (score, context[item["begins"][start] : item["ends"][end]]))
    answer = task.decode({"context": context}, [item for item, _ in windows], [output for _, output in windows])
    assert answer.value == ("" if unanswerable and null > best[0] else best[1])
    assert answer.detail["n_best"][0]["text"] == answer.value


def test_the_best_span_is_found_even_where_no_likely_start_stands_before_a_likely_end() -> None:
    item = {"begins": [-1, *range(0, 160, 4), -1], "ends": [-1, *range(3, 163, 4), -1]}
    output = np.zeros((1, 42, 2), dtype=np.float32)
    output[0, :21, 1] = 5.0
    output[0, 21:, 0] = 5.0
    answer = ExtractiveQa(max_answer_length=5, n_best=5).decode({"context": "abc " * 40}, [item], [output])
    assert answer.value


def test_a_context_of_invisible_characters_has_an_empty_answer(pieces) -> None:
    row = row_of("\u200b\u200b")
    (items,) = ExtractiveQa().encode([row], pieces)
    outputs = [np.zeros((1, len(items[0]["begins"]), 2), dtype=np.float32)]
    assert ExtractiveQa().decode(row, items, outputs).value == ""


@pytest.mark.parametrize(("lead", "threshold", "silent"), [(1.0, 0.0, True), (1.0, 2.0, False), (-1.0, -2.0, True)])
def test_no_answer_is_given_where_it_leads_by_more_than_the_threshold(lead, threshold, silent) -> None:
    task = ExtractiveQa(null_threshold=threshold)
    task.unanswerable = True
    item = {"begins": [-1, -1, 0, 4], "ends": [-1, -1, 3, 8]}
    output = np.full((1, 4, 2), -9.0, dtype=np.float32)
    output[0, 2] = 1.0
    output[0, 0] = 1.0 + lead / 2
    answer = task.decode({"context": "Ann left"}, [item], [output])
    assert (answer.value == "") == silent
    chances = [each["probability"] for each in answer.detail["n_best"]]
    assert sum(chances) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("contexts", "answers", "wanted"),
    [
        (["x y z", "u v w"], [None, None], ["", ""]),
        (["the cat sat", "the dog ran", "cat the end"], ["cat", None, "cat"], ["cat"] * 3),
        (["ann b c d", "bob e f g"], ["ann", "bob"], ["ann", "bob"]),
        (["ann b c d", "bob e f g"], ["d", "g"], ["d", "g"]),
        (["ann b c d e f", "bob e f g h i"], ["ann b c d e f", "bob e f g h i"], ["ann b c d e f", "bob e f g h i"]),
    ],
)
def test_the_baseline_is_the_best_constant_rule_on_training(contexts, answers, wanted) -> None:
    rows = [row_of(context, answer) for context, answer in zip(contexts, answers, strict=True)]
    task = ExtractiveQa()
    assert task.baseline(rows, rows) == wanted
    right = [task.reference(row) for row in rows]
    rules = [[""] * len(rows)]
    for count in CONSTANT_RULES:
        rules.append([" ".join(context.split()[:count]) for context in contexts])
        rules.append([" ".join(context.split()[-count:]) for context in contexts])
    best = max(SquadF1().score(rule, right) for rule in rules)
    assert SquadF1().score(task.baseline(rows, rows), right) >= best - 1e-12
