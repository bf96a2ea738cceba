from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from word_tokenizers import decoder_tokenizer

from taskloom.errors import ConfigError
from taskloom.metrics.perplexity import Perplexity
from taskloom.tasks._language import LIMIT_BASELINE_ROWS
from taskloom.tasks.causal_language_modelling import CausalLanguageModelling
from taskloom.tasks.masked_language_modelling import MaskedLanguageModelling
from taskloom.tasks.span_corruption import SpanCorruption, lengths, sentinels_of
from taskloom.types import IGNORED

pytest_plugins = ("tokenizer_fixtures", "word_tokenizers")

TEXT = "The parcel came late and the box was torn. Where is my parcel? It arrives tomorrow, thank you."


def met(task, family, tokenizer):
    task.meet(family, tokenizer)
    return task


def plain(tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def items_of(task, text, tokenizer):
    (items,) = task.encode([{"text": text}], tokenizer)
    return items


# --- forwards -------------------------------------------------------------------------------------------------------


def test_every_token_is_learned_but_the_first_and_the_end_is_too(bytes_of_decoder) -> None:
    ids = [0, *plain(bytes_of_decoder, TEXT), 1]
    (item,) = items_of(met(CausalLanguageModelling(), "decoder", bytes_of_decoder), TEXT, bytes_of_decoder)
    assert item == {"input_ids": [ids], "labels": [[IGNORED, *ids[1:]]], "prompt_tokens": 1}


@pytest.mark.parametrize("size", [2, 3, 7, 10])
def test_windows_of_a_long_text_foretell_each_token_once(size, bytes_of_decoder) -> None:
    whole = [0, *plain(bytes_of_decoder, TEXT), 1]
    task = met(CausalLanguageModelling(max_length=size), "decoder", bytes_of_decoder)
    items = items_of(task, TEXT, bytes_of_decoder)
    assert [label for item in items for label in item["labels"][0] if label != IGNORED] == whole[1:]
    assert all(1 < len(item["input_ids"][0]) <= size for item in items)
    for before, after in pairwise(items):
        assert after["input_ids"][0][0] == before["input_ids"][0][-1]


def test_a_text_that_its_tokenizer_ends_is_not_ended_twice(sentinels) -> None:
    (item,) = items_of(met(CausalLanguageModelling(), "decoder", sentinels), "The parcel", sentinels)
    assert item["input_ids"] == [[*plain(sentinels, "The parcel"), 1]]


# --- gaps -----------------------------------------------------------------------------------------------------------


def test_the_chosen_tokens_are_labelled_and_all_others_stand_as_they_were(pieces) -> None:
    task = met(MaskedLanguageModelling(mask_share=0.4), "encoder", pieces)
    (item,) = items_of(task, TEXT, pieces)
    original = pieces(TEXT)["input_ids"]
    (ids,), (labels,) = item["input_ids"], item["labels"]
    assert len(ids) == len(labels) == len(original) == len(item["token_type_ids"][0])
    chosen = [place for place, label in enumerate(labels) if label != IGNORED]
    assert len(chosen) == round(0.4 * (len(original) - 2))
    assert all(labels[place] == original[place] for place in chosen)
    assert all(ids[place] == original[place] for place in range(len(ids)) if place not in chosen)
    assert not {0, len(ids) - 1} & set(chosen)


def test_of_the_chosen_tokens_four_fifths_become_the_mask_and_a_tenth_stay(pieces) -> None:
    task = met(MaskedLanguageModelling(mask_share=0.5), "encoder", pieces)
    kinds: Counter[str] = Counter()
    for number in range(150):
        (item,) = items_of(task, f"{TEXT} {number}", pieces)
        for read, label in zip(item["input_ids"][0], item["labels"][0], strict=True):
            if label != IGNORED:
                kinds["mask" if read == pieces.mask_token_id else "same" if read == label else "other"] += 1
    total = sum(kinds.values())
    for kind, share in (("mask", 0.8), ("same", 0.1), ("other", 0.1)):
        assert abs(kinds[kind] / total - share) < 4 * math.sqrt(share * (1 - share) / total) + 1e-3


def test_gaps_depend_on_the_text_and_the_seed_alone(pieces) -> None:
    task = met(MaskedLanguageModelling(), "encoder", pieces)
    alone = items_of(task, TEXT, pieces)
    _, beside = task.encode([{"text": "hello"}, {"text": TEXT}], pieces)
    assert beside == alone
    assert items_of(met(MaskedLanguageModelling(seed=1), "encoder", pieces), TEXT, pieces) != alone


def test_a_short_text_has_one_gap_and_a_long_one_several_windows(pieces) -> None:
    (item,) = items_of(met(MaskedLanguageModelling(), "encoder", pieces), "hello", pieces)
    assert sum(label != IGNORED for label in item["labels"][0]) == 1
    items = items_of(met(MaskedLanguageModelling(max_length=12), "encoder", pieces), TEXT, pieces)
    original = pieces(TEXT, add_special_tokens=False)["input_ids"]
    told = [
        label if label != IGNORED else read
        for item in items
        for read, label in zip(item["input_ids"][0][1:-1], item["labels"][0][1:-1], strict=True)
    ]
    assert told == original
    assert all(len(item["input_ids"][0]) <= 12 for item in items)


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    with pytest.raises(ConfigError) as raised:
        MaskedLanguageModelling().meet("encoder", decoder_tokenizer())
    assert str(raised.value) == (
        "`model.name_or_path` should be an encoder whose tokenizer has a mask (`mask_token`). Found none. "
        "Choose an encoder that was made with one."
    )


# --- spans ----------------------------------------------------------------------------------------------------------


def restored(item, marks: list[int]) -> list[int]:
    """Put the spans of an item's labels back where their sentinels stand."""
    spans: dict[int, list[int]] = {}
    for number in item["labels"][0][:-1]:
        if number in marks:
            spans[number] = []
        else:
            spans[list(spans)[-1]].append(number)
    ids = item["input_ids"][0][:-1]
    return [token for number in ids for token in (spans[number] if number in marks else [number])]


@pytest.mark.parametrize("size", [4, 9, 30, 60])
def test_spans_behind_their_sentinels_restore_the_text(size, sentinels) -> None:
    task = met(SpanCorruption(max_length=size), "encoder_decoder", sentinels)
    marks, items = sentinels_of(sentinels), items_of(task, TEXT, sentinels)
    assert [token for item in items for token in restored(item, marks)] == plain(sentinels, TEXT)
    for item in items:
        (source,), (target,) = item["input_ids"], item["labels"]
        assert len(source) <= size
        assert source[-1] == target[-1] == 1
        used = [number for number in target if number in marks]
        assert used == marks[: len(used)]
        assert [number for number in source if number in marks] == used[:-1]
        assert item["prompt_tokens"] == len(source)


def test_a_window_loses_the_share_of_tokens_and_the_number_of_spans_that_is_asked_for(sentinels) -> None:
    task = met(SpanCorruption(max_length=61, noise_density=0.3, mean_span_length=3.0), "encoder_decoder", sentinels)
    item = items_of(task, TEXT * 3, sentinels)[0]
    marks = set(sentinels_of(sentinels))
    gone = [number for number in item["labels"][0][:-1] if number not in marks]
    assert len(gone) == round(60 * 0.3)
    assert sum(number in marks for number in item["input_ids"][0]) == 6


def test_spans_depend_on_the_text_and_the_seed_alone(sentinels) -> None:
    task = met(SpanCorruption(max_length=40), "encoder_decoder", sentinels)
    alone = items_of(task, TEXT, sentinels)
    _, beside = task.encode([{"text": "hello"}, {"text": TEXT}], sentinels)
    assert beside == alone
    assert items_of(met(SpanCorruption(max_length=40, seed=1), "encoder_decoder", sentinels), TEXT, sentinels) != alone


def test_a_text_of_one_token_is_written_out_whole(sentinels) -> None:
    words = (sentinels.decode([number]) for number in range(13, len(sentinels)))
    word = next(word for word in words if word.isalpha() and len(plain(sentinels, word)) == 1)
    (item,) = items_of(met(SpanCorruption(max_length=20), "encoder_decoder", sentinels), word, sentinels)
    first, second = sentinels_of(sentinels)[:2]
    assert item["input_ids"] == [[first, 1]]
    assert item["labels"] == [[first, *plain(sentinels, word), second, 1]]


@given(total=st.integers(1, 40), data=st.data())
@settings(max_examples=50, deadline=None)
def test_lengths_are_one_or_more_and_add_up(total, data) -> None:
    parts = data.draw(st.integers(1, total))
    found = lengths(total, parts, np.random.default_rng(data.draw(st.integers(0, 99))))
    assert len(found) == parts
    assert sum(found) == total
    assert min(found) >= 1


def test_sentinels_that_are_absent_or_too_few_are_told(sentinels) -> None:
    with pytest.raises(ConfigError) as raised:
        SpanCorruption().meet("encoder_decoder", decoder_tokenizer())
    assert str(raised.value) == (
        "`model.name_or_path` should be an encoder-decoder that was made with sentinels, such as T5. "
        "Found a tokenizer with no `<extra_id_0>`."
    )
    with pytest.raises(ConfigError) as raised:
        SpanCorruption(max_length=512).meet("encoder_decoder", sentinels)
    assert str(raised.value) == (
        "`max_length` should be so small that the 10 sentinels of the tokenizer suffice. Found `512`, which needs 27. "
        "Lower it or `noise_density`, or raise `mean_span_length`."
    )


# --- judging --------------------------------------------------------------------------------------------------------


def test_a_prediction_adds_up_what_the_tokens_of_all_windows_cost(bytes_of_decoder) -> None:
    task = met(CausalLanguageModelling(max_length=8), "decoder", bytes_of_decoder)
    items = items_of(task, TEXT, bytes_of_decoder)
    generator = np.random.default_rng(0)
    outputs = [generator.random((1, 12)).astype(np.float32) for _ in items]
    answer = task.decode({"text": TEXT}, items, outputs)
    parts = [out[0, 1 : len(item["input_ids"][0])].sum() for item, out in zip(items, outputs, strict=True)]
    tokens = len(plain(bytes_of_decoder, TEXT)) + 1
    assert answer.value["tokens"] == tokens
    assert answer.value["nll"] == pytest.approx(sum(map(float, parts)), rel=1e-5)
    assert answer.detail["perplexity"] == pytest.approx(math.exp(answer.value["nll"] / tokens), rel=1e-5)


def test_the_loss_of_a_window_is_the_mean_over_its_learned_tokens(bytes_of_decoder) -> None:
    task = met(CausalLanguageModelling(), "decoder", bytes_of_decoder)
    items = [items_of(task, text, bytes_of_decoder)[0] for text in ("hello", TEXT)]
    width = max(len(item["input_ids"][0]) for item in items)
    output = torch.rand(2, width)
    wanted = [output[index, 1 : len(item["input_ids"][0])].mean() for index, item in enumerate(items)]
    torch.testing.assert_close(task.loss(output, task.targets(items, width)), torch.stack(wanted))


def test_the_baseline_foretells_tokens_by_their_frequency_in_training(bytes_of_decoder) -> None:
    task = met(CausalLanguageModelling(), "decoder", bytes_of_decoder)
    train = [{"text": "hello hello"}, {"text": "hello you"}]
    seen = Counter(number for row in train for number in [*plain(bytes_of_decoder, row["text"]), 1])
    size = len(bytes_of_decoder)
    wanted = [*plain(bytes_of_decoder, "you hello"), 1]
    cost = -sum(math.log((seen[number] + 1) / (sum(seen.values()) + size)) for number in wanted)
    (said,) = task.baseline(train, [{"text": "you hello"}])
    assert said == {"nll": pytest.approx(cost), "tokens": len(wanted)}
    rare = [{"text": "you"}] * LIMIT_BASELINE_ROWS
    assert task.baseline([*rare, *train], [{"text": "hello"}]) == task.baseline(rare, [{"text": "hello"}])


def test_a_text_is_its_own_reference_and_an_empty_one_is_faulty() -> None:
    task = SpanCorruption()
    assert task.reference({"text": "a"}) == "a"
    assert task.fault({"text": "a"}) is None
    assert task.fault({"text": " "}) == "have text in `text`, which is empty"


def test_perplexity_weighs_tokens_alike_and_texts_by_their_length() -> None:
    said = [{"nll": 4.0, "tokens": 4}, {"nll": 0.0, "tokens": 1}]
    assert Perplexity().score(said, ["", ""]) == pytest.approx(math.exp(4 / 5))
    counts = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found = Perplexity().resample(said, ["", ""], counts)
    assert found.tolist() == pytest.approx([math.e, 1.0, math.exp(4 / 5)])
    assert Perplexity().normalise(found).tolist() == pytest.approx([1 / math.e, 1.0, math.exp(-4 / 5)])


@pytest.mark.filterwarnings("error")
def test_perplexity_of_no_token_is_no_number_and_of_a_hopeless_model_is_finite() -> None:
    assert math.isnan(Perplexity().score([{"nll": 0.0, "tokens": 0}], [""]))
    assert math.isfinite(Perplexity().score([{"nll": 1e6, "tokens": 1}], [""]))


def test_a_preview_shows_the_learned_tokens(bytes_of_decoder) -> None:
    task = met(CausalLanguageModelling(), "decoder", bytes_of_decoder)
    (item,) = items_of(task, "hello you", bytes_of_decoder)
    assert task.describe({"text": "hello you"}, item) == [("learned", "'hello you</s>'")]
