import datasets
import pytest

from taskloom.data.hub import HUB_NAME, read_hub
from taskloom.data.sources import read
from taskloom.errors import DataError


@pytest.fixture
def hub(monkeypatch):
    """A hub of one data set, which remembers what it was asked."""
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "tags": datasets.List(datasets.ClassLabel(names=["O", "B-x"])),
            "inner": {"kind": datasets.ClassLabel(names=["k"]), "n": datasets.Value("int64")},
        }
    )
    rows = [
        {"text": "a", "label": 1, "tags": [0, 1], "inner": {"kind": 0, "n": 5}},
        {"text": "b", "label": -1, "tags": [], "inner": None},
    ]
    dataset = datasets.Dataset.from_list(rows, features=features)
    asked = []

    def load_dataset(path, name=None, revision=None):
        asked.append((path, name, revision))
        return datasets.DatasetDict({"train": dataset, "dev": dataset, "unsupervised": dataset})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("org/name", ("org/name", None, None)),
        ("org/name:config", ("org/name", "config", None)),
        ("org/name@v1.0", ("org/name", None, "v1.0")),
        ("org/na.me-2:con-fig@refs/pr/1", ("org/na.me-2", "con-fig", "refs/pr/1")),
    ],
)
def test_a_hub_name_gives_config_and_revision(hub, name, asked):
    read("tasks.t", name)
    assert hub == [asked]


@pytest.mark.parametrize("name", ["name", "./org/name", "a/b/c", "/org/name", "org/name:", "org/name@", "../name"])
def test_what_is_no_hub_name_asks_no_hub(name):
    assert HUB_NAME.fullmatch(name) is None


def test_class_numbers_become_names_and_other_splits_are_let_be(hub):
    splits = read("tasks.t", "org/name:c")
    assert list(splits) == ["train", "validation"]
    assert splits["train"][0].row == {"text": "a", "label": "yes", "tags": ["O", "B-x"], "inner": {"kind": "k", "n": 5}}
    assert splits["train"][1].row["label"] is None
    assert splits["train"][1].place == "org/name:c train row 2"


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("Couldn't reach 'org/name' on the Hub (LocalEntryNotFoundError)\nmore\nlines")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError) as caught:
        read("tasks.t", "org/name")
    assert str(caught.value) == (
        "`tasks.t.data` should be a folder, a file or a data set of the Hugging Face hub. Found `org/name`, which is "
        "no path here and did not load from the hub (Couldn't reach 'org/name' on the Hub (LocalEntryNotFoundError)). "
        "Check the name and the network."
    )


def test_a_path_that_exists_wins_over_the_hub(hub, tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "org" / "name" / "train.jsonl").write_text('{"a": 1}')
    monkeypatch.chdir(tmp_path)
    assert [record.row for record in read("tasks.t", "org/name")["train"]] == [{"a": 1}]
    with pytest.raises(DataError, match=r"Found `org/nane`. Did you mean `name`\?"):
        read("tasks.t", "org/nane")
    assert hub == []


def test_reading_leaves_progress_bars_as_they_were(hub):
    before = datasets.are_progress_bars_disabled()
    read_hub("org/name")
    assert datasets.are_progress_bars_disabled() == before
