import pytest
from dummy_task import Dummy

from taskloom.data.columns import map_columns
from taskloom.data.records import Record
from taskloom.errors import DataError


def records(*rows, file="data/train.jsonl"):
    return [Record(row, file, number) for number, row in enumerate(rows, start=1)]


def mapped(mapping, *rows, task=Dummy):
    splits = map_columns({"train": records(*rows)}, mapping, task, "tasks.t", source="data")
    return [record.row for record in splits["train"]]


def message(mapping, splits, task=Dummy):
    with pytest.raises(DataError) as caught:
        map_columns(splits, mapping, task, "tasks.t", source="glue/rte")
    return str(caught.value)


class Answers(Dummy):
    columns = {"context": "a text", "starts": "where answers start"}
    optional_columns = {}


def test_columns_come_under_the_names_of_the_task_and_others_go():
    rows = mapped({"text": "sentence", "label": "intent"}, {"sentence": "a", "intent": "x", "id": 3})
    assert rows == [{"text": "a", "label": "x"}]


def test_columns_that_are_not_mapped_keep_their_names_and_group_is_kept():
    assert mapped({}, {"text": "a", "label": "x", "text_pair": "b", "group": "g", "no": 1}) == [
        {"text": "a", "label": "x", "text_pair": "b", "group": "g"}
    ]
    assert mapped({"group": "dialect"}, {"text": "a", "label": "x", "dialect": "g"})[0]["group"] == "g"


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_optional_column_without_a_value_is_absent_and_a_required_one_is_kept(nothing):
    assert mapped({}, {"text": nothing, "label": "x", "text_pair": nothing}) == [{"text": nothing, "label": "x"}]


def test_a_row_without_a_column_that_others_have_is_left_to_the_row_checks():
    assert mapped({}, {"text": "a", "label": "x"}, {"text": "b"}) == [{"text": "a", "label": "x"}, {"text": "b"}]


def test_two_columns_of_the_task_may_be_one_of_the_user():
    assert mapped({"label": "text"}, {"text": "a"}) == [{"text": "a", "label": "a"}]


@pytest.mark.parametrize(
    "answers", [{"text": ["b"], "start": [1, 2]}, [{"text": "b", "start": 1}, {"text": "b", "start": 2}]]
)
def test_a_dotted_name_reads_a_field_inside_a_column(answers):
    rows = mapped({"starts": "answers.start"}, {"context": "c", "answers": answers}, task=Answers)
    assert rows == [{"context": "c", "starts": [1, 2]}]


def test_a_column_whose_name_has_a_dot_wins_over_a_path():
    rows = mapped({"starts": "a.b"}, {"context": "c", "a.b": 1, "a": {"b": 2}}, task=Answers)
    assert rows[0]["starts"] == 1


def test_places_stay():
    splits = map_columns({"train": records({"text": "a", "label": "b"})}, {}, Dummy, "tasks.t")
    assert splits["train"][0].place == "data/train.jsonl:1"


def test_a_mapped_column_that_is_missing_is_answered_with_the_nearest():
    row = {"sentence1": "a", "sentence2": "b", "label": "x", "idx": 1}
    assert message({"text": "sentence1", "label": "labels"}, {"train": records(row)}) == (
        "`tasks.t.columns.label` should be a column of `glue/rte`. Found `labels`; the columns are "
        "['sentence1', 'sentence2', 'label', 'idx']. Write `label: label`."
    )


def test_a_column_that_is_missing_and_not_mapped_is_answered_with_the_only_one_left():
    assert message({}, {"train": records({"sentence": "a", "label": "x"})}) == (
        "`tasks.t.columns.text` should be a column of `glue/rte`. Found `text`; the columns are "
        "['sentence', 'label']. Write `text: sentence`."
    )


def test_where_nothing_is_near_the_user_chooses():
    assert message({}, {"train": records({"q": "a", "w": "a", "label": "x"})}) == (
        "`tasks.t.columns.text` should be a column of `glue/rte`. Found `text`; the columns are "
        "['q', 'w', 'label']. Write `text: NAME` with one of them."
    )


def test_a_field_that_is_missing_is_answered_with_the_fields_of_its_column():
    row = {"context": "c", "answers": {"text": ["b"], "answer_start": [1]}}
    assert message({"starts": "answers.answer_starts"}, {"train": records(row)}, task=Answers) == (
        "`tasks.t.columns.starts` should be a column of `glue/rte`. Found `answers.answer_starts`; the columns of "
        "`answers` are ['answers.text', 'answers.answer_start']. Write `starts: answers.answer_start`."
    )


def test_a_column_missing_in_one_split_alone_names_its_file():
    splits = {
        "train": records({"text": "a", "label": "x"}),
        "test": records({"text": "a", "target": "x"}, file="data/test.jsonl"),
    }
    assert message({}, splits) == (
        "`tasks.t.columns.label` should be a column of `data/test.jsonl`. Found `label`; the columns are "
        "['text', 'target']. Write `label: target`."
    )


def test_an_optional_column_that_was_asked_for_must_be_somewhere():
    splits = {"train": records({"text": "a", "label": "x"}), "test": records({"text": "a", "label": "x", "d": 1})}
    assert map_columns(splits, {"group": "d"}, Dummy, "tasks.t")["test"][0].row["group"] == 1
    assert message({"group": "dialect"}, splits) == (
        "`tasks.t.columns.group` should be a column of `glue/rte`. Found `dialect`; the columns are "
        "['text', 'label', 'd']. Write `group: d`."
    )


def test_a_key_that_the_task_does_not_know_names_its_columns():
    assert message({"lable": "label"}, {"train": records({"text": "a", "label": "x"})}) == (
        "`tasks.t.columns.lable` should be a column of the task (`text`, `label`, `text_pair`, `group`). "
        "Found `lable`. Did you mean `label`?"
    )


def test_all_faults_of_the_mapping_are_gathered():
    assert len(message({"x": "y"}, {"train": records({"q": 1, "r": 2, "s": 3})}).splitlines()) == 3


def test_a_split_whose_lines_were_all_bad_is_no_fault_of_the_columns():
    assert map_columns({"train": []}, {}, Dummy, "tasks.t") == {"train": []}
