from __future__ import annotations

import pytest
import torch
from word_tokenizers import decoder_tokenizer

from taskloom.errors import ConfigError
from taskloom.tasks.text_to_text import TextToText
from taskloom.types import IGNORED

pytest_plugins = ("word_tokenizers",)

ROW = {"source": "The parcel came late.", "target": "Late parcel"}


def met(task, family, tokenizer):
    task.meet(family, tokenizer)
    return task


def plain(tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def only(task, row, tokenizer):
    ((item,),) = task.encode([row], tokenizer)
    return item


def test_a_decoder_reads_source_and_target_in_one_sequence_and_learns_the_target_and_its_end(bytes_of_decoder) -> None:
    item = only(met(TextToText(prefix="shorten: "), "decoder", bytes_of_decoder), ROW, bytes_of_decoder)
    prompt = [0, *plain(bytes_of_decoder, "shorten: The parcel came late.\n")]
    answer = [*plain(bytes_of_decoder, "Late parcel"), 1]
    assert item == {
        "input_ids": [prompt + answer],
        "labels": [[IGNORED] * len(prompt) + answer],
        "prompt_tokens": len(prompt),
    }


def test_an_encoder_decoder_reads_the_source_and_writes_the_target_and_its_end(sentinels) -> None:
    item = only(met(TextToText(prefix="shorten: "), "encoder_decoder", sentinels), ROW, sentinels)
    source = [*plain(sentinels, "shorten: The parcel came late."), 1]
    assert item == {
        "input_ids": [source],
        "labels": [[*plain(sentinels, "Late parcel"), 1]],
        "prompt_tokens": len(source),
    }


def test_a_row_without_a_target_is_asked_the_same_and_learns_nothing(bytes_of_decoder, sentinels) -> None:
    for family, tokenizer in (("decoder", bytes_of_decoder), ("encoder_decoder", sentinels)):
        task = met(TextToText(), family, tokenizer)
        known, asked = only(task, ROW, tokenizer), only(task, {"source": ROW["source"]}, tokenizer)
        count = known["prompt_tokens"]
        assert asked["input_ids"] == [known["input_ids"][0][:count]]
        assert asked["prompt_tokens"] == count
        assert asked["labels"] == ([[IGNORED] * count] if family == "decoder" else [[1]])


def test_a_template_puts_words_around_the_source(bytes_of_decoder) -> None:
    task = met(TextToText(prefix="P ", template="{prefix}<{source}> {x}\nShort:"), "decoder", bytes_of_decoder)
    item = only(task, ROW, bytes_of_decoder)
    asked = item["input_ids"][0][: item["prompt_tokens"]]
    assert asked == [0, *plain(bytes_of_decoder, "P <The parcel came late.> {x}\nShort:")]


@pytest.mark.parametrize("template", ["no place", "{source} and {source}"])
def test_a_template_that_does_not_hold_the_source_once_is_refused(template) -> None:
    with pytest.raises(ConfigError) as raised:
        TextToText(template=template)
    assert str(raised.value) == (
        f'`template` should hold `{{source}}` once. Found `{template}`. Write for example "{{source}}\\nSummary:".'
    )


def test_a_long_source_is_cut_at_its_right_and_the_words_around_it_stay(bytes_of_decoder, sentinels) -> None:
    row = {"source": "parcel " * 200 + "never read", "target": "Late"}
    task = met(TextToText(prefix="shorten: ", max_length=40, max_target_length=8), "decoder", bytes_of_decoder)
    item = only(task, row, bytes_of_decoder)
    asked = item["input_ids"][0][: item["prompt_tokens"]]
    assert len(asked) == 40 - 8 - 1
    text = bytes_of_decoder.decode(asked)
    assert text.startswith("<s>shorten: parcel parcel")
    assert text.endswith("\n")
    assert "never" not in text
    task = met(TextToText(max_length=20), "encoder_decoder", sentinels)
    source = only(task, row, sentinels)["input_ids"][0]
    assert len(source) == 20
    assert source[-1] == 1


def test_a_prompt_is_cut_alike_whatever_its_answer(bytes_of_decoder) -> None:
    task = met(TextToText(max_length=64, max_target_length=40), "decoder", bytes_of_decoder)
    rows = [{"source": "parcel " * 100, "target": text} for text in ("a", "late " * 60)] + [{"source": "parcel " * 100}]
    items = [item for own in task.encode(rows, bytes_of_decoder) for item in own]
    asked = {tuple(item["input_ids"][0][: item["prompt_tokens"]]) for item in items}
    assert len(asked) == 1
    assert all(len(item["input_ids"][0]) <= 64 for item in items)


def test_a_target_that_is_cut_teaches_no_end(bytes_of_decoder, sentinels) -> None:
    row = {"source": "a", "target": "parcel " * 40}
    for family, tokenizer in (("decoder", bytes_of_decoder), ("encoder_decoder", sentinels)):
        task = met(TextToText(max_target_length=5), family, tokenizer)
        learned = [label for label in only(task, row, tokenizer)["labels"][0] if label != IGNORED]
        assert learned == plain(tokenizer, row["target"])[:5]


def test_what_a_tokenizer_begins_targets_with_is_written_by_encoder_decoders(bytes_of_decoder) -> None:
    item = only(met(TextToText(), "encoder_decoder", bytes_of_decoder), ROW, bytes_of_decoder)
    assert item["labels"] == [[0, *plain(bytes_of_decoder, "Late parcel"), 1]]


def test_of_several_targets_the_first_is_learned_and_all_are_right(bytes_of_decoder) -> None:
    task = met(TextToText(), "decoder", bytes_of_decoder)
    row = ROW | {"target": ["Late parcel", " A torn box "]}
    assert only(task, row, bytes_of_decoder) == only(task, ROW, bytes_of_decoder)
    assert task.reference(row) == ["Late parcel", "A torn box"]
    assert task.reference(ROW) == ["Late parcel"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"source": None}, "have text in `source`, not nothing"),
        ({"source": " "}, "have text in `source`, which is empty"),
        ({"target": 3}, "have text in `target`, not int `3`"),
        ({"target": []}, "have text in `target`, or a list of texts"),
        ({"target": ["a", ""]}, "have text in `target`, or a list of texts"),
        ({"target": ["a"], "source": None}, "have text in `source`, not nothing"),
        ({"target": ["a", "b"]}, None),
        ({}, None),
    ],
)
def test_a_row_of_texts_is_faulty_in_whole_words(change, complaint) -> None:
    assert TextToText().fault(ROW | change) == complaint


