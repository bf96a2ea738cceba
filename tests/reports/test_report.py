"""The page: complete, escaped, alone, and the same every time."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import vl_convert

from taskloom.errors import RunFolderError
from taskloom.record import Record
from taskloom.reports import charts, report
from taskloom.reports.facts import ScoreLine, greater_is_better, read_run
from taskloom.reports.page import compare, number, run_names, verdict
from taskloom.types import Score

if TYPE_CHECKING:
    from collections.abc import Iterator
from pathlib import Path

TASKS = ["intent", "slots", "sentiment", "similarity"]

VOID = {"meta", "line", "circle", "br", "wbr", "use", "rect", "path", "g", "img", "input", "link", "hr"}


class Outline(HTMLParser):
    """Tags, attributes and text of a page; checks that what opens also closes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID - {"g"}:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID - {"g"}:
            assert self.stack.pop() == tag

    def handle_data(self, data):
        if not self.stack or self.stack[-1] != "style":
            self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def folder(make_run) -> Path:
    return make_run()


@pytest.fixture
def page(folder) -> str:
    return report([folder]).read_text(encoding="utf-8")


@pytest.fixture
def _without_vega(monkeypatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    charts.script.cache_clear()
    yield
    charts.script.cache_clear()


def without_scripts(page: str) -> str:
    return re.sub(r"<script\b[^>]*>.*?</script>", "", page, flags=re.DOTALL)


def test_the_page_lies_in_the_run_folder_and_names_every_task(folder, page):
    assert (folder / "report.html").read_text(encoding="utf-8") == page
    outline = Outline(page)
    cells = re.findall(r'<th scope="rowgroup" class="task"[^>]*>([^<]*)', page)
    assert set(TASKS) <= set(cells)
    assert "2 of 4 tasks beat their baseline" in outline.text
    assert "0.781 to 0.811" in outline.text


def test_a_script_in_a_prediction_is_text_on_the_page(page):
    assert "<script" not in without_scripts(page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    data = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, flags=re.DOTALL)
    assert any("<script>alert(1)</script>" in json.dumps(json.loads(each)) for each in data)
    assert not any("<" in each for each in data)


def test_names_of_tasks_and_runs_are_escaped_also_inside_charts(make_run):
    folder = make_run("a<b>&c")
    record = Record(folder)
    record.append_step({"step": 91, "tasks": {'<img src="x">': {"loss": 1.0}}})
    page = report([folder]).read_text(encoding="utf-8")
    assert "<img" not in without_scripts(page)
    assert "Training loss of a&lt;b&gt;&amp;c, smoothed" in page
    assert "&lt;img src=&#34;x&#34;&gt;" in page
    assert "\\u003cimg src=" in page


def test_the_page_loads_nothing_from_anywhere(page):
    outline = Outline(page)
    for _, attributes in outline.tags:
        for key in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert (attributes.get(key) or "#").startswith("#")
    own = without_scripts(page)
    assert "@import" not in own
    assert "http://" not in own
    assert "https://" not in own
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in outline.tags}
    assert "default-src 'none'" in own
    assert "unsafe-eval" not in own
    assert set(re.findall(r"url\((.)", own)) <= {"#"}


def test_the_same_folder_gives_the_same_bytes_also_from_another_process(folder, page):
    again = report([folder], folder / "again.html")
    assert again.read_text(encoding="utf-8") == page
    code = (
        "import sys; from pathlib import Path; from taskloom.reports import report\n"
        "report([Path(sys.argv[1])], Path(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder), str(folder / "third.html")], check=True)
    assert (folder / "third.html").read_text(encoding="utf-8") == page


def test_every_id_is_there_once_and_every_link_has_its_target(make_run):
    path = report([make_run("joint"), make_run("single-task", -0.03)])
    tags = Outline(path.read_text(encoding="utf-8")).tags
    ids = [attributes["id"] for _, attributes in tags if attributes.get("id")]
    links = {attributes["href"] for _, attributes in tags if attributes.get("href")}
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_charts_and_bars_say_in_words_what_they_show(page):
    drawings = Outline(page).attributes("svg")
    assert len(drawings) > 2 * len(TASKS)
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in drawings)


def test_headings_go_down_one_level_at_a_time(make_run):
    for folders in ([make_run("joint")], [make_run("joint2"), make_run("single-task")]):
        tags = Outline(report(folders).read_text(encoding="utf-8")).tags
        levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_head_of_a_table_says_what_it_heads(page):
    heads = Outline(page).attributes("th")
    assert {attributes.get("scope") for attributes in heads} <= {"col", "row", "rowgroup"}


@pytest.mark.usefixtures("_without_vega")
def test_without_vega_the_page_has_its_tables_and_names_the_extra(folder):
    page = report([folder]).read_text(encoding="utf-8")
    assert page.count("pip install &#39;taskloom[report]&#39;") + page.count("pip install 'taskloom[report]'") == 1
    assert "<table" in page
    assert 'class="chart"' not in page
    assert all(task in page for task in TASKS)


def test_a_score_that_is_no_number_is_a_dash(folder, page):
    row = re.search(r'class="metric">pearson</th>(.*?)</tr>', page, flags=re.DOTALL)
    assert row is not None
    assert row[1].count("—") >= 4
    assert not re.search(r"\bnan\b", without_scripts(page), flags=re.IGNORECASE)


def test_data_says_what_was_skipped_what_was_made_and_what_leaks(page):
    text = " ".join(Outline(page).text.split())
    assert "9 empty text, 4 label not a string" in text
    assert "Splits made for sentiment: validation: 5 % of train, by text." in text
    assert "Splits made for slots: split test, rows 654." in text
    assert "sentiment has texts that stand in more than one split" in text
    assert "train / test: 12" in text
    assert "train / validation" not in text


