"""Constrained decoding: whatever is chosen among allowed tokens, and wherever it is cut, an answer can be read."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from answer_tokenizers import MAKES, answer_tokenizer
from taskloom.generation.constraints import Choices, Constraint, ConstraintProcessor, Extraction, Tags
from taskloom.generation.forms import Word, bare, is_writable, read_pairs, runs_of, text_of, words_of, write_pairs
from taskloom.generation.spelling import Spelling, spelling_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PIECES = (
    "New",
    "York",
    "the",
    "U.S.",
    "don't",
    "Zürich",
    "東京",
    "3.5",
    "a;b",
    ";",
    "none",
    "city:",
    "→",
    "x_y",
    "(no",
)
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), min_size=1, max_size=8).map(" ".join)
LABELS = st.lists(st.sampled_from(("city", "day", "object_name", "New", "none", "b")), min_size=1, unique=True)
FORMS = (Extraction, Tags)


def eos_of(make: str) -> int:
    return int(answer_tokenizer(make).eos_token_id)


def decoded(make: str, tokens: Sequence[int]) -> str:
    return str(answer_tokenizer(make).decode(tokens, skip_special_tokens=True)).strip()


def form_of(make: str, form: type[Extraction], labels: Sequence[str], text: str) -> tuple[Extraction, list[Word]]:
    """Make a constraint on the words of a text; tags are of words between blanks."""
    words = words_of(text) if form is Extraction else [Word(word) for word in text.split()]
    return form(labels, words, spelling_of(answer_tokenizer(make)), eos_of(make)), words


def walked(constraint: Constraint, choose: random.Random, left: int | None) -> list[int]:
    """Write an answer by choosing among the allowed tokens, the end less often than others where there are others."""
    tokens: list[int] = []
    while not tokens or tokens[-1] != constraint.eos:
        allowed = constraint.allowed(tokens, None if left is None else left - len(tokens))
        assert allowed
        going_on = [token for token in allowed if token != constraint.eos]
        tokens.append(choose.choice(going_on if going_on and choose.random() < 0.8 else allowed))
        assert len(tokens) < 5000
    return tokens


def every_answer(constraint: Constraint, begun: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    for token in constraint.allowed(begun):
        if token == constraint.eos:
            yield begun
        else:
            yield from every_answer(constraint, (*begun, token))


@pytest.mark.parametrize("make", MAKES)
def test_words_spelled_apart_join_to_the_text_that_they_stand_in(make: str) -> None:
    spelling = Spelling(answer_tokenizer(make))
    text = "Don't take the Queen's Head (no. 12) in St. Louis; 3.5 km from New-York!"
    tokens = [
        token
        for word in words_of(text)
        for token in (spelling.glued(word.text) if word.glued else spelling.after_blank(word.text))
    ]
    said = decoded(make, tokens)
    assert said == text if make != "wordpiece" else bare(said) == bare(text)


@pytest.mark.parametrize("make", ["byte-level", "unigram"])
def test_pieces_with_a_blank_before_them_are_spelled_as_inside_a_sentence(make: str) -> None:
    tokenizer = answer_tokenizer(make)
    whole = tokenizer("take New York city: Monday", add_special_tokens=False)["input_ids"]
    spelling = Spelling(tokenizer)
    parts = [token for word in ("New", "York", "city:", "Monday") for token in spelling.after_blank(word)]
    assert whole[-len(parts) :] == parts


@pytest.mark.parametrize("make", ["wordpiece", "unigram"])
def test_signs_that_a_tokenizer_lacks_are_not_spelled(make: str) -> None:
    spelling = Spelling(answer_tokenizer(make))
    assert spelling.after_blank("☃") == ()
    assert spelling.glued("☃") == ()
    constraint, words = form_of(make, Extraction, ["city"], "new ☃ york")
    assert words[1].text == "☃"
    assert constraint.tokens_of([(0, 1, 2)]) == list(constraint.none)
    assert constraint.tokens_of([(0, 0, 3)]) == list(constraint.none)
    assert constraint.tokens_of([(0, 2, 3)]) != list(constraint.none)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", MAKES)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, labels=LABELS, seed=st.integers(0, 999), extra=st.integers(0, 40) | st.none())
def test_every_answer_can_be_read_and_ends_in_time(
    make: str, form: type[Extraction], text: str, labels: list[str], seed: int, extra: int | None
) -> None:
    constraint, words = form_of(make, form, labels, text)
    left = None if extra is None else constraint.fewest() + extra
    tokens = walked(constraint, random.Random(seed), left)
    assert left is None or len(tokens) <= left
    assert constraint.accepts(tokens[:-1])
    pairs = read_pairs(decoded(make, tokens), labels)
    assert pairs is not None
    for label, value in pairs:
        assert label in labels
        assert runs_of(words, value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", MAKES)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), text=TEXTS, labels=LABELS)
def test_every_right_answer_that_can_be_written_is_reached(
    make: str, form: type[Extraction], data: st.DataObject, text: str, labels: list[str]
) -> None:
    constraint, words = form_of(make, form, labels, text)
    places = [(n, i, j) for n in range(len(labels)) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
    spans = data.draw(st.lists(st.sampled_from(places), max_size=4)) if places else []
    tokens = constraint.tokens_of(spans)
    for place, token in enumerate([*tokens, constraint.eos]):
        assert token in constraint.allowed(tokens[:place])
        assert token in constraint.allowed(tokens[:place], len(tokens) + 1 - place)
    assert constraint.accepts(tokens)
    wanted = [
        (sorted(labels)[number], text_of([Word(words[first].text), *words[first + 1 : end]]))
        for number, first, end in kept_of(constraint, spans)
    ]
    found = read_pairs(decoded(make, tokens), labels)
    assert [(label, bare(value)) for label, value in found or []] == [(label, bare(value)) for label, value in wanted]
    if make == "byte-level":
        assert decoded(make, tokens) == write_pairs(wanted)


def kept_of(constraint: Extraction, spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Say which spans can be in one answer, in its order, by the words of the constraints' docstrings."""
    kept: list[tuple[int, int, int]] = []
    for number, first, end in sorted(spans, key=lambda span: (span[1], span[0], span[2])):
        before = kept[-1] if kept else None
        if isinstance(constraint, Tags):
            is_behind = before is None or first >= before[2]
        else:
            is_behind = before is None or (first, number) > (before[1], before[0])
        if is_behind and constraint.firsts[first] and all(constraint.nexts[first + 1 : end]):
            kept.append((number, first, end))
    return kept


