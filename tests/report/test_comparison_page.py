"""The page of a comparison shows what stands in comparison.json: every figure, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from forgetless.errors import InputError
from forgetless.report.comparison_page import comparison_charts, facts, is_comparison, render, write_comparison
from forgetless.report.comparison_words import level_of, words
from report.pages import EXAMPLE


class Cells(HTMLParser):
    """The cells with a figure: name, exact value, the text shown and the smaller one under it; and all visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, float, str, str]] = []
        self.text = ""
        self._open: list[str] | None = None
        self._small = self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._hidden = tag in ("script", "style")
        if tag == "td" and "data-figure" in given and "data-value" in given:
            self._open = [str(given["data-figure"]), str(given["data-value"]), "", ""]
        self._small = tag == "small"

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data
        if self._open is not None:
            self._open[3 if self._small else 2] += data.strip()

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        if tag == "td" and self._open is not None:
            name, value, shown, small = self._open
            self.found.append((name, float(value), shown, small))
            self._open = None


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(EXAMPLE.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def page(report: dict[str, Any]) -> Cells:
    return Cells(render(report))


def leaves(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Every number below ``value`` with its path; a trial is named by its number."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{path}/{key}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from leaves(part, f"{path}/{part['trial'] if path.endswith('/trials') else index}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


def known(report: dict[str, Any]) -> dict[str, float]:
    return {name: value for entry in report["entries"] for name, value in leaves(entry, f"{entry['data']}/{entry['label']}")}


def number(text: str) -> float | None:
    """The share that a percentage or a difference in points says, as the page rounds it."""
    found = re.fullmatch(r"([−+]?)<?(\d+(?:\.\d+)?)%?", text)
    return None if found is None else float(found[2]) / 100 * (-1 if found[1] == "−" else 1)


def test_every_figure_on_the_page_is_that_of_the_json(report: dict[str, Any], page: Cells) -> None:
    expected = known(report)
    assert len(page.found) > 500
    for name, value, shown, small in page.found:
        assert value == expected[name], name
        if shown.endswith("%") or name.endswith("/difference"):
            read = number(shown)
            assert read is not None and abs(read - value) <= (0.0051 if abs(value) >= 0.0995 else 0.00101), (name, value, shown)
        if " to " in small and "%" in small:
            low, high = (number(part) for part in small.split(";")[0].split(" to "))
            stem = name.removesuffix("/mean")
            assert low is not None and abs(low - expected[f"{stem}/low"]) <= 0.0051, name
            assert high is not None and abs(high - expected[f"{stem}/high"]) <= 0.0051, name


def test_every_figure_of_the_json_is_on_the_page(report: dict[str, Any], page: Cells) -> None:
    shown = {name for name, *_ in page.found}
    wanted = re.compile(r"/trials/\d+/(final|at/[\d.]+|area)/\w+/mean$|/trials/\d+/(seconds|eval_seconds|steps|peak_memory_bytes)/mean$")
    also = re.compile(
        r"/against/[^/]+/(at/[\d.]+|items)/[ABC]/(difference|p)$|/frontier/[ABC]/\d+/(learned|forgotten)$|/validation/at/[\d.]+$"
    )
    missing = [name for name in known(report) if (wanted.search(name) or also.search(name)) and name not in shown]
    assert missing == []


def test_text_from_the_plan_is_text(page: Cells, report: dict[str, Any]) -> None:
    html = render(report)
    assert "<script>alert(1)" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script>alert(1)</script>" in page.text
    assert "icd-cpl-0.0001-s2" in page.text and "the loss is nan at step 3" in page.text


def test_the_words_name_the_method_that_forgot_least_at_equal_learning(report: dict[str, Any]) -> None:
    told = words(report)
    for data, headline in zip(("air", "icd"), told.headlines, strict=True):
        own = [entry for entry in report["entries"] if entry["data"] == data]
        level = level_of(own, report["levels"])
        assert level is not None
        shares = {}
        for entry in own:
            trial = next(one for one in entry["trials"] if one["trial"] == entry["chosen"]["trial"])
            if trial["at"][level]["reached"] == len(trial["seeds"]):
                shares[entry["label"]] = trial["at"][level]["B"]["mean"]
        best = min(shares, key=lambda label: shares[label])
        assert f"{best} forgot least" in headline and f"{float(level):.0%} learned" in headline
        entry = next(one for one in own if one["label"] == best)
        for baseline, found in entry["against"].items():
            p = found["at"][level]["B"]["p"]
            if p is not None:
                assert f"ts lead over {baseline} is {'more than noise' if p < 0.05 else 'within noise'}" in headline
    assert any("47 of 48 runs finished: 1 failed" in limit for limit in told.limits)
    proven = [sentence for sentence in told.entries if " than none at " in sentence]
    assert all("p = 0.0" in sentence or "p < 0.001" in sentence for sentence in proven)


def test_of_levels_that_as_many_reach_the_highest_is_taken_in_any_order(report: dict[str, Any]) -> None:
    entries = [entry for entry in report["entries"] if entry["data"] == "air"]
    levels = sorted(report["levels"])
    changed = json.loads(json.dumps(entries))
    for entry in changed:
        for trial in entry["trials"]:
            for at in trial["at"].values():
                at["reached"] = len(trial["seeds"])
    assert level_of(changed, levels) == level_of(changed, levels[::-1]) == f"{levels[-1]:g}"
    assert level_of(entries, levels) == level_of(entries, levels[::-1])


@pytest.mark.parametrize(
    ("difference", "p", "expected"),
    [
        (-0.1, 0.001, "Its lead over none is more than noise (p = 0.001)"),
        (0.1, 0.001, "It is behind none in the 2 seeds where both reach it, which is more than noise (p = 0.001)"),
        (0.1, 0.3, "It is behind none in the 2 seeds where both reach it, which is within noise (p = 0.30)"),
        (0.0, 1.0, "It is level with none in the 2 seeds where both reach it, which is within noise (p = 1.00)"),
    ],
)
def test_a_lead_is_a_lead_only_where_it_forgot_less(report: dict[str, Any], difference: float, p: float, expected: str) -> None:
    changed = json.loads(json.dumps(report))
    for entry in changed["entries"]:
        if entry["label"] == "none":
            for trial in entry["trials"]:
                for at in trial["at"].values():
                    at["reached"] = min(2, at["reached"])
        elif "none" in entry["against"]:
            for kinds in entry["against"]["none"]["at"].values():
                kinds["B"] |= {"difference": difference, "p": p, "n": 2}
    headline = words(changed).headlines[0]
    assert "none forgot least" not in headline and "none did not reach it in every seed" in headline and expected in headline


def test_it_is_said_where_the_choice_was_made_on_the_same_items(report: dict[str, Any]) -> None:
    assert any("chosen on items that no figure here is of" in limit for limit in words(report).limits)
    assert any("chosen on the same items" in limit for limit in words({**report, "validation": 0.0}).limits)


def test_where_nobody_learned_enough_nobody_wins(report: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(report))
    for entry in changed["entries"]:
        for trial in entry["trials"]:
            for at in trial["at"].values():
                at["reached"] = 0
    assert "none can be compared at equal learning" in words(changed).headlines[0]
    render(changed)


def test_entries_without_a_finished_run_and_single_seeds_have_a_page(report: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(report))
    changed["entries"][2] |= {"chosen": None, "against": {}, "trials": []}
    for entry in changed["entries"]:
        for name, at in entry["against"].items():
            if name == "none":
                for kinds in at["at"].values():
                    for one in kinds.values():
                        one |= {"low": None, "high": None, "p": None, "n": 1}
    assert "no run finished" in render(changed)


def test_an_interval_wider_than_any_difference_leaves_the_axis_to_what_can_be(report: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(report))
    for entry in changed["entries"]:
        for one in (one for found in entry["against"].values() for kinds in found["at"].values() for one in kinds.values()):
            one |= {"low": -5.0, "high": 4.0} if one["difference"] is not None else {}
        for at in (at for trial in entry["trials"] for at in trial["at"].values() if at["seconds"]):
            at["seconds"] |= {"low": 0.0, "high": 1e6}
    charts = {chart.id: chart for chart, _ in comparison_charts(changed)}
    against, cost = charts["against-0-0"], charts["cost-seconds-0"]
    ticks = [text for _, text in against.x_ticks]
    assert (ticks[0], ticks[-1]) == ("\N{MINUS SIGN}100", "+100")
    assert max(mark.x for line in cost.lines for mark in line.marks) > (cost.left + cost.right) / 3
    for chart in (against, cost):
        spans = [mark.across for line in chart.lines for mark in line.marks]
        assert spans and all(span and chart.left <= span[0] <= span[1] <= chart.right for span in spans)


def test_it_is_written_into_the_folder_and_drawn(tmp_path: Path, report: dict[str, Any]) -> None:
    (tmp_path / "comparison.json").write_text(json.dumps(report))
    assert is_comparison(tmp_path) and is_comparison(tmp_path / "comparison.json") and not is_comparison(tmp_path / "other.json")
    assert write_comparison(tmp_path) == tmp_path / "report.html" and (tmp_path / "report.html").stat().st_size > 100_000
    ids = [chart.id for chart, _ in comparison_charts(report)]
    assert len(ids) == len(set(ids)) and {"frontier-B-0", "frontier-A-1", "against-0-0", "cost-seconds-1"} <= set(ids)


@pytest.mark.parametrize("content", ["[]", "{}", "not json", '{"format": 2, "entries": []}', '{"format": 1, "entries": [{"data": "x"}]}'])
def test_what_is_no_comparison_is_refused_and_nothing_is_written(tmp_path: Path, content: str) -> None:
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(InputError):
        write_comparison(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.json"]


def test_the_page_names_every_commit_at_which_cells_were_trained(report: dict[str, Any]) -> None:
    assert dict(facts(report | {"commit": "new", "commits": ["old", "older"]}))["Commit"] == "old, older"
    assert dict(facts(report | {"commit": "new", "commits": []}))["Commit"] == "new"
