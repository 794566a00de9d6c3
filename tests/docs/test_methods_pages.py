"""Every method has a page that says when, at what cost, by which equation, from where, with which options and pitfalls; and a figure."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest

from forgetless.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "methods"
PICTURES = ROOT / "docs" / "pictures"
PARTS = {
    "when to use it": r"\*\*When\.\*\*",
    "what it costs in memory": r"\*\*Memory(\.| and cost\.)\*\*",
    "what it costs in time": r"\*\*(Cost|Memory and cost)\.\*\*",
    "what goes wrong with it": r"\*\*Pitfalls\.\*\*",
    "an equation": r"\$\$.+?\$\$|\\\[.+?\\\]|\\\(.+?\\\)|\*\*Update rule\.\*\*",
    "a source": r"arXiv|no paper behind it",
    "options": r"^\| option \| |\*\*Options\.\*\* None",
    "a figure": r"^!\[.+\]\(figures/[\w-]+\.svg\)$",
    "its docstring": r"^::: forgetless\.methods\.",
}
BUILT_IN = sorted(name for name, method in METHODS.items() if method.__module__.startswith("forgetless."))


def test_every_method_has_a_page_and_every_page_a_method():
    assert {page.stem for page in PAGES.glob("*.md")} == set(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_page_of_a_method_has_all_its_parts(name):
    page = (PAGES / f"{name}.md").read_text("utf-8")
    lacking = [part for part, form in PARTS.items() if not re.search(form, page, flags=re.S | re.M)]
    assert not lacking
    assert f"`{name}`" in page
    for target in re.findall(r"\]\((figures/[^)]+)\)", page):
        assert (PAGES / target).is_file(), target
    assert f"(figures/{name}.svg)" in page


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_option_of_a_method_stands_in_the_table_of_its_page(name):
    page = (PAGES / f"{name}.md").read_text("utf-8")
    told = {option for row in re.findall(r"^\| (`.+?) \|", page, flags=re.M) for option in re.findall(r"`(\w+)`", row)}
    assert set(inspect.signature(METHODS[name]).parameters) == told


@pytest.fixture(scope="module")
def pictures():
    """The modules that draw."""
    sys.path.insert(0, str(PICTURES))
    try:
        import concepts
        import method_figures

        yield concepts, method_figures
    finally:
        sys.path.remove(str(PICTURES))


def test_the_figures_of_the_methods_are_drawn_from_the_committed_results(pictures):
    _, methods = pictures
    found = methods.results()
    for name in BUILT_IN:
        assert (PAGES / "figures" / f"{name}.svg").read_text("utf-8") == methods.draw(name, found), "run: make results"
    assert {file.stem for file in (PAGES / "figures").glob("*.svg")} == set(BUILT_IN)


def test_the_figures_show_the_means_of_the_table():
    table = (ROOT / "docs" / "results" / "split-mnist.md").read_text("utf-8")
    row = re.search(r"^\| mas \| (\S+) .*?\| (\S+) .*?\| (\S+) ", table, flags=re.M)
    assert row is not None
    figure = (PAGES / "figures" / "mas.svg").read_text("utf-8")
    assert re.findall(r">(\d+\.\d) ± ", figure) == list(row.groups())


def test_the_pictures_of_the_concepts_are_drawn_from_what_the_pages_show(pictures):
    concepts, _ = pictures
    for draw in (concepts.agreement, concepts.splits, concepts.frontier, concepts.guard):
        assert (PICTURES / f"{draw.__name__}.svg").read_text("utf-8") == draw(), "run: make results"
    assert len(concepts.points()) == 4 and {line["kind"] for line in concepts.log()} == {"start", "look", "act"}