def test_at_most_five_wrong_and_three_right_predictions_are_shown(folder):
    examples = read_run(folder, "joint").examples
    assert [example.right for example in examples["intent"]] == [False] * 5 + [True] * 3
    assert [example.right for example in examples["similarity"]] == [None]


def test_tags_are_laid_out_by_the_words_they_speak_of(page):
    assert "record<small>O, not B-type</small>" in page


def test_the_run_file_and_the_environment_are_on_the_page(folder, page):
    text = Outline(page).text
    assert (folder / "run.yaml").read_text(encoding="utf-8") in text
    assert "NVIDIA H200" in text


def test_a_run_that_wrote_nothing_yet_says_so_in_sentences(tmp_path):
    record = Record.create(tmp_path / "young")
    text = Outline(report([record.folder]).read_text(encoding="utf-8")).text
    assert "No scores were recorded yet." in text
    assert "No training steps were recorded yet." in text
    assert "No predictions on test rows were recorded yet." in text
    assert "This run is not finished." in text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="should be a run folder"):
        report([tmp_path])
    with pytest.raises(RunFolderError, match="should name at least one run folder"):
        report([])


def test_several_runs_are_compared_first_and_the_best_is_marked(make_run, tmp_path):
    folders = [make_run("joint"), make_run("single-task", -0.03)]
    page = report(folders, tmp_path / "both.html").read_text(encoding="utf-8")
    assert page.index("Comparison of 2 runs") < page.index('id="run-1"') < page.index('id="run-2"')
    rows = compare([read_run(folder, folder.name) for folder in folders])
    assert [row.task for row in rows] == ["composite", *TASKS]
    assert all(row.best == {0} for row in rows)


def test_a_task_that_only_one_run_has_is_a_gap_in_the_other(make_run):
    folders = [make_run("joint"), make_run("without")]
    record = Record(folders[1])
    record.write_scores([score for score in record.scores() if score.task != "slots"])
    rows = compare([read_run(folder, folder.name) for folder in folders])
    slots = next(row for row in rows if row.task == "slots")
    assert [line is None for line in slots.lines] == [False, True]
    assert slots.best == set()


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    assert run_names([tmp_path / "a" / "run", tmp_path / "b" / "run"]) == ["a/run", "b/run"]
    assert run_names([tmp_path / "a" / "x", tmp_path / "b" / "y"]) == ["x", "y"]


@pytest.mark.parametrize(
    ("value", "low", "high", "baseline", "greater", "expected"),
    [
        (0.9, 0.8, 0.95, 0.5, True, "beats"),
        (0.9, 0.8, 0.95, 0.85, True, "unclear"),
        (0.4, 0.3, 0.45, 0.5, True, "worse"),
        (0.4, 0.3, 0.45, 0.5, False, "beats"),
        (0.9, 0.8, 0.95, 0.5, False, "worse"),
        (0.9, 0.8, 0.95, None, True, ""),
        (float("nan"), 0.8, 0.95, 0.5, True, ""),
    ],
)
def test_a_task_beats_its_baseline_only_when_that_lies_outside_the_interval(
    value, low, high, baseline, greater, expected
):
    score = Score("intent", "test", "accuracy", value, low, high, 10, baseline)
    assert ScoreLine(score, greater, 0.0, 1.0).verdict == expected


def test_a_known_metric_says_its_direction_and_an_unknown_one_is_not_imported_for_a_page():
    assert greater_is_better("accuracy") is True
    assert greater_is_better("log_loss_of_a_friend") is None
    assert greater_is_better("this:Antigravity") is None
    assert "this" not in sys.modules


def test_the_verdict_speaks_of_one_task_in_the_singular(tmp_path):
    record = Record.create(tmp_path / "one")
    record.write_scores([Score("intent", "test", "accuracy", 0.9, 0.8, 0.95, 10, 0.5)])
    assert verdict(read_run(record.folder, "one")) == "1 of 1 task beats its baseline."


def test_numbers_are_written_for_readers():
    written = [number(value) for value in (None, float("nan"), 0.0, 0.12345, 312.44, 13084, 2797.6, 4.2e-05, -0.5)]
    assert written == ["—", "—", "0.000", "0.123", "312.4", "13,084", "2,798", "4.2e-05", "-0.500"]


def test_smoothing_keeps_a_constant_and_thinning_keeps_the_ends():
    flat = [(float(step), 2.0) for step in range(5000)]
    assert all(value == pytest.approx(2.0) for _, value in charts.smoothed(flat))
    thin = charts.thinned(flat)
    assert len(thin) == charts.LIMIT_POINTS
    assert (thin[0], thin[-1]) == (flat[0], flat[-1])


def test_a_chart_is_one_that_vega_draws_with_numbers_that_can_be_told_apart() -> None:
    drawn = vl_convert.vegalite_to_svg(charts.lines({"slots": [(240, 0.715), (480, 0.748)]}, "score", points=True))
    beside = {float(text) for text in re.findall(r">(0\.7\d+)</text>", drawn)}
    assert len(beside) >= 3
    assert all(0.71 <= number <= 0.75 for number in beside)


def test_what_is_not_finite_is_null_in_a_chart() -> None:
    assert charts.as_json({"a": [1.0, math.nan, math.inf], "b": "</script>"}) == (
        '{"a":[1.0,null,null],"b":"\\u003c/script\\u003e"}'
    )
