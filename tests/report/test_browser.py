"""The page in a real browser: phone and wide, light and dark, from disk, with hostile data in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forgetless.report import write_report
from report.folders import write_run
from report.opened import Opened

RUNS = ("cpl", "none", "replay-cpl")
PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    runs = [
        write_run(folder / "cpl", hostile=True, layers=30, items=120),
        write_run(folder / "none", method="none", keep=0.7, hostile=True, items=120),
        write_run(folder / "replay-cpl", method="replay,cpl", probes=("other-kinds", "a-probe-with-a-name-of-no-end-at-all-" * 4)),
    ]
    return write_report(runs, folder / "report.html")


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    made = Opened(browser, report)
    yield made
    assert made.logged == []
    made.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_it_opens_whole_offline_and_true(browser: Any, report: Path, width: int, scheme: str) -> None:
    opened = Opened(browser, report, width, scheme)
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.click('[data-change="all"]')
    assert opened.logged == [] and opened.asked == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("window.hacked") is None
    paper = page.evaluate(PAPER)
    assert (sum(map(int, paper.strip("rgb()").split(","))) < 150) == (scheme == "dark")
    for name in RUNS:
        summary = json.loads((report.parent / name / "summary.json").read_text())
        for figure, total in (("learned", "inject_total"), ("forgotten", "retain_total"), ("forgotten_heldout", "retain_heldout_total")):
            cell = page.locator(f'td[data-run="{summary["method"]}"][data-figure="{figure}"]')
            assert f"{summary[figure]} of {summary[total]}" in cell.inner_text()
    page.close()


def test_search_and_filters_find_the_items(opened: Opened, report: Path) -> None:
    page = opened.page
    rows = [json.loads(line) for line in (report.parent / "none" / "items.jsonl").read_text().splitlines()]
    page.select_option("#item-run", label="none")
    for change, before, after in (("forgotten", True, False), ("learned", False, True), ("wrong", False, False), ("right", True, True)):
        page.click(f'[data-change="{change}"]')
        assert opened.shown() == sum((row["before"], row["after"]) == (before, after) for row in rows)
    page.click('[data-change="all"]')
    assert opened.shown() == len(rows)
    page.select_option("#item-split", label="retain-heldout")
    assert opened.shown() == sum(row["split"] == "retain-heldout" for row in rows)
    page.select_option("#item-split", value="all")
    page.fill("#item-search", "retain-heldout-0007")
    assert opened.shown() == 1
    item = page.locator("#item-table .item")
    wanted = next(row for row in rows if row["id"] == "retain-heldout-0007")
    assert item.get_attribute("data-id") == wanted["id"] and wanted["answer"] in item.inner_text()
    page.fill("#item-search", "NO SUCH words")
    assert opened.shown() == 0 and not page.locator("#item-table").is_visible()


def test_pages_turn_and_hostile_text_is_shown_as_text(opened: Opened) -> None:
    page = opened.page
    page.click('[data-change="all"]')
    total, first = opened.shown(), page.locator(".item").first.get_attribute("data-id")
    assert page.locator(".item").count() < total
    page.click("#item-next")
    assert page.locator(".item").first.get_attribute("data-id") != first
    page.click("#item-prev")
    assert page.locator(".item").first.get_attribute("data-id") == first
    page.fill("#item-search", "window.hacked = 1")
    assert "<script>window.hacked = 1</script>" in page.locator(".prompt").first.inner_text()
    assert page.evaluate("window.hacked") is None
    page.fill("#item-search", "AAAAAAAA")
    more = page.locator(".prompt button").first
    assert "show all" in more.inner_text()
    more.click()
    assert "A" * 5000 in page.locator(".prompt").first.inner_text()


def test_the_keyboard_reaches_the_theme_and_the_choice_shows(opened: Opened) -> None:
    page = opened.page
    page.focus("#theme")
    seen = []
    for _ in range(3):
        page.keyboard.press("Enter")
        seen.append((page.evaluate("document.documentElement.dataset.theme"), page.evaluate(PAPER)))
    assert [theme for theme, _ in seen] == ["light", "dark", "auto"]
    assert seen[0][1] == seen[2][1] != seen[1][1]


def test_a_pointer_over_a_point_shows_its_value(opened: Opened) -> None:
    point = opened.page.locator("#chart-learned-inject .hit").last
    point.scroll_into_view_if_needed()
    point.hover()
    tip = opened.page.locator("#tip")
    assert tip.is_visible() and tip.inner_text() == point.get_attribute("data-tip")


def test_it_prints_and_works_without_scripts(browser: Any, report: Path, tmp_path: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 380, "height": 800})
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("noscript p").is_visible() and not page.locator("#item-controls").is_visible()
    flipped = page.locator(".plain-items tbody tr")
    rows = [json.loads(line) for name in RUNS for line in (report.parent / name / "items.jsonl").read_text().splitlines()]
    assert flipped.count() == sum(row["before"] != row["after"] for row in rows)
    assert page.evaluate("window.hacked") is None
    assert page.locator("#chart-loss svg").is_visible()
    page.pdf(path=str(tmp_path / "page.pdf"))
    assert (tmp_path / "page.pdf").stat().st_size > 10_000
    context.close()