def test_the_loss_is_the_mean_over_the_targets_tokens(bytes_of_decoder) -> None:
    task = met(TextToText(), "decoder", bytes_of_decoder)
    items = [only(task, ROW, bytes_of_decoder), only(task, ROW | {"target": "Torn"}, bytes_of_decoder)]
    width = max(len(item["input_ids"][0]) for item in items)
    output = torch.rand(2, width, generator=torch.Generator().manual_seed(0))
    targets = task.targets(items, width)
    wanted = []
    for index, item in enumerate(items):
        places = range(item["prompt_tokens"], len(item["input_ids"][0]))
        wanted.append(sum(float(output[index, place]) for place in places) / len(places))
        assert int(task.terms(targets)[index]) == len(places)
    assert task.loss(output, targets).tolist() == pytest.approx(wanted, rel=1e-6)


def test_the_baseline_is_the_most_frequent_target_of_training() -> None:
    train = [{"source": "x", "target": target} for target in ("b", "a", ["b", "c"], "a", "b")]
    assert TextToText().baseline(train, [{"source": "y"}] * 2) == ["b", "b"]


def test_the_generated_text_is_the_answer() -> None:
    assert TextToText().decode(ROW, [], ["Late parcel"]).value == "Late parcel"


def test_a_tokenizer_that_cannot_end_a_text_is_refused() -> None:
    tokenizer = decoder_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ConfigError) as raised:
        TextToText().meet("decoder", tokenizer)
    assert str(raised.value) == (
        "`model.name_or_path` should be a backbone whose tokenizer has a token that ends a text (`eos_token`). "
        "Found none. Without one, generation would never stop; choose another backbone, or "
        "set `eos_token` in its tokenizer."
    )
