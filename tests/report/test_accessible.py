"""Every kind of page in a real browser: on a phone and wide, light and dark; axe-core finds nothing serious."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from report.opened import Opened
from report.pages import KINDS, write_page

SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {kind: write_page(kind, folder / kind) for kind in KINDS}


def violations(page: Any) -> list[str]:
    """What axe-core calls serious or critical, each with the places."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response
    assert found["passes"], "axe-core ran"
    return [f"{one['id']}: {[node['html'][:200] for node in one['nodes'][:3]]}" for one in found["violations"] if one["impact"] in SERIOUS]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light"), (390, "light"), (1440, "dark")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_whole_offline_and_accessible(browser: Any, pages: dict[str, Path], kind: str, width: int, scheme: str) -> None:
    opened = Opened(browser, pages[kind], width, scheme)
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = !d.querySelector('[data-testid=trials]'); })")
    assert opened.logged == [] and opened.asked == [pages[kind].as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.hacked") is None
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    assert page.locator("main").count() == page.locator("nav[aria-label]").count() == 1
    assert page.evaluate("[...document.querySelectorAll('table')].every(t => t.caption && t.caption.textContent.trim())")
    told = "f.querySelector('svg[role=img][aria-label]') && f.querySelector('details td')"
    assert page.evaluate(f"[...document.querySelectorAll('figure.chart')].every(f => {told})")
    if (width, scheme) == (390, "dark") or ((width, scheme) == (1440, "light") and kind in ("runs", "comparison", "suite")):
        assert find_spec("axe_playwright_python") is not None, "needs `pip install axe-playwright-python`"
        assert violations(page) == []
    page.close()


def test_axe_would_have_found_something(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text("<!doctype html><title>x</title><main><img src='data:,'><input><p style='color:#ddd;background:#fff'>pale</p></main>")
    opened = Opened(browser, file)
    assert {one.split(":")[0] for one in violations(opened.page)} >= {"image-alt", "label", "color-contrast"}
    opened.page.close()


def test_the_keyboard_skips_to_the_report_and_focus_is_seen(browser: Any, pages: dict[str, Path]) -> None:
    opened = Opened(browser, pages["runs"])
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.close()


def test_printed_it_is_light_and_without_controls(browser: Any, pages: dict[str, Path]) -> None:
    opened = Opened(browser, pages["runs"], scheme="dark")
    page = opened.page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()") == "#12161d"
    for hidden in (".bar", "#item-controls", "#item-pager", "#item-changes"):
        assert not page.locator(hidden).is_visible()
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(s => getComputedStyle(s).overflowX === 'visible')")
    page.close()
