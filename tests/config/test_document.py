"""Run files as plain values: what YAML 1.2 means, where each key stands, and what `--set` does."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskloom.config.document import Document, document_of, dump, override, parse_document, read_document
from taskloom.errors import ConfigError


def values(text: str) -> object:
    return parse_document(text, "run.yaml").values


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "run.yaml")
    return str(caught.value)


def set_(text: str, *assignments: str) -> Document:
    document = parse_document(text, "run.yaml")
    override(document, assignments)
    return document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1e3", 1000.0),
        ("5", 5),
        ("no", "no"),
        ("yes", "yes"),
        ("off", "off"),
        ("NO", "NO"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("12:30", "12:30"),
        ("2024-05-01", "2024-05-01"),
        ("'3'", "3"),
        ("[1, two]", [1, "two"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_a_value_is_what_yaml_1_2_says_it_is(text: str, value: object) -> None:
    found = values(f"key: {text}")["key"]  # type: ignore[index]
    assert found == value
    assert type(found) is type(value)


def test_an_empty_file_holds_nothing() -> None:
    assert values("") == {}
    assert values("# only words\n") == {}


def test_keys_that_are_no_text_become_text() -> None:
    assert values("1: a\nnull: b") == {"1": "a", "None": "b"}


def test_every_key_and_entry_knows_its_line() -> None:
    document = parse_document("a: 1\nb:\n  c: 2\n  d:\n    - x\n    - y\n", "run.yaml")
    lines = {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "d"): 4, ("b", "d", 0): 5, ("b", "d", 1): 6}
    assert {path: document.source(path) for path in lines} == {k: f"run.yaml:{line}" for k, line in lines.items()}


def test_a_key_that_is_missing_stands_where_its_parent_stands() -> None:
    document = parse_document("a:\n  b: 1\n", "run.yaml")
    assert document.source(("a", "z")) == "run.yaml:1"
    assert document.source(("z",)) == "run.yaml"


def test_a_key_written_twice_is_refused_with_its_line() -> None:
    assert refusal("a: 1\nb: 2\na: 3\n") == (
        "run.yaml:3: `a` should be written once. Found the key twice. Rename one of the two, or delete it."
    )
    assert "run.yaml:2: `1` should be written once." in refusal("1: a\n'1': b\n")


def test_a_tag_is_refused_with_its_key_and_line() -> None:
    assert refusal("model:\n  name_or_path: !!python/name:os.system x\n") == (
        "run.yaml:2: `model.name_or_path` should be a plain value. "
        "Found the tag `tag:yaml.org,2002:python/name:os.system`. Delete the tag."
    )
    for text in ("a: !shout x", "a: !shout [1]", "a: !shout {b: 1}", "a: [1, !shout x]"):
        assert "Found the tag `!shout`. Delete the tag." in refusal(text)


def test_what_is_not_yaml_is_refused_with_its_line() -> None:
    assert refusal("a: 1\nb: [1\nc: 2\n").startswith("run.yaml:3: `run.yaml` should be YAML. Found ")
    assert refusal("a: 1\n\tb: 2\n").startswith("run.yaml:2: `run.yaml` should be YAML. Found ")
    assert refusal("a: \x00").startswith("`run.yaml` should be YAML. Found ")


def test_a_file_that_is_a_list_is_refused() -> None:
    assert refusal("- a\n- b\n") == (
        "`run.yaml` should be a mapping of keys to values. Found a list. Begin with `model:` and `tasks:`."
    )


def test_a_file_that_is_missing_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("a: 1")
    with pytest.raises(ConfigError) as caught:
        read_document(tmp_path / "runn.yaml")
    name = tmp_path / "runn.yaml"
    assert str(caught.value) == f"`{name}` should be a run file. Found no such file. Did you mean `run.yaml`?"
    with pytest.raises(ConfigError, match="`taskloom quickstart --write FOLDER` writes an example"):
        read_document(tmp_path / "nowhere" / "run.yaml")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(tmp_path)
    assert str(caught.value) == f"`{tmp_path}` should be a text file in UTF-8. Found a folder."
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"should be a text file in UTF-8\. Found other bytes\.$"):
        read_document(tmp_path / "latin.yaml")


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(tmp_path / "run.yaml").values == {"a": 1}


def test_set_reads_its_value_as_yaml() -> None:
    document = set_("a: 1\n", "a=3e-4", "b.c=[1, x]", "d=no", "e=", "f=a=b")
    assert document.values == {"a": 3e-4, "b": {"c": [1, "x"]}, "d": "no", "e": None, "f": "a=b"}


def test_set_opens_a_key_that_is_empty_and_keeps_its_neighbours() -> None:
    assert set_("a:\nb: {c: 1, d: 2}\n", "a.x.y=1", "b.c=3").values == {"a": {"x": {"y": 1}}, "b": {"c": 3, "d": 2}}


def test_a_key_that_was_set_says_so_and_so_do_those_under_it() -> None:
    document = set_("a: {b: 1}\nc: 1\n", "a={b: 2}")
    assert document.source(("a", "b")) == "--set"
    assert document.source(("c",)) == "run.yaml:2"


@pytest.mark.parametrize("assignment", ["a.b", "", "=3"])
def test_set_without_a_key_or_a_value_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        set_("a: 1\n", assignment)
    found = f"`{assignment}`" if assignment else "nothing"
    assert str(caught.value) == f"`--set` should be of the form `a.b=value`. Found {found}."


def test_set_through_a_value_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        set_("a: {b: 5}\n", "a.b.c=1")
    assert str(caught.value) == "--set: `a.b` should hold keys of its own. Found `5`."


def test_set_with_a_value_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--set a=\[1: `value` should be YAML\. Found "):
        set_("a: 1\n", "a=[1")


def test_what_is_dumped_reads_the_same_again() -> None:
    content = {"z": 1, "a": {"b": [1, 2.5, "no", "3e-4", None, True], "c": "a: b # c"}, "empty": {}, "text": "é\n x"}
    assert values(dump(content)) == content
    assert list(values(dump(content))) == list(content)  # type: ignore[call-overload]


def test_values_given_in_python_become_plain_and_have_no_lines(tmp_path: Path) -> None:
    document = document_of({"data": tmp_path, "splits": ("a", "b"), "deep": {1: None}})
    assert document.values == {"data": str(tmp_path), "splits": ["a", "b"], "deep": {"1": None}}
    assert document.source(("data",)) == "config"


def test_a_value_in_python_that_no_file_could_hold_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        document_of({"a": {"b": [1, object()]}})
    assert str(caught.value) == (
        "config: `a.b.1` should be a text, a number, true, false, None, a list or a mapping. Found a `object`."
    )
