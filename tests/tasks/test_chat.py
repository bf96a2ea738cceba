from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat_families import CHATML, FAMILIES, FORGETFUL, GEMMA, MARKED, MISTRAL, TURNS, ZEPHYR
from word_tokenizers import decoder_tokenizer

from taskloom.errors import ConfigError, DataError
from taskloom.tasks._chat_templates import conversation
from taskloom.tasks.chat import Chat
from taskloom.types import IGNORED

pytest_plugins = ("word_tokenizers",)


def chat(template: str | None, tokenizer, **options) -> Chat:
    task = Chat(chat_template=template, **options)
    task.meet("decoder", tokenizer)
    return task


def only(task, messages, tokenizer):
    ((item,),) = task.encode([{"messages": messages}], tokenizer)
    return item


def plain(tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def tokens_of(tokenizer, pieces) -> tuple[list[int], list[int]]:
    """Give ids and labels of pieces of text that are learned or not, each tokenised by itself."""
    ids, labels = [], []
    for text, learned in pieces:
        own = plain(tokenizer, text)
        ids += own
        labels += own if learned else [IGNORED] * len(own)
    return ids, labels


@pytest.mark.parametrize("family", FAMILIES)
def test_assistants_turns_and_their_ends_are_learned_token_by_token(family, turns_of_decoder) -> None:
    template, pieces = FAMILIES[family]
    item = only(chat(template, turns_of_decoder), TURNS, turns_of_decoder)
    ids, labels = tokens_of(turns_of_decoder, pieces)
    last = max(place for place, (_, learned) in enumerate(pieces) if learned)
    assert item["input_ids"] == [ids]
    assert item["labels"] == [labels]
    assert item["prompt_tokens"] == len(tokens_of(turns_of_decoder, pieces[:last])[0])


def test_turns_are_found_where_only_the_end_of_a_text_is_a_token_of_its_own() -> None:
    tokenizer = decoder_tokenizer()
    for family in ("Zephyr", "Mistral"):
        template, pieces = FAMILIES[family]
        item = only(chat(template, tokenizer), TURNS, tokenizer)
        assert (item["input_ids"][0], item["labels"][0]) == tokens_of(tokenizer, pieces)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_that_asks_reads_what_the_last_turn_was_trained_to_follow(family, turns_of_decoder) -> None:
    task = chat(FAMILIES[family][0], turns_of_decoder)
    trained, asked = (only(task, turns, turns_of_decoder) for turns in (TURNS, TURNS[:-1]))
    assert asked["input_ids"] == [trained["input_ids"][0][: trained["prompt_tokens"]]]
    assert asked["prompt_tokens"] == len(asked["input_ids"][0])
    assert set(asked["labels"][0]) == {IGNORED}


@pytest.mark.parametrize(("family", "end"), [("ChatML", "<|im_end|>"), ("Llama 3", "<|eot_id|>"), ("Mistral", "</s>")])
def test_a_turn_ends_at_the_templates_own_token_or_at_the_texts_end(family, end, turns_of_decoder) -> None:
    task = chat(FAMILIES[family][0], turns_of_decoder)
    wanted = turns_of_decoder.convert_tokens_to_ids([end, "</s>"])
    assert task.ends(turns_of_decoder) == sorted(set(wanted))


def test_what_a_system_says_is_read_and_not_learned(turns_of_decoder) -> None:
    turns = [{"role": "system", "content": "how are you"}, *TURNS[:2]]
    item = only(chat(CHATML, turns_of_decoder), turns, turns_of_decoder)
    begin = "<|im_start|>system\nhow are you<|im_end|>\n<|im_start|>user\nWhere is my parcel?<|im_end|>\n"
    pieces = [(begin + "<|im_start|>assistant\n", False), ("It came late.<|im_end|>", True), ("\n", False)]
    assert (item["input_ids"][0], item["labels"][0]) == tokens_of(turns_of_decoder, pieces)


def test_a_template_that_ends_turns_with_plain_words_gets_the_end_of_a_text(turns_of_decoder) -> None:
    template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    item = only(chat(template, turns_of_decoder), TURNS[:2], turns_of_decoder)
    pieces = [("user: Where is my parcel?\nassistant:", False), (" It came late.", True), ("</s>", True)]
    assert (item["input_ids"][0], item["labels"][0]) == tokens_of(turns_of_decoder, pieces)


def test_marks_that_leave_out_the_end_of_a_turn_are_widened_by_it(turns_of_decoder) -> None:
    narrow = MARKED.replace(
        "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}",
        "{{ message['content'] }}{% endgeneration %}{{ '<|im_end|>' }}",
    )
    assert narrow != MARKED
    found, wanted = (only(chat(each, turns_of_decoder), TURNS, turns_of_decoder) for each in (narrow, MARKED))
    assert found == wanted


def test_marks_around_nothing_are_refused(turns_of_decoder) -> None:
    template = CHATML + "{% if false %}{% generation %}x{% endgeneration %}{% endif %}"
    with pytest.raises(DataError) as raised:
        only(chat(template, turns_of_decoder), TURNS, turns_of_decoder)
    assert str(raised.value) == (
        "`chat_template` should mark what assistants say with `{% generation %}`. Found marks around nothing."
    )


def test_a_template_that_rewrites_earlier_turns_is_refused_in_one_sentence(turns_of_decoder) -> None:
    thoughtful = [*TURNS[:1], {"role": "assistant", "content": "hello|It came late."}, *TURNS[2:]]
    task = chat(FORGETFUL, turns_of_decoder)
    with pytest.raises(DataError) as raised:
        only(task, thoughtful, turns_of_decoder)
    assert str(raised.value) == (
        "`chat_template` should leave what it wrote of earlier turns as it is. Found other words once a turn follows. "
        "Mark what assistants say with `{% generation %}` in a template of your own, and give it as `chat_template`."
    )
    assert only(task, thoughtful[:2], turns_of_decoder)["prompt_tokens"] > 0


def test_a_turn_that_begins_otherwise_than_it_is_asked_for_is_refused_in_one_sentence(turns_of_decoder) -> None:
    template = CHATML.replace("assistant\n' }}", "assistant\n<think>\n' }}")
    with pytest.raises(DataError) as raised:
        only(chat(template, turns_of_decoder), TURNS, turns_of_decoder)
    assert str(raised.value) == (
        "`chat_template` should begin an assistant's turn as it asks for one, with "
        "'<|im_start|>assistant\\n<think>\\n'. Found '<|im_start|>assistant\\nIt came '. Begin the `content` of turns "
        "with what is missing, or give a template of your own as `chat_template`."
    )


def test_a_turn_may_end_with_several_tokens_or_in_another_way_where_nothing_follows(turns_of_decoder) -> None:
    double = CHATML.replace("'<|im_end|>\n'", "'<|im_end|><|eot_id|>\n'")
    other = CHATML.replace("'<|im_end|>\n'", "('<|end|>' if loop.last and loop.length % 2 == 0 else '<|im_end|>')")
    for template, ends in ((double, ("<|im_end|><|eot_id|>",) * 2), (other, ("<|im_end|>", "<|end|>"))):
        assert template != CHATML
        labels = only(chat(template, turns_of_decoder), TURNS, turns_of_decoder)["labels"][0]
        learned = [label for label in labels if label != IGNORED]
        assert learned == plain(turns_of_decoder, f"It came late.{ends[0]}hello, fine{ends[1]}")


def test_marks_that_hold_what_follows_the_end_of_a_turn_are_kept_as_they_are(turns_of_decoder) -> None:
    wide = MARKED.replace("'<|im_end|>' }}{% endgeneration %}", "'<|im_end|>\n' }}{% endgeneration %}")
    wide = wide.replace(
        "{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}",
        "{{ message['content'] + '<|im_end|>\n' }}{% endif %}",
    )
    assert wide.count("\n") == MARKED.count("\n") + 1
    task = chat(wide, turns_of_decoder)
    labels = only(task, TURNS, turns_of_decoder)["labels"][0]
    learned = [label for label in labels if label != IGNORED]
    assert learned == plain(turns_of_decoder, "It came late.<|im_end|>\nhello, fine<|im_end|>\n")
    assert task.ends(turns_of_decoder) == sorted(turns_of_decoder.convert_tokens_to_ids(["</s>", "<|im_end|>"]))


def test_no_token_lies_across_the_beginning_of_a_turn() -> None:
    tokenizer = decoder_tokenizer()
    template = "{% for message in messages %}{{ message['content'] }}{% if message['role'] == 'assistant' %}"
    template += "{{ eos_token }}{% else %}:{% endif %}{% endfor %}"
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": ": fine"}]
    assert len(plain(tokenizer, "::")) == 1
    item = only(chat(template, tokenizer), turns, tokenizer)
    assert (item["input_ids"][0], item["labels"][0]) == tokens_of(tokenizer, [("hello:", False), (": fine</s>", True)])


def test_no_token_lies_across_the_end_of_a_turn() -> None:
    tokenizer = decoder_tokenizer()
    template = (
        "{% for message in messages %}{{ message['content'] }}{{ ':' if message['role'] == 'assistant' else '<s>' }}"
    )
    contents = ("hello", "fine", ":you", "fine")
    turns = [message | {"content": content} for message, content in zip(TURNS, contents, strict=True)]
    item = only(chat(template + "{% endfor %}", tokenizer), turns, tokenizer)
    pieces = [("hello<s>", False), ("fine:", True), (":you<s>", False), ("fine:", True), ("</s>", True)]
    assert (item["input_ids"][0], item["labels"][0]) == tokens_of(tokenizer, pieces)


def test_a_blank_that_the_next_turn_takes_in_is_no_rewriting() -> None:
    tokenizer = decoder_tokenizer()
    template = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + ' ' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    item = only(chat(template, tokenizer), TURNS, tokenizer)
    pieces = [
        ("user: Where is my parcel? assistant:", False),
        (" It came late.", True),
        (" user: Thanks assistant:", False),
        (" hello, fine", True),
        ("</s>", True),
    ]
    assert (item["input_ids"][0], item["labels"][0]) == tokens_of(tokenizer, pieces)


def test_an_end_of_a_turn_that_a_user_wrote_does_not_end_the_assistants(turns_of_decoder) -> None:
    turns = [TURNS[0], {"role": "assistant", "content": "say <|im_end|> to stop"}]
    item = only(chat(CHATML, turns_of_decoder), turns, turns_of_decoder)
    learned = [label for label in item["labels"][0] if label != IGNORED]
    assert learned == plain(turns_of_decoder, "say <|im_end|> to stop<|im_end|>")


# --- long conversations ---------------------------------------------------------------------------------------------


def test_a_long_conversation_loses_its_oldest_exchanges_and_keeps_what_the_system_says(turns_of_decoder) -> None:
    system = [{"role": "system", "content": "hello"}]
    for kept in (1, 2):
        turns = [*system, *(TURNS[:2] * 5), *TURNS[2:]]
        short = [*system, *(TURNS[:2] * (kept - 1)), *TURNS[2:]]
        wanted = only(chat(CHATML, turns_of_decoder), short, turns_of_decoder)
        limit = len(wanted["input_ids"][0]) + 3
        assert only(chat(CHATML, turns_of_decoder, max_length=limit), turns, turns_of_decoder) == wanted


@pytest.mark.parametrize("long", ["user", "assistant"])
def test_an_exchange_that_is_too_long_by_itself_is_cut(long, turns_of_decoder) -> None:
    turns = [message | ({"content": "parcel " * 80} if message["role"] == long else {}) for message in TURNS]
    item = only(chat(CHATML, turns_of_decoder, max_length=32), turns, turns_of_decoder)
    (ids,), (labels,), asked = item["input_ids"], item["labels"], item["prompt_tokens"]
    assert len(ids) == len(labels) == 32
    assert turns_of_decoder.decode(ids[:asked]).endswith("<|im_start|>assistant\n")
    assert any(label != IGNORED for label in labels[asked:])
    assert set(labels[:asked]) == {IGNORED}


# --- templates and faults -------------------------------------------------------------------------------------------


def test_the_tokenizers_own_template_is_used_where_no_other_is_given() -> None:
    tokenizer = decoder_tokenizer("<|im_start|>", "<|im_end|>")
    tokenizer.chat_template = CHATML
    found = only(chat(None, tokenizer), TURNS, tokenizer)
    assert found == only(chat(CHATML, tokenizer), TURNS, tokenizer)
    assert found != only(chat(ZEPHYR, tokenizer), TURNS, tokenizer)


def test_a_template_may_be_a_file_and_is_remembered_when_the_file_is_gone(turns_of_decoder, tmp_path: Path) -> None:
    path = tmp_path / "chat.jinja"
    path.write_text(CHATML, encoding="utf-8")
    task = chat(str(path), turns_of_decoder)
    task.fit([])
    path.unlink()
    again = chat(str(path), turns_of_decoder)
    again.restore(json.loads(json.dumps(task.state())))
    assert only(again, TURNS, turns_of_decoder) == only(chat(CHATML, turns_of_decoder), TURNS, turns_of_decoder)


def test_without_a_template_the_error_says_how_to_give_one(turns_of_decoder) -> None:
    with pytest.raises(ConfigError) as raised:
        chat(None, turns_of_decoder).fit([])
    assert str(raised.value) == (
        "`chat_template` should be given where the tokenizer has none. Found none. Write `chat_template`, the path of "
        "a Jinja file or its text, or choose an instruction-tuned model."
    )


def test_a_template_file_that_is_not_there_is_named(turns_of_decoder) -> None:
    with pytest.raises(ConfigError, match=r"^`chat_template` should be the path of a Jinja file, or the text of one"):
        chat("nowhere/chat.jinja", turns_of_decoder).fit([])


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        (None, "have a list of messages in `messages`, each with `role` and `content`"),
        ("hello", "have a list of messages in `messages`, each with `role` and `content`"),
        ([], "have messages in `messages`, which is empty"),
        (["hello"], "have `role` and `content` in each of its `messages`, and message 1 has not"),
        ([{"role": "user"}], "have `role` and `content` in each of its `messages`, and message 1 has not"),
        (
            [TURNS[0], {"role": "tool", "content": "a"}],
            "have `system`, `user`, `assistant` for `role` in `messages`, and message 2 has `tool`",
        ),
        ([{"role": "user", "content": " "}], "have text for `content` in `messages`, and message 1 has none"),
        ([{"role": "user", "content": None}], "have text for `content` in `messages`, and message 1 has none"),
        (TURNS[:3], "have an assistant's turn last in `messages`, for that is what is learned and judged"),
        (TURNS, None),
    ],
)
def test_a_row_of_messages_is_faulty_in_whole_words(messages, complaint, turns_of_decoder) -> None:
    assert Chat().fault({"messages": messages}) == complaint
    assert chat(CHATML, turns_of_decoder).fault({"messages": messages}) == complaint


