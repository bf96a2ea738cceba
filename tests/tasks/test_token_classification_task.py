from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from taskloom.errors import DataError
from taskloom.tasks.token_classification import TokenClassification, best_path, needs_blanks
from taskloom.types import IGNORED

pytest_plugins = ("tokenizer_fixtures",)

CITY = {"tokens": ["to", "New", "York"], "tags": ["O", "B-city", "I-city"]}


def fitted(*tags, **options):
    task = TokenClassification(**options)
    task.fit([{"tokens": ["x"] * len(tags), "tags": list(tags)}])
    return task


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"tokens": "to York", "tags": ["O"]}, "have a list of texts in `tokens`"),
        ({"tags": ["O"]}, "have a list of texts in `tokens`"),
        ({"tokens": ["to", 5], "tags": ["O", "O"]}, "have a list of texts in `tokens`"),
        ({"tokens": [], "tags": []}, "have text in `tokens`, which is empty"),
        ({"tokens": ["", " "], "tags": ["O", "O"]}, "have text in `tokens`, which is empty"),
        ({"tokens": ["to"]}, "have a list of texts in `tags`"),
        ({"tokens": ["to"], "tags": [0]}, "have a list of texts in `tags`"),
        ({"tokens": ["to", "York"], "tags": ["O"]}, "have as many `tags` as `tokens`, not 1 and 2"),
        *[
            (
                {"tokens": ["York"], "tags": [tag]},
                f"have tags of the form O, B-x or I-x in `tags`, not `{tag}`; set `scheme: plain` for others",
            )
            for tag in ("NOUN", "B-", "b-city", "L-city", "U-city", "", "B", "o")
        ],
        (CITY, None),
        ({"tokens": ["to", ""], "tags": ["O", "O"]}, None),
    ],
)
def test_a_row_is_faulty_in_whole_words(row, complaint) -> None:
    assert TokenClassification().fault(row) == complaint


def test_the_plain_scheme_takes_any_tag() -> None:
    assert TokenClassification(scheme="plain").fault({"tokens": ["York"], "tags": ["NOUN"]}) is None


def test_a_span_can_begin_and_a_word_stand_outside_even_where_training_shows_neither() -> None:
    assert fitted("I-city", "I-day").labels == ["B-city", "B-day", "I-city", "I-day", "O"]
    assert fitted("NOUN", "I-verb", scheme="plain").labels == ["I-verb", "NOUN"]


def test_one_tag_is_refused() -> None:
    with pytest.raises(DataError, match="Found only `O`"):
        fitted("O", "O")


def test_each_words_tag_stands_at_its_first_piece(pieces) -> None:
    task = fitted("O", "B-city", "I-city")
    rows = [CITY, {"tokens": ["unfathomable", "Xylograph", "in", "Llanfair"], "tags": ["O", "B-city", "I-city", "O"]}]
    for row, (item,) in zip(rows, task.encode(rows, pieces), strict=True):
        words = pieces(row["tokens"], is_split_into_words=True).word_ids()
        assert len(set(words)) - 1 == len(row["tokens"])
        for place, word in enumerate(words):
            leads = word is not None and words.index(word) == place
            assert item["tags"][place] == (task.ids[row["tags"][word]] if leads else IGNORED)
            assert (place in item["positions"]) == leads
        assert item["words"] == sorted(set(words) - {None})


def test_words_that_the_tokenizer_drops_and_words_beyond_the_cut_are_outside(pieces) -> None:
    task = fitted("O", "B-city", "I-city", max_length=6)
    row = {"tokens": ["a", "", "a", "\u200b", "a", "a", "a", "a"], "tags": ["B-city"] * 8}
    ((item,),) = task.encode([row], pieces)
    held = pieces(row["tokens"], is_split_into_words=True, truncation=True, max_length=6).word_ids()
    assert item["words"] == [word for word in held if word is not None] == [0, 2, 4, 5]
    logits = np.zeros((1, 6, 3), dtype=np.float32)
    logits[..., task.ids["B-city"]] = 9.0
    answer = task.decode(row, [item], [logits])
    assert answer.value == ["B-city", "O", "B-city", "O", "B-city", "B-city", "O", "O"]
    assert [answer.detail["probabilities"][word] for word in (1, 3, 6, 7)] == [1.0] * 4


def test_the_loss_is_the_mean_over_an_examples_words() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (3, 7, 4))
    tags = np.array([[-100, 2, -100, 0, 3, -100, -100], [-100] * 7, [1, 1, 1, 1, 1, 1, 1]])
    wanted = []
    for sequence, held in zip(logits, tags, strict=True):
        each = [
            math.log(math.fsum(math.exp(other - token[tag]) for other in token))
            for token, tag in zip(sequence, held, strict=True)
            if tag >= 0
        ]
        wanted.append(math.fsum(each) / len(each) if each else 0.0)
    loss = TokenClassification().loss(torch.tensor(logits), {"tags": torch.tensor(tags)})
    np.testing.assert_allclose(loss, wanted, rtol=1e-12)


