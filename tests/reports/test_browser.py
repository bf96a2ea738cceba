"""The report in a real browser: `make test-browser`; skipped where there is none."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskloom.reports import report
from taskloom.reports.facts import read_run
from taskloom.reports.section import sections_of
from tiny_runs import tiny_values

pytestmark = pytest.mark.browser

SHOTS = Path(__file__).parents[2] / "runs" / "screenshots"
TASKS = ("intent", "slots", "urgency", "similarity", "topics", "reply")


def chromium() -> str | None:
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


@pytest.fixture(scope="module")
def folder(tiny_encoder: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six tasks, probed, with recorded conflict and calibrated, and texts that try to be markup."""
    import json

    from taskloom import train
    from taskloom.affinity.reading import DEFAULT, read_transfers
    from taskloom.calibration.run import calibrate
    from taskloom.planning import make_plan, write_plan

    values = tiny_values(tiny_encoder, tiny_data)
    values["tasks"] = {name: values["tasks"][name] for name in TASKS}
    values["training"] |= {"max_steps": 12, "eval_steps": 3, "save_steps": 12}
    values["transfer"] = {"every_steps": 2, "rows": 2, "sketch_size": 256}
    values["balance"] = {"method": "upgrad", "record_steps": 2}
    place = tmp_path_factory.mktemp("browser")
    test = tiny_data / "intent"
    evil = place / "intent"
    shutil.copytree(test, evil)
    rows = [json.loads(line) for line in (evil / "test.jsonl").read_text().splitlines()]
    rows[0]["text"] = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    (evil / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values["tasks"]["intent"]["data"] = str(evil)
    run = train(values, place / "run")
    calibrate(run.folder)
    write_plan(make_plan(read_transfers(run.folder, [DEFAULT])[DEFAULT], k=2), run.folder / "plan.json")
    report([run.folder])
    return run.folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as started:
        found = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser: Any, path: Path, *, width: int = 1280, dark: bool = False) -> tuple[Any, list[str]]:
    """Open a page from disk; whatever it complains of or asks for is gathered."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith("file:") else faults.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("window.drawAllCharts()")  # waits for all of them
    assert page.locator(".chart:not([data-drawn])").count() == 0
    return page, faults


def test_every_section_is_there_and_every_chart_is_drawn_without_a_complaint(browser: Any, folder: Path) -> None:
    page, faults = opened(browser, folder / "report.html")
    for section in sections_of(read_run(folder, "run")):
        assert page.locator(f"#run-1-{section.name}").count() == 1, section.name
    names = {section.name for section in sections_of(read_run(folder, "run"))}
    assert names >= {"training", "confusion", "ranking", "calibration", "transfer", "conflict_over_time", "predictions",
                     "cost"}  # fmt: skip
    charts = page.locator(".chart")
    assert charts.count() >= 12
    marks = "(all) => all.map((each) => each.querySelectorAll('svg path, svg rect, svg text').length)"
    assert min(page.eval_on_selector_all(".chart", marks)) > 4
    assert faults == []


def test_texts_that_try_to_be_markup_are_shown_as_texts(browser: Any, folder: Path) -> None:
    page, faults = opened(browser, folder / "report.html")
    page.select_option("[data-field=task]", "intent")
    page.fill("[data-field=search]", "onerror")
    assert "onerror" in page.locator(".found").inner_text()
    assert page.title() != "owned"
    assert page.locator("main img").count() == 0
    assert faults == []


def test_predictions_are_filtered_and_sorted_and_tables_too(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder / "report.html")

    def count() -> int:
        return int(page.locator(".count").inner_text().split()[0])

    whole = count()
    page.select_option("[data-field=task]", "intent")
    of_task = count()
    assert 0 < of_task < whole
    page.select_option("[data-field=right]", "false")
    wrong = count()
    page.select_option("[data-field=right]", "true")
    assert wrong + count() == of_task
    page.select_option("[data-field=right]", "")
    label = page.locator("[data-field=label] option").nth(1).inner_text()
    page.select_option("[data-field=label]", label)
    assert 0 < count() < of_task
    page.select_option("[data-field=label]", "")
    page.fill("[data-field=least]", "9999")
    assert count() == 0
    page.fill("[data-field=least]", "")
    page.select_option("[data-field=order]", "sure")
    sure = page.eval_on_selector_all(
        ".found .example dl", "(all) => all.map((each) => Number(each.lastElementChild.textContent))"
    )
    assert sure == sorted(sure, reverse=True)
    table = page.locator("table.sortable").first
    table.locator("button.sort").nth(1).click()
    values = table.locator("tbody tr td:nth-child(2)").evaluate_all("(all) => all.map((each) => +each.dataset.value)")
    assert values == sorted(values)
    table.locator("button.sort").nth(1).click()
    turned = table.locator("tbody tr td:nth-child(2)").evaluate_all("(all) => all.map((each) => +each.dataset.value)")
    assert turned == values[::-1]


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_serious_fault(browser: Any, folder: Path, dark: bool) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, _ = opened(browser, folder / "report.html", dark=dark)
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (each["id"], each["nodes"][0]["html"][:200]) for each in found if each["impact"] in {"serious", "critical"}
    ]
    assert serious == []


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_a_desk_and_a_phone(browser: Any, folder: Path, width: int) -> None:
    for dark in (False, True):
        page, _ = opened(browser, folder / "report.html", width=width, dark=dark)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"report-{width}{'-dark' if dark else ''}.png", full_page=True)


def test_a_run_of_twenty_tasks_is_light_and_quick(browser: Any, make_large_run: Path) -> None:
    path = report([make_large_run])
    assert path.stat().st_size < 5_000_000
    page = browser.new_page()
    started = time.perf_counter()
    page.goto(path.as_uri())
    page.locator(".chart").first.scroll_into_view_if_needed()
    page.locator(".chart[data-drawn]").first.wait_for()
    assert time.perf_counter() - started < 2.0


def test_it_prints(browser: Any, folder: Path, tmp_path: Path) -> None:
    page, _ = opened(browser, folder / "report.html")
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