@pytest.mark.parametrize("make", MAKES)
def test_the_answers_on_two_words_are_all_that_there_are(make: str) -> None:
    extraction, _ = form_of(make, Extraction, ["city", "day"], "new york")
    # From the first word two values, from the second one, each label once or not at all: 3 * 3 * 2 * 2.
    answers = {decoded(make, tokens) for tokens in every_answer(extraction)}
    assert len(answers) == len(list(every_answer(extraction))) == 36
    tags, _ = form_of(make, Tags, ["city", "day"], "new york")
    wanted = {"none"}
    for first in ("city", "day"):
        wanted |= {f"{first}: new", f"{first}: york", f"{first}: new york"}
        wanted |= {f"{first}: new; {second}: york" for second in ("city", "day")}
    assert {bare(decoded(make, tokens)) for tokens in every_answer(tags)} == {bare(each) for each in wanted}
    assert {bare(each) for each in wanted} < {bare(each) for each in answers}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", MAKES)
def test_where_few_tokens_are_left_exactly_those_stay_that_can_be_ended(make: str, form: type[Extraction]) -> None:
    constraint, _ = form_of(make, form, ["city", "object_name"], "in new york")
    answers = [(*tokens, constraint.eos) for tokens in every_answer(constraint)]
    assert constraint.fewest() == min(map(len, answers))
    for begun in {answer[:cut] for answer in answers[:120] for cut in range(len(answer))}:
        ends = [answer[len(begun) :] for answer in answers if answer[: len(begun)] == begun]
        for left in range(min(map(len, ends)), min(map(len, ends)) + 4):
            assert set(constraint.allowed(begun, left)) == {end[0] for end in ends if len(end) <= left}
        # Too few for any end: on with the shortest.
        fewest = min(map(len, ends))
        assert set(constraint.allowed(begun, fewest - 1)) == {end[0] for end in ends if len(end) == fewest}


