from __future__ import annotations

from word_tokenizers import decoder_tokenizer

from taskloom.tasks.completion import Completion
from taskloom.types import IGNORED

pytest_plugins = ("word_tokenizers",)

PAIR = {"prompt": "The capital of France is", "completion": " Paris."}


def met(task, family, tokenizer):
    task.meet(family, tokenizer)
    return task


def plain(tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def only(task, row, tokenizer):
    ((item,),) = task.encode([row], tokenizer)
    return item


def test_a_completion_is_learned_and_its_prompt_is_not(bytes_of_decoder) -> None:
    item = only(met(Completion(), "decoder", bytes_of_decoder), PAIR, bytes_of_decoder)
    prompt, answer = [0, *plain(bytes_of_decoder, PAIR["prompt"])], [*plain(bytes_of_decoder, " Paris."), 1]
    assert item["input_ids"] == [prompt + answer]
    assert item["labels"] == [[IGNORED] * len(prompt) + answer]
    assert item["prompt_tokens"] == len(prompt)


def test_no_token_lies_across_the_end_of_a_prompt() -> None:
    tokenizer = decoder_tokenizer()
    assert len(plain(tokenizer, "::")) == 1
    item = only(met(Completion(), "decoder", tokenizer), {"prompt": "a:", "completion": ":b"}, tokenizer)
    assert item["input_ids"][0][: item["prompt_tokens"]] == plain(tokenizer, "a:")


def test_a_long_prompt_loses_its_beginning_but_not_the_token_that_begins_texts(bytes_of_decoder) -> None:
    row = {"prompt": "never read " + "parcel " * 100 + "Answer:", "completion": " yes"}
    task = met(Completion(max_length=32, max_target_length=6), "decoder", bytes_of_decoder)
    item = only(task, row, bytes_of_decoder)
    asked = item["input_ids"][0][: item["prompt_tokens"]]
    assert len(asked) == 32 - 6 - 1
    assert asked[0] == 0
    assert bytes_of_decoder.decode(asked).endswith("parcel Answer:")


def test_a_tokenizer_that_ends_every_text_does_not_end_a_decoders_prompt(sentinels) -> None:
    item = only(met(Completion(), "decoder", sentinels), PAIR, sentinels)
    assert 1 not in item["input_ids"][0][: item["prompt_tokens"]]
    assert item["input_ids"][0][-1] == 1


def test_an_encoder_decoder_completes_too(sentinels) -> None:
    item = only(met(Completion(), "encoder_decoder", sentinels), PAIR, sentinels)
    assert item["input_ids"] == [[*plain(sentinels, PAIR["prompt"]), 1]]
    assert item["labels"] == [[*plain(sentinels, PAIR["completion"]), 1]]


def test_a_completion_is_judged_without_the_blanks_around_it() -> None:
    assert Completion().reference(PAIR) == ["Paris."]
    assert Completion().fault(PAIR) is None
    assert Completion().fault({"prompt": "a"}) == "have text in `completion`, not nothing"


def test_a_preview_shows_prompt_and_answer(bytes_of_decoder) -> None:
    task = met(Completion(), "decoder", bytes_of_decoder)
    described = task.describe(PAIR, only(task, PAIR, bytes_of_decoder))
    assert described == [("prompt", "'The capital of France is'"), ("answer", "' Paris.'")]
