"""Classification, tagging and extraction whose answers are written: what is asked, learned, allowed and read back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import GPT2Config, GPT2LMHeadModel

from answer_tokenizers import answer_tokenizer
from taskloom.errors import ConfigError, DataError
from taskloom.generation.constraints import Constraint, ConstraintProcessor
from taskloom.tasks import Task
from taskloom.tasks.classification_as_text import ClassificationAsText
from taskloom.tasks.extraction import Extraction
from taskloom.tasks.tagging_as_text import TaggingAsText

INTENTS = [
    {"text": "play some jazz", "label": "PlayMusic"},
    {"text": "fly to New York", "label": "book_flight"},
    {"text": "fly on Monday", "label": "book_flight"},
]
TAGGED = [
    {"tokens": ["to", "New", "York", "on", "Monday"], "tags": ["O", "B-city", "I-city", "O", "B-day"]},
    {"tokens": ["U.S.", "Grant", "San", "Francisco"], "tags": ["B-hotel", "I-hotel", "B-city", "I-city"]},
    {"tokens": ["play", "jazz"], "tags": ["O", "O"]},
]
SLOTTED = [
    {"text": "Two nights in New York, from Monday.", "slots": {"day": "Monday", "city": "New York"}},
    {"text": "From York to New York", "slots": {"city": ["New York", "York"], "day": None}},
    {"text": "play jazz", "slots": []},
    {"text": "York, York", "slots": [{"label": "city", "value": "York"}, {"label": "city", "value": "York"}]},
]
KINDS: list[tuple[type[Any], list[dict[str, Any]], str]] = [
    (ClassificationAsText, INTENTS, "label"),
    (TaggingAsText, TAGGED, "tags"),
    (Extraction, SLOTTED, "slots"),
]
FAMILIES = [("decoder", "byte-level"), ("encoder_decoder", "unigram"), ("encoder_decoder", "wordpiece")]


def ready(kind: type[Any], rows: list[dict[str, Any]], family: str, make: str, **options: Any) -> Any:
    task = kind(**options)
    task.meet(family, answer_tokenizer(make))
    task.fit(rows)
    return task


def items_of(task: Task, rows: list[dict[str, Any]], make: str) -> list[dict[str, Any]]:
    return [items[0] for items in task.encode(rows, answer_tokenizer(make))]


def learned(item: dict[str, Any]) -> list[int]:
    return [label for label in item["labels"][0] if label != -100]


def constraint_of(task: Any, row: dict[str, Any], item: dict[str, Any], make: str) -> Constraint:
    constraint: Constraint = task.constraint(row, item, answer_tokenizer(make))
    return constraint


@pytest.mark.parametrize(
    ("kind", "rows", "prompt", "answer"),
    [
        (ClassificationAsText, INTENTS, "play some jazz\nlabel:", " PlayMusic"),
        (TaggingAsText, TAGGED, "to New York on Monday\ntags:", " city: New York; day: Monday"),
        (Extraction, SLOTTED, "Two nights in New York, from Monday.\nvalues:", " city: New York; day: Monday"),
    ],
)
def test_a_decoder_learns_the_answer_behind_the_prompt_and_its_end(
    kind: type[Any], rows: list[dict[str, Any]], prompt: str, answer: str
) -> None:
    tokenizer = answer_tokenizer("byte-level")
    item = items_of(ready(kind, rows, "decoder", "byte-level"), rows, "byte-level")[0]
    asked, said = (tokenizer(text)["input_ids"] for text in (prompt, answer))
    assert item["input_ids"] == [[*asked, *said, tokenizer.eos_token_id]]
    assert item["labels"] == [[-100] * len(asked) + [*said, tokenizer.eos_token_id]]
    assert item["prompt_tokens"] == len(asked)


def test_an_encoder_decoder_reads_the_prompt_and_learns_the_answer() -> None:
    tokenizer = answer_tokenizer("unigram")
    item = items_of(ready(Extraction, SLOTTED, "encoder_decoder", "unigram"), SLOTTED, "unigram")[0]
    assert item["input_ids"] == [tokenizer("Two nights in New York, from Monday.\nvalues:")["input_ids"]]
    assert item["input_ids"][0][-1] == tokenizer.eos_token_id
    assert item["labels"][0][-1] == tokenizer.eos_token_id
    assert tokenizer.decode(item["labels"][0], skip_special_tokens=True).strip() == "city: New York; day: Monday"


@pytest.mark.parametrize(("family", "make"), FAMILIES)
@pytest.mark.parametrize(("kind", "rows", "column"), KINDS)
def test_what_is_learned_is_allowed_and_reads_back_as_the_row_has_it(
    kind: type[Any], rows: list[dict[str, Any]], column: str, family: str, make: str
) -> None:
    tokenizer, task = answer_tokenizer(make), ready(kind, rows, family, make)
    for row, item in zip(rows, items_of(task, rows, make), strict=True):
        tokens = learned(item)
        assert tokens[-1] == tokenizer.eos_token_id
        assert constraint_of(task, row, item, make).accepts(tokens[:-1])
        said = tokenizer.decode(tokens, skip_special_tokens=True).strip()
        value = task.decode(row, [item], [said]).value
        if column == "slots":
            by_pair = sorted((slot["label"], slot["value"]) for slot in value)
            assert by_pair == sorted((slot["label"], slot["value"]) for slot in task.reference(row))
        else:
            assert value == task.reference(row) == row[column]


@pytest.mark.parametrize(("family", "make"), FAMILIES)
@pytest.mark.parametrize(("kind", "rows", "column"), KINDS)
def test_rows_without_an_answer_ask_the_same(
    kind: type[Any], rows: list[dict[str, Any]], column: str, family: str, make: str
) -> None:
    task = ready(kind, rows, family, make)
    bare_rows = [{key: value for key, value in row.items() if key != column} for row in rows]
    for item, without in zip(items_of(task, rows, make), items_of(task, bare_rows, make), strict=True):
        length = item["prompt_tokens"]
        assert without["prompt_tokens"] == length
        assert without["input_ids"][0] == item["input_ids"][0][:length]
        assert len(learned(without)) == (1 if family == "encoder_decoder" else 0)


@pytest.mark.parametrize(("kind", "rows", "column"), KINDS)
def test_an_untrained_decoder_answers_every_row(kind: type[Any], rows: list[dict[str, Any]], column: str) -> None:
    make = "byte-level"
    tokenizer, task = answer_tokenizer(make), ready(kind, rows, "decoder", make)
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 256}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape)).eval()
    for row, item in zip(rows, items_of(task, rows, make), strict=True):
        ids = torch.tensor(item["input_ids"])[:, : item["prompt_tokens"]]
        processor = ConstraintProcessor([constraint_of(task, row, item, make)], ids.shape[1], 16)
        options: dict[str, Any] = {"max_new_tokens": 16, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
        found = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), logits_processor=[processor], **options
        )
        said = tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True).strip()
        answer = task.decode(row, [item], [said])
        assert answer.detail["text"] == said != ""
        if column == "label":
            assert said == answer.value
        elif column == "tags":
            assert sum(tag.startswith("B-") for tag in answer.value) == said.count(": ")
        else:
            assert len(answer.value) == said.count(": ")


def test_a_cut_text_is_asked_for_what_is_left_of_it() -> None:
    text = "New York and " + "then " * 40 + "Monday"
    rows = [{"text": text, "slots": {"city": "New York", "day": "Monday"}}]
    for family, make in FAMILIES:
        task = ready(Extraction, rows, family, make, max_length=64, max_new_tokens=24)
        item, tokenizer = items_of(task, rows, make)[0], answer_tokenizer(make)
        prompt = tokenizer.decode(item["input_ids"][0][: item["prompt_tokens"]])
        assert "ork and then" in prompt
        assert "values" in prompt[-16:]
        assert "onday" not in prompt
        assert item["prompt_tokens"] <= 64
        said = tokenizer.decode(learned(item), skip_special_tokens=True).strip()
        assert said.lower().replace(" :", ":") == "city: new york"
        # A word that is cut within is no word of the text.
        form: Any = constraint_of(task, rows[0], item, make)
        assert len(form.firsts) == len(text[: item["shown"]].split()) - (text[item["shown"]] != " ")
        assert 3 < len(form.firsts) < 40


def test_tags_beyond_a_cut_are_neither_learned_nor_allowed() -> None:
    rows = [{"tokens": ["York", *["then"] * 60, "Monday"], "tags": ["B-city", *["O"] * 60, "B-day"]}]
    task = ready(TaggingAsText, rows, "decoder", "byte-level", max_length=64, max_new_tokens=24)
    item = items_of(task, rows, "byte-level")[0]
    assert answer_tokenizer("byte-level").decode(learned(item), skip_special_tokens=True) == " city: York"
    words = constraint_of(task, rows[0], item, "byte-level").firsts  # type: ignore[attr-defined]
    assert 3 < len(words) < 60


def test_a_pair_stands_on_a_line_of_its_own_unless_a_template_says_otherwise() -> None:
    row = {"text": "It rained.", "text_pair": "It is {text}.", "label": "yes"}
    assert ClassificationAsText().prompt(row) == ("It rained.\nIt is {text}.\nlabel:", (11, 24))
    task = ClassificationAsText(template="{text_pair} Because: {text} ")
    assert task.prompt(row) == ("It is {text}. Because: It rained.", (0, 13))
    assert task.prompt({"text": "It rained."}) == (" Because: It rained.", (10, 20))


def test_what_an_encoder_decoders_targets_begin_with_is_learned_and_allowed() -> None:
    tokenizer = copy.deepcopy(answer_tokenizer("unigram"))
    begin, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<pad> $A </s>", pair="$A $B", special_tokens=[("<pad>", begin), ("</s>", end)]
    )
    for kind, rows, _ in KINDS:
        task = ready(kind, rows, "encoder_decoder", "unigram")
        item = next(iter(task.encode(rows, tokenizer)))[0]
        assert item["labels"][0][0] == begin
        assert begin not in item["labels"][0][1:]
        assert task.constraint(rows[0], item, tokenizer).allowed([]) == [begin]
        assert task.constraint(rows[0], item, tokenizer).accepts(item["labels"][0][:-1])


def test_whole_numbers_and_labels_of_several_words_are_read_back() -> None:
    rows: list[dict[str, Any]] = [{"text": "a", "label": 1}, {"text": "b", "label": 12}, {"text": "c", "label": "a  b"}]
    task = ready(ClassificationAsText, rows, "decoder", "byte-level")
    for row, item in zip(rows, items_of(task, rows, "byte-level"), strict=True):
        said = answer_tokenizer("byte-level").decode(learned(item), skip_special_tokens=True).strip()
        assert task.decode(row, [item], [said]).value == row["label"]
    assert task.decode(rows[0], [], ["zzz"]).value == task.labels[0]


def test_labels_that_a_tokenizer_writes_alike_are_refused() -> None:
    rows = [{"text": "a", "label": "Polish"}, {"text": "b", "label": "polish"}]
    task = ready(ClassificationAsText, rows, "encoder_decoder", "wordpiece")
    with pytest.raises(DataError) as caught:
        items_of(task, rows, "wordpiece")
    assert str(caught.value) == (
        "`label` should have labels that the backbone's tokenizer can write and tell apart. "
        "Found `polish`, which is written as `Polish` is. Rename the label."
    )
    rows = [{"text": "a", "label": "☃"}, {"text": "b", "label": "polish"}]
    with pytest.raises(DataError, match=r"Found `☃`\. Rename the label"):
        items_of(ready(ClassificationAsText, rows, "encoder_decoder", "unigram"), rows, "unigram")
    assert items_of(ready(ClassificationAsText, rows, "decoder", "byte-level"), rows, "byte-level")
    tagged = [{"tokens": ["a", "b"], "tags": ["B-☃", "O"]}]
    with pytest.raises(DataError, match=r"`tags` should have labels that .* can write"):
        items_of(ready(TaggingAsText, tagged, "encoder_decoder", "unigram"), tagged, "unigram")
    slotted = [{"text": "a b", "slots": {"City": "a", "city": "b"}}]
    with pytest.raises(DataError, match=r"`slots` should have .* Found `city`, which is written as `City` is"):
        items_of(ready(Extraction, slotted, "encoder_decoder", "wordpiece"), slotted, "wordpiece")


@pytest.mark.parametrize(
    ("slots", "fault"),
    [
        ("York", "have a mapping of labels to texts in `slots`, or a list of {label, value}"),
        ([{"label": "city"}], "have a mapping of labels to texts in `slots`, or a list of {label, value}"),
        ({"city": 3}, "have a mapping of labels to texts in `slots`, or a list of {label, value}"),
        ({"city": "Rome"}, "have values in `slots` that are whole words of its `text`, not `Rome`"),
        ({"city": "ork"}, "have values in `slots` that are whole words of its `text`, not `ork`"),
        ({"a:b": "York"}, "have labels without `:` and `;` in `slots`, not `a:b`"),
        ({"city": "new  york", "day": [], "way": None, "stay": ""}, None),
        ([], None),
    ],
)
def test_faults_of_slots_are_told(slots: Any, fault: str | None) -> None:
    assert Extraction().fault({"text": "to New York", "slots": slots}) == fault


def test_faults_of_texts_labels_and_tags_are_told() -> None:
    assert ClassificationAsText().fault({"text": "", "label": "a"}) == "have text in `text`, which is empty"
    assert ClassificationAsText().fault({"text": "a", "label": 1.5}) == "have a label in `label`, not `1.5`"
    assert TaggingAsText().fault({"tokens": ["a"], "tags": ["city"]}) == (
        "have tags of the form O, B-x or I-x in `tags`, not `city`; set `scheme: plain` for others"
    )
    assert TaggingAsText().fault({"tokens": ["a"], "tags": ["B-a;b"]}) == (
        "have labels without `:` and `;` in `tags`, not `a;b`"
    )
    for task in (ClassificationAsText(), TaggingAsText(), Extraction()):
        assert (task.fault({}) or "").startswith("have ")


def test_what_training_does_not_have_is_told() -> None:
    task = ready(Extraction, SLOTTED, "decoder", "byte-level")
    assert task.unseen(SLOTTED[0]) is None
    assert task.unseen({"text": "York", "slots": {"citty": "York"}}) == (
        "have a label in `slots` that training has, not `citty`. Did you mean `city`?"
    )
    again = Extraction()
    again.restore(task.state())
    assert again.labels == ["city", "day"]
    with pytest.raises(DataError, match=r"`slots` should have a value in training\. Found none"):
        ready(Extraction, [{"text": "a", "slots": {}}], "decoder", "byte-level")
    tagging = ready(TaggingAsText, TAGGED, "decoder", "byte-level")
    assert tagging.unseen({"tokens": ["a"], "tags": ["I-day"]}) is None
    assert "that training has, not `B-dye`" in tagging.unseen({"tokens": ["a"], "tags": ["B-dye"]})


def test_wrong_options_and_tokenizers_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Extraction(template="values:")
    assert str(caught.value) == (
        "`template` should hold `{text}` once. Found `values:`. Write for example '{text}\\nvalues:'."
    )
    tokenizer = answer_tokenizer("byte-level")
    endless = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, pad_token="<pad>")
    with pytest.raises(ConfigError, match="a token that ends a text"):
        Extraction().meet("decoder", endless)


def test_values_are_found_from_left_to_right() -> None:
    task = ready(TaggingAsText, TAGGED, "decoder", "byte-level")
    row = {"tokens": ["York", "or", "New", "York", "or", "York"]}

    def tags(said: str) -> list[str]:
        value: list[str] = task.decode(row, [], [said]).value
        return value

    assert tags("city: York; day: York") == ["B-city", "O", "O", "B-day", "O", "O"]
    assert tags("city: New York; day: York") == ["O", "O", "B-city", "I-city", "O", "B-day"]
    assert tags("city: Rome; day: York") == ["B-day", "O", "O", "O", "O", "O"]
    for unreadable in ("", "none", "city", "city: York; town: York"):
        assert tags(unreadable) == ["O"] * 6


def test_extracted_values_are_written_as_they_stand_in_the_text() -> None:
    task = ready(Extraction, SLOTTED, "decoder", "byte-level")
    row = {"text": "From NEW  York to Zürich, Zürich"}
    found = task.decode(row, [], ["city: new york; city: zurich; day: Zurich"])
    assert found.value == [
        {"label": "city", "value": "NEW  York"},
        {"label": "city", "value": "Zürich"},
        {"label": "day", "value": "Zürich"},
    ]
    assert found.detail["starts"] == [5, 18, 18]
    assert task.decode(row, [], ["city: Rome"]).value == []
    assert task.decode(row, [], ["city"]).value == []


def test_baselines_say_what_is_most_frequent_in_training() -> None:
    intents = ready(ClassificationAsText, INTENTS, "decoder", "byte-level")
    assert intents.baseline(INTENTS, INTENTS[:2]) == ["book_flight"] * 2
    tagging = ready(TaggingAsText, TAGGED, "decoder", "byte-level")
    assert tagging.baseline(TAGGED, TAGGED[2:]) == [["O", "O"]]
    slots = ready(Extraction, SLOTTED, "decoder", "byte-level")
    york = [{"label": "city", "value": "York"}]
    assert slots.baseline(SLOTTED, [{"text": "to York"}, {"text": "to Rome"}]) == [york, []]


@pytest.mark.parametrize(("kind", "rows", "column"), KINDS)
def test_a_preview_shows_prompt_and_answer(kind: type[Any], rows: list[dict[str, Any]], column: str) -> None:
    task = ready(kind, rows, "decoder", "byte-level")
    described = dict(task.describe(rows[0], items_of(task, rows, "byte-level")[0]))
    assert described.keys() == {"prompt", "answer"}
    assert described["prompt"].endswith(":'")
    assert (
        described["answer"]
        == {
            "label": "'PlayMusic'",
            "tags": "city: New York; day: Monday",
            "slots": "day: Monday; city: New York",
        }[column]
    )
