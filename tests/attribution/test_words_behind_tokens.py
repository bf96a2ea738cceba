"""Words behind tokens: every token that is read finds the place in the row that it was made of."""

from __future__ import annotations

from typing import Any

import pytest
from attribution_tools import CASES, HEADS, all_aims, explainer_for, items_of, row_of, rows_of

from family_tokenizers import tokenizer_of
from taskloom.attribution.reading import aligned, read, specials, words_in
from taskloom.errors import DataError
from taskloom.tasks import TASKS
from taskloom.types import Family


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't pay 3.50 €!", ["Don't", "pay", "3.50", "€", "!"]),
        ("e-mail ann@example.org, at 17:30...", ["e-mail", "ann@example.org", ",", "at", "17:30", ".", ".", "."]),
        ("  blanks\tand\nlines ", ["blanks", "and", "lines"]),
        ("東京 and カナ", ["東", "京", "and", "カ", "ナ"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),  # vowel signs are no letters to regular expressions
        ("(yes)", ["(", "yes", ")"]),
        ("", []),
    ],
)
def test_a_text_is_cut_into_words_and_marks(text: str, words: list[str]) -> None:
    assert [text[slice(*span)] for span in words_in(text)] == words


@pytest.mark.parametrize(("kind", "family"), CASES)
def test_every_token_of_a_row_lies_where_its_letters_stand(kind: str, family: Family) -> None:
    explainer = explainer_for(kind, family)
    tokenizer, task = explainer.tokenizer, explainer.tasks["asked"]
    rows, special = rows_of(kind, 3), specials(explainer.tokenizer)
    for item in items_of(explainer, rows):
        reading = read(task, rows[item["row"]], item, tokenizer)
        assert len(reading.places) == len(item["input_ids"])
        kept = item.get("prompt_tokens")
        for ids, places in zip(item["input_ids"], reading.places, strict=True):
            assert len(ids) == len(places)
            for number, place in list(zip(ids, places, strict=True))[:kept]:
                assert (place is None) == (number in special), tokenizer.convert_ids_to_tokens(number)
                if place is not None and kind not in {"token_classification"} and number != tokenizer.unk_token_id:
                    piece = tokenizer.decode([number]).replace("##", "").strip().lower()
                    # The blank that T5's tokenizer puts before a text is said to lie at its first letter.
                    assert reading.text[slice(*place)].strip().lower() == piece or not piece


@pytest.mark.parametrize(("kind", "family"), CASES)
def test_every_word_of_a_short_row_is_read(kind: str, family: Family) -> None:
    explainer = explainer_for(kind, family)
    for aim in all_aims(explainer, [row_of(kind, 1)])[:1]:
        owners = {word for words in aim.reading.word_of() for word in words[: aim.kept] if word is not None}
        spans = aim.reading.words
        if kind == "multiple_choice":  # the other choices are not read where one is explained
            chosen = aim.target
            spans = [span for span in spans if aim.reading.text[: span[1]].count("\n") < 2]
            assert aim.reading.text[slice(*aim.reading.words[max(owners)])] == chosen.split()[-1]
        if kind == "extractive_qa":  # one window of several
            spans = spans[:3]
        if kind == "chat":  # the template ends turns with a special token, which is never taken away
            end = aim.reading.text.index("</s>")
            spans = [span for span in spans if span[1] <= end]
        assert owners >= set(range(len(spans)))


def test_pieces_of_a_tagged_word_are_all_its_own() -> None:
    explainer = explainer_for("token_classification", "encoder")
    row = {"tokens": ["Sanfrancisco", "", "Mondayly"], "tags": ["O", "O", "O"]}
    (item,) = items_of(explainer, [row])
    reading = read(explainer.tasks["asked"], row, item, explainer.tokenizer)
    assert reading.text == "Sanfrancisco  Mondayly"
    owners = reading.word_of()[0]
    assert [reading.text[slice(*reading.words[number])] for number in dict.fromkeys(n for n in owners if n is not None)]
    assert owners[0] is None
    assert owners[-1] is None
    assert set(owners[1:-1]) == {0, 1}
    assert owners[1:-1] == sorted(owners[1:-1])


def test_a_cut_text_and_a_text_without_its_middle_are_found() -> None:
    tokenizer = tokenizer_of("encoder")
    text = "take the hotel in New York on Monday and the music later"
    whole: Any = tokenizer(text, return_offsets_mapping=True)
    ids, offsets = whole["input_ids"], whole["offset_mapping"]
    for kept in ([*range(9), len(ids) - 1], [*range(4), *range(8, len(ids))]):
        found = aligned(tokenizer, [ids[place] for place in kept], text)
        assert [each and (each[1], each[2]) for each in found[1:-1]] == [offsets[place] for place in kept[1:-1]]
        assert found[0] is None
        assert found[-1] is None


def test_a_type_without_a_known_reading_is_refused() -> None:
    task = TASKS.load("preference")()
    with pytest.raises(DataError) as caught:
        read(task, {}, {"input_ids": [[1]]}, tokenizer_of("decoder"))
    assert str(caught.value) == (
        "`Preference` should be a task whose words can be told from its tokens. Found the type `Preference`."
    )


def test_every_type_with_a_head_is_among_the_cases() -> None:
    heads = {
        name for name in TASKS.names() if TASKS.load(name).reads == "hidden" and TASKS.load(name).predicts != "loss"
    }
    assert heads == set(HEADS)
