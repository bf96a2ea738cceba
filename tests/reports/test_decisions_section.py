"""What the page says of a curriculum and of policies: a timeline and every decision, nothing of it taken for markup."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.record import Record
from taskloom.reports import report
from taskloom.reports.decisions import LIMIT_LINES, decision_facts

if TYPE_CHECKING:
    from collections.abc import Callable


def row(step: int, task: str, factor: Any, reason: str = "It was due.", policy: str = "curriculum") -> dict[str, Any]:
    return {"step": step, "policy": policy, "task": task, "factor": factor, "reason": reason}


def page_of(folder: Path, *rows: dict[str, Any]) -> str:
    record = Record.open(folder)
    for each in rows:
        record.append_decision(each)
    return report([folder]).read_text(encoding="utf-8")


def words_of(page: str) -> str:
    body = re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL).replace("<wbr>", "")
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_a_run_without_decisions_has_no_section(make_run: Callable[..., Path]) -> None:
    assert decision_facts([], 90) is None
    assert "Curriculum and decisions" not in page_of(make_run())


def test_every_decision_stands_in_the_table_with_who_made_it(make_run: Callable[..., Path]) -> None:
    rows = [
        row(0, "slots", 0.0, "`slots` waits until 30 steps are done: 2 of 2 by length, easy first."),
        row(30, "slots", 1.0, "`slots` enters: 2 of 2 by length, easy first."),
        row(60, "intent", 0.25, "`intent` rests: its score moved by 0.0003 in 3 evaluations.", "rest_converged"),
    ]
    text = words_of(page_of(make_run(), *rows))
    section = text[text.index("Curriculum and decisions") : text.index("Rows read from the sources")]
    for each in rows:
        step = each["step"]
        assert f"{step} {each['task']} {each['factor']:g} {each['reason']} {each['policy']}" in section
    assert section.index("waits until") < section.index("enters:") < section.index("rests:")


def test_the_timeline_shows_how_much_each_task_was_trained_when(make_run: Callable[..., Path]) -> None:
    rows = [row(0, "a", 0.0), row(30, "a", 1.0), row(60, "a", 2.0), row(45, "b", 0.5), row(45, "b", 0.25, "Again.")]
    facts = decision_facts(rows, 90)
    assert facts is not None
    assert [(strip.task, [(s.kind, s.first, s.factor) for s in strip.stretches]) for strip in facts.strips] == [
        ("a", [("none", 0, 0.0), ("full", 30, 1.0), ("more", 60, 2.0)]),
        ("b", [("full", 0, 1.0), ("less", 45, 0.25)]),
    ]
    for strip in facts.strips:
        assert abs(sum(each.width for each in strip.stretches) - 100) < 0.05
    page = page_of(make_run(), *rows)
    assert 'aria-label="a: factor 0 from step 0, factor 1 from step 30, factor 2 from step 60"' in page
    assert '<rect class="full" x="33.33%" width="33.33%"' in page
    assert '<rect class="more" x="66.67%" width="33.33%"' in page
    assert '<rect class="less" x="50.0%" width="50.0%"' in page
    assert 'class="none"' not in page


def test_nothing_of_a_decision_is_taken_for_markup(make_run: Callable[..., Path]) -> None:
    evil = "<script>alert(1)</script>"
    page = page_of(make_run(), row(10, f"t{evil}", 0.5, f"Because {evil} \" onload='x'.", f"p_{evil}"))
    assert "<script" not in re.sub(r"<script\b[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3
    assert "\" onload='x'" not in page


def test_a_log_that_lacks_values_is_still_a_page(make_run: Callable[..., Path]) -> None:
    text = words_of(page_of(make_run(), {"step": 5, "task": "a"}, row(7, "a", None)))
    assert "5 a — 7 a — It was due. curriculum" in text
    assert "nan" not in text[text.index("Each decision") :].lower().split("rows read")[0]


def test_of_many_decisions_the_first_are_listed_and_all_are_drawn() -> None:
    rows = [row(step, "a", 1.0 if step % 2 else 0.5) for step in range(LIMIT_LINES + 30)]
    facts = decision_facts(rows, len(rows))
    assert facts is not None
    assert (len(facts.lines), facts.left_out) == (LIMIT_LINES, 30)
    assert len(facts.strips[0].stretches) == len(rows)
