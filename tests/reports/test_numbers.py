"""The page's numbers are those of scores.jsonl, and these are the libraries' own, worked out from predictions alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from seqeval.metrics import f1_score as span_f1
from sklearn.metrics import accuracy_score, f1_score, mean_squared_error
from sklearn.preprocessing import MultiLabelBinarizer

from taskloom.record import Record, read_lines
from taskloom.reports import report
from taskloom.reports.writing import number


def answers(record: Record, task: str) -> tuple[list[Any], list[Any]]:
    lines = list(read_lines(record.predictions(task, "test")))
    return [line["reference"] for line in lines], [line["prediction"] for line in lines]


def test_numbers_on_the_page_are_those_that_the_libraries_give(tiny_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    record = Record.open(folder)
    wanted: dict[tuple[str, str], float] = {}
    for task in ("intent", "reply"):
        right, said = answers(record, task)
        wanted[task, "accuracy"] = accuracy_score(right, said)
    right, said = answers(record, "intent")
    wanted["intent", "macro_f1"] = f1_score(right, said, average="macro", zero_division=0)
    wanted["slots", "span_f1"] = span_f1(*answers(record, "slots"), zero_division=0)
    right, said = answers(record, "urgency")
    wanted["urgency", "mse"] = mean_squared_error(right, said)
    wanted["urgency", "pearson"] = stats.pearsonr(right, said).statistic
    right, said = answers(record, "similarity")
    wanted["similarity", "spearman"] = stats.spearmanr(right, said).statistic
    right, said = answers(record, "topics")
    both = MultiLabelBinarizer().fit([*right, *said])
    sets = both.transform(right), both.transform(said)
    wanted["topics", "micro_f1"] = f1_score(*sets, average="micro", zero_division=0)
    scores = {(each.task, each.metric): each.value for each in record.scores() if each.split == "test"}
    page = report([folder]).read_text(encoding="utf-8")
    for key, value in wanted.items():
        assert scores[key] == pytest.approx(value, abs=1e-9), key
        assert f'<span class="value">{number(scores[key])}</span>' in page, key