def test_a_choice_is_one_of_the_answers_also_where_one_begins_another() -> None:
    constraint = Choices([(5, 6), (5, 6, 7), (8,)], eos=1)
    assert sorted(every_answer(constraint)) == [(5, 6), (5, 6, 7), (8,)]
    assert sorted(constraint.allowed([5, 6])) == [1, 7]
    assert constraint.allowed([5, 6], left=1) == [1]
    assert constraint.allowed([], left=2) == [8]
    assert constraint.fewest() == 2
    with pytest.raises(ValueError, match="one answer or more"):
        Choices([], eos=1)


def test_what_is_ended_or_strays_can_only_be_ended() -> None:
    constraint = Choices([(5, 6)], eos=1)
    assert constraint.allowed([5, 6, 1]) == [1]
    assert constraint.allowed([5, 6, 1, 0, 0]) == [1]
    assert constraint.allowed([9]) == [1]
    assert not constraint.accepts([9])
    assert not constraint.accepts([5])
    assert not constraint.accepts([5, 6, 1])


def test_what_is_allowed_depends_on_the_answer_alone() -> None:
    text = "to new york on monday"
    asked_once, _ = form_of("byte-level", Extraction, ["city", "day"], text)
    tokens = walked(asked_once, random.Random(5), 30)[:-1]
    for place in random.Random(0).sample(range(len(tokens)), len(tokens)):
        fresh, _ = form_of("byte-level", Extraction, ["city", "day"], text)
        assert fresh.allowed(tokens[:place]) == asked_once.allowed(tokens[:place])


def test_an_opening_comes_before_every_answer() -> None:
    constraint = Choices([(5, 6), (8,)], eos=1, opening=(3, 4))
    assert constraint.allowed([3, 4, 5, 6]) == [1]
    assert Choices([(5, 6), (8,)], eos=1, opening=(3, 4)).allowed([], left=4) == [3]
    assert sorted(every_answer(constraint)) == [(3, 4, 5, 6), (3, 4, 8)]
    assert constraint.fewest() == 4
    assert constraint.allowed([3, 4], left=2) == [8]
    for strayed in ([3, 9], [9], [3, 9, 5]):
        assert constraint.allowed(strayed) == [1]
        assert not constraint.accepts(strayed)


def test_a_text_without_a_word_has_one_answer() -> None:
    for make in MAKES:
        for form in FORMS:
            constraint, _ = form_of(make, form, ["city"], " ; ")
            assert [decoded(make, tokens) for tokens in every_answer(constraint)] == ["none"]


def test_words_hold_the_places_they_stand_at() -> None:
    text = "  Né à St.-Étienne, ८९ नमस्ते 東京!"
    words = words_of(text)
    assert [text[word.start : word.end] for word in words] == [word.text for word in words]
    assert [word.text for word in words] == ["Né", "à", "St", ".", "-", "Étienne", ",", "८९", "नमस्ते", "東", "京", "!"]
    assert text_of(words) == " ".join(text.split())
    assert [is_writable(word) for word in ("a", ";", "\u200d", "x;", ";")] == [True, False, False, False, False]


def test_text_of_another_form_is_not_read() -> None:
    assert read_pairs("none", ["city"]) == []
    assert read_pairs(" City :New  York", ["city"]) == [("city", "New  York")]
    assert read_pairs("a: x; A: y", ["A", "a"]) == [("a", "x"), ("A", "y")]
    for text in ("", "city", "city:", "town: York", "city: York;", "city: York; day", "none; city: York"):
        assert read_pairs(text, ["city", "day"]) is None


# --- in transformers' generate --------------------------------------------------------------------------------------


def random_writer(make: str) -> Any:
    """Make a random decoder for byte-level tokens, or a random encoder-decoder."""
    torch.manual_seed(3)
    size, end = len(answer_tokenizer(make)), eos_of(make)
    if make == "byte-level":
        shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 128}
        return GPT2LMHeadModel(GPT2Config(vocab_size=size, bos_token_id=end, eos_token_id=end, **shape)).eval()
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=size, decoder_start_token_id=0, eos_token_id=end, pad_token_id=0, **shape)
    return T5ForConditionalGeneration(config).eval()


