"""Words that stand in for each other: whole words, in their letters, in one pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.data.swaps import Swaps, read_swaps
from taskloom.errors import DataError

PAIRS = [["he", "she"], ["his", "her"], ["Emily", "Lakisha"], ["my wife", "my husband"]]
WORDS = [
    "he",
    "She",
    "HIS",
    "her",
    "Emily",
    "lakisha",
    "LAKISHA",
    "my wife",
    "My husband",
    "there",
    "the",
    "sheep",
    ".",
]


@given(st.lists(st.sampled_from(WORDS)))
def test_pairs_swapped_twice_are_as_they_were(words: list[str]) -> None:
    text, swaps = " ".join(words), Swaps(PAIRS)
    assert swaps.text(swaps.text(text)) == text


@given(st.lists(st.sampled_from(["red", "Green", "BLUE", "yellow", "he"])), st.integers(1, 2))
def test_a_set_of_three_comes_round_and_each_turn_gives_another_text(words: list[str], turn: int) -> None:
    swaps, text = Swaps([["red", "green", "blue"], ["he", "she"]]), " ".join(words)
    colours = [word for word in words if word != "he"]
    assert swaps.turns == 2
    assert swaps.text(swaps.text(" ".join(colours), turn), 3 - turn) == " ".join(colours)
    if any(word in text for word in ("red", "Green", "BLUE")):
        assert len({text, swaps.text(text, 1), swaps.text(text, 2)}) == 3


def test_words_are_found_whole_and_keep_their_letters() -> None:
    swaps = Swaps(PAIRS)
    assert swaps.text("He said: the sheep, HIS sheep, heard her. She's there") == (
        "She said: the sheep, HER sheep, heard his. He's there"
    )
    assert swaps.text("Emily and emily, LAKISHA; my  wife, My Husband") == (
        "Lakisha and emily, EMILY; my husband, My wife"
    )


def test_no_swap_undoes_another() -> None:
    assert Swaps([["he", "she"]]).text("he she he") == "she he she"
    assert Swaps([["a", "b", "c"]]).text("a b c") == "b c a"


def test_longer_words_win_over_those_in_them() -> None:
    assert Swaps([["old man", "old woman"], ["man", "woman"]]).text("An old man, a man") == "An old woman, a woman"


def test_rows_are_swapped_column_by_column_and_list_by_list() -> None:
    row = {"text": "he left", "choices": ["she", "it"], "label": "he", "n": 3}
    swapped = Swaps([["he", "she"]]).row(row, ["text", "choices", "absent", "n"])
    assert swapped == {"text": "she left", "choices": ["he", "it"], "label": "he", "n": 3}
    assert row["text"] == "he left"


def test_a_file_is_a_list_of_sets(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text("- [he, she]\n- [no, yes]\n", encoding="utf-8")
    assert read_swaps(path).sets == [["he", "she"], ["no", "yes"]]
    path.write_text("[[he, she], [Emily, Lakisha]]", encoding="utf-8")
    assert read_swaps(path).sets == [["he", "she"], ["Emily", "Lakisha"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "he: she\n",
            "`{path}` should be a list of sets of words. Found a dict. "
            "Write a line such as `- [he, she]` for each set of words.",
        ),
        (
            "- [he]\n- [she, 3]\n- [it, It]\n",
            "`swaps, set 1` should hold two words or more. Found `['he']`.\n"
            "`swaps, set 2` should hold words. Found `3`. Put it into quotes.\n"
            "`swaps` should hold each word once. Found `it` 2 times. "
            "A word has one stand-in; keep it where it is most often right.",
        ),
        (
            "- [he, she\n",
            "`{path}` should be YAML in UTF-8. Found while parsing a flow sequence. "
            "Write a line such as `- [he, she]` for each set of words.",
        ),
    ],
)
def test_what_is_no_list_of_sets_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_swaps(path)
    assert str(caught.value) == message.format(path=path)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataError) as caught:
        read_swaps("nowhere.yaml")
    assert str(caught.value) == (
        "`nowhere.yaml` should be a list of sets of words. Found no such file. "
        "Write a line such as `- [he, she]` for each set of words."
    )