def is_valid(tags) -> bool:
    return all(
        not tag.startswith("I-") or before in {f"B-{tag[2:]}", tag}
        for before, tag in zip(["O", *tags[:-1]], tags, strict=True)
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_best_path_is_the_best_of_all_allowed_ones(seed) -> None:
    generator = np.random.default_rng(seed)
    task = fitted("O", "B-a", "I-a", "I-b") if seed % 2 else fitted("O", "I-a")
    words, size = int(generator.integers(1, 6)), len(task.labels)
    scores = generator.normal(0, 2, (words, size))
    paths = [
        path for path in itertools.product(range(size), repeat=words) if is_valid([task.labels[tag] for tag in path])
    ]
    best = max(paths, key=lambda path: sum(scores[word, tag] for word, tag in enumerate(path)))
    assert tuple(best_path(scores, task._allowed())) == best


@given(
    tags=st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b", "I-c"]), min_size=2, max_size=6, unique=True),
    words=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.0, 1.0, 1e4]),
)
@settings(max_examples=150, deadline=None)
def test_decoding_never_gives_an_inside_without_its_begin(tags, words, seed, scale) -> None:
    task = fitted(*tags)
    item = {"positions": list(range(words)), "words": list(range(words))}
    logits = np.random.default_rng(seed).normal(0, 1, (1, words, len(task.labels))).astype(np.float32) * scale
    answer = task.decode({"tokens": ["w"] * words}, [item], [logits])
    assert is_valid(answer.value)
    assert len(answer.value) == words


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_a_greedy_answer_that_is_valid_is_kept(seed) -> None:
    task = fitted("O", "B-a", "I-a")
    logits = np.random.default_rng(seed).normal(0, 1, (1, 3, 3)).astype(np.float32)
    greedy = [task.labels[tag] for tag in logits[0].argmax(-1)]
    answer = task.decode({"tokens": ["w"] * 3}, [{"positions": [0, 1, 2], "words": [0, 1, 2]}], [logits]).value
    assert answer == greedy or not is_valid(greedy)


def test_the_plain_scheme_gives_each_word_its_likeliest_tag() -> None:
    task = fitted("NOUN", "VERB", "I-x", scheme="plain")
    item = {"positions": [1, 3], "words": [0, 1]}
    logits = np.zeros((1, 4, 3), dtype=np.float32)
    logits[0, 1, task.ids["I-x"]] = logits[0, 3, task.ids["VERB"]] = logits[0, 2, task.ids["NOUN"]] = 5
    assert task.decode({"tokens": ["a", "b"]}, [item], [logits]).value == ["I-x", "VERB"]


def test_a_sentence_without_any_piece_is_outside_altogether(pieces) -> None:
    task = fitted("O", "B-city")
    row = {"tokens": ["\u200b", ""]}
    ((item,),) = task.encode([row], pieces)
    assert task.decode(row, [item], [np.zeros((1, 2, 2), dtype=np.float32)]).value == ["O", "O"]


def test_tags_that_training_lacks_are_not_trained_on(pieces) -> None:
    task = fitted("O", "B-city")
    assert "not `B-day`" in task.unseen({"tokens": ["to"], "tags": ["B-day"]})
    ((item,),) = task.encode([{"tokens": ["to"], "tags": ["B-day"]}], pieces)
    assert set(item["tags"]) == {IGNORED}


def test_the_baseline_is_the_most_frequent_tag_for_each_word() -> None:
    task = fitted("O", "B-a")
    assert task.baseline([{"tags": ["O", "B-a", "O"]}], [{"tokens": ["x", "y"]}, {"tokens": ["z"]}]) == [
        ["O", "O"],
        ["O"],
    ]


def test_byte_level_tokenizers_read_words_that_come_apart(byte_level) -> None:
    """RoBERTa's tokenizer as its folder describes it puts no blank before a word that comes by itself."""
    tokenizer = AutoTokenizer.from_pretrained(byte_level)
    assert needs_blanks(tokenizer)
    task = fitted("O", "B-city", "I-city")
    ((item,),) = task.encode([CITY], tokenizer)
    assert item["words"] == [0, 1, 2]
    assert item["input_ids"] == [tokenizer("to New York")["input_ids"]]
    assert [task.labels[item["tags"][place]] for place in item["positions"]] == CITY["tags"]


def test_tokenizers_that_part_words_by_themselves_are_given_no_blanks(pieces) -> None:
    assert not needs_blanks(pieces)