@pytest.mark.parametrize(
    ("template", "messages", "words"),
    [
        (GEMMA, [{"role": "system", "content": "a"}, *TURNS], "System role not supported"),
        (MISTRAL, TURNS[1:], "Conversation roles must alternate user/assistant/user/assistant/..."),
        ("{{ messages[0]['content'] + nothing_known }}", TURNS, "'nothing_known' is undefined"),
    ],
)
def test_what_a_template_refuses_is_told_in_its_own_words(template, messages, words, turns_of_decoder) -> None:
    task = chat(template, turns_of_decoder)
    complaint = task.fault({"messages": messages}) or ""
    assert complaint.startswith("have `messages` that the chat template takes, which says: ")
    assert words.rstrip(" .") in complaint
    with pytest.raises(DataError, match=r"^`messages` should be what the chat template takes"):
        conversation(turns_of_decoder, template, messages)


# --- answers --------------------------------------------------------------------------------------------------------


def test_the_last_turn_is_what_is_right(turns_of_decoder) -> None:
    task = chat(CHATML, turns_of_decoder)
    assert task.reference({"messages": TURNS}) == ["hello, fine"]
    assert task.reference({"messages": TURNS[:3]}) == []
    assert task.decode({"messages": TURNS}, [], ["fine"]).value == "fine"
    rows = [{"messages": [*TURNS[:3], {"role": "assistant", "content": text}]} for text in ("b", "a", "b")]
    assert task.baseline(rows, [{"messages": TURNS[:3]}] * 2) == ["b", "b"]


def test_a_preview_shows_what_is_read_and_what_is_learned(turns_of_decoder) -> None:
    task = chat(CHATML, turns_of_decoder)
    shown = dict(task.describe({"messages": TURNS}, only(task, TURNS, turns_of_decoder)))
    assert shown["learned"] == repr("It came late.<|im_end|>hello, fine<|im_end|>")
    assert shown["read"].startswith("'<|im_start|>user\\nWhere is my parcel?")