def generated(make: str, constraints: Sequence[Constraint | None], most: int, beams: int) -> list[list[int]]:
    """Let a random model answer one prompt for each constraint."""
    ids = torch.randint(3, 60, (len(constraints), 6), generator=torch.Generator().manual_seed(1))
    begun = 6 if make == "byte-level" else 1
    processor = ConstraintProcessor(constraints, begun, most, beams)
    options: dict[str, Any] = {"max_new_tokens": most, "num_beams": beams, "do_sample": False, "pad_token_id": 0}
    found = random_writer(make).generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), logits_processor=[processor], **options
    )
    return [row[begun:] for row in found.tolist()]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("most", [2, 9, 40])
@pytest.mark.parametrize("make", ["byte-level", "unigram"])
def test_what_an_untrained_model_writes_can_be_read(make: str, most: int, beams: int) -> None:
    texts = ["to New York on Monday", "jazz", "I want to fly from San Francisco (U.S.) 3.5 days later; 12 of them"]
    held = [form_of(make, form, ["city", "day", "object_name"], text)[0] for form in FORMS for text in texts]
    most = max(most, *(constraint.fewest() for constraint in held))
    for tokens, constraint in zip(generated(make, held, most, beams), held, strict=True):
        assert constraint.eos in tokens[:most]
        answer = tokens[: tokens.index(constraint.eos)]
        assert constraint.accepts(answer)
        assert read_pairs(decoded(make, answer), constraint.labels) is not None


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("make", ["byte-level", "unigram"])
def test_an_untrained_model_chooses_among_the_answers(make: str, beams: int) -> None:
    spelling = spelling_of(answer_tokenizer(make))
    names = ["play_music", "day", "New York"]
    # The second prompt has one answer only, fewer than there are beams.
    held = [Choices([spelling.after_blank(name) for name in own], eos_of(make)) for own in (names, ["jazz"], names)]
    for tokens, own in zip(generated(make, held, 20, beams), (names, ["jazz"], names), strict=True):
        assert decoded(make, tokens) in own


@pytest.mark.parametrize("make", ["byte-level", "unigram"])
def test_beams_find_the_likeliest_choice(make: str) -> None:
    spelling = spelling_of(answer_tokenizer(make))
    choices = [spelling.after_blank(name) for name in ("play_music", "day", "jazz", "on")]
    end = eos_of(make)
    ids = torch.randint(3, 60, (1, 6), generator=torch.Generator().manual_seed(1))
    model = random_writer(make)
    costs = []
    for choice in choices:
        written = torch.tensor([[*choice, end]])
        if make == "byte-level":
            logits = model(torch.cat([ids, written], dim=1)).logits[:, 5:-1]
        else:
            logits = model(input_ids=ids, labels=written).logits
        # By the token, as beams of different length are compared.
        costs.append(torch.nn.functional.cross_entropy(logits[0], written[0]).item())
    found = generated(make, [Choices(choices, end)], 20, 8)[0]
    likeliest = choices[min(range(len(choices)), key=costs.__getitem__)]
    assert tuple(found[: found.index(end)]) == likeliest


def test_scores_of_allowed_tokens_stay_and_prompts_without_a_constraint_are_free() -> None:
    scores = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[9, 9, 5], [9, 9, 8], [9, 9, 5], [9, 9, 7]])
    constraint = Choices([(5, 6), (5, 7), (8,)], eos=1)
    kept = ConstraintProcessor([constraint, None], prompt_tokens=2, num_beams=2)(ids, scores)
    assert torch.equal(kept[2:], scores[2:])
    assert torch.isfinite(kept[:2]).nonzero().tolist() == [[0, 6], [0, 7], [1, 1]]
    assert torch.equal(kept[0, 6:8], scores[0, 6:8])


def test_rows_that_no_constraint_belongs_to_are_refused() -> None:
    processor = ConstraintProcessor([None, None], prompt_tokens=1)
    with pytest.raises(ValueError, match="3 rows are not 1 for each of 2 prompts"):
        processor(torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 9))
