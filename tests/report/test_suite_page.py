"""The page of an evaluation shows the figures of its JSON, for two models and for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forgetless.errors import InputError
from forgetless.report.suite_page import is_evaluation, read_evaluation, render, suite_charts, write_suite_page
from forgetless.report.suite_words import words
from report.opened import Opened
from report.pages import EVIL, evaluation
from report.test_comparison_page import Cells, number


def known(report: dict[str, Any]) -> dict[str, float]:
    """Every figure by the name that the page gives it."""
    found: dict[str, float] = {}

    def add(value: Any, path: str) -> None:
        if isinstance(value, dict | list):
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                add(part, f"{path}/{key}")
        elif isinstance(value, int | float):
            found[path] = float(value)

    for part in report["parts"]:
        add({key: value for key, value in part.items() if key != "items"}, part["name"])
    add(report.get("gate", {}), "gate")
    own = report["judge"]["all"]
    return found | {"judge/all/accuracy": own["agreement"]}


@pytest.mark.parametrize("two", [True, False])
def test_every_figure_is_that_of_the_json(two: bool) -> None:
    report = evaluation(two=two)
    page, expected = Cells(render(report)), known(report)
    for name, value, shown, _ in page.found:
        assert value == expected[name], name
        if shown.endswith("%"):
            read = number(shown)
            assert read is not None and abs(read - value) <= 0.0051, name
    shown_names = {name for name, *_ in page.found}
    ends = ("/accuracy", "/paired/learned", "/paired/forgotten", "/paired/difference", "/paired/p_value", "/perplexity")
    assert [name for name in expected if name.endswith(ends) and name not in shown_names] == []
    assert EVIL in page.text and EVIL not in render(report)


def test_the_verdict_counts_what_rose_and_fell() -> None:
    text = Cells(render(evaluation())).text
    parts = evaluation()["parts"]
    learned, forgotten = (sum(part["paired"][key] for part in parts if "paired" in part) for key in ("learned", "forgotten"))
    assert f"{learned} of 120 questions learned, {forgotten} forgotten" in text
    assert "refused before" in text and "right before" in text and "not corrected for their number" in text


def test_the_headline_counts_the_questions_of_a_task_once_however_many_metrics_they_have() -> None:
    report = evaluation()
    task = {"task": "hellaswag", "metric": "acc", "higher_is_better": True, **{k: report["parts"][1][k] for k in ("n", "models", "paired")}}
    fell = {"n": 60, "learned": 2, "forgotten": 20, "difference": -0.3, "low": -0.4, "high": -0.2, "p_value": 0.001}
    rose = fell | {"learned": 20, "forgotten": 2, "difference": 0.3, "low": 0.2, "high": 0.4}
    tasks = [task | {"paired": fell}, task | {"metric": "acc_norm", "paired": fell}]
    tasks += [task | {"task": "toxic", "metric": metric, "higher_is_better": False, "paired": rose} for metric in ("rate", "acc")]
    told = words(report | {"parts": [{"name": "harness", "tasks": tasks}]})
    assert told.headline == (
        f"{report['after']} against base: 2 of 60 questions learned, 20 forgotten. "
        "Of 2 parts 0 rose and 1 fell beyond noise: worse on harness: hellaswag, acc."
    )
    assert len(told.parts) == 4 and "4 tests" in told.limits[-1]
    assert told.parts[2].startswith("harness: toxic, rate (lower is better): 67% before, 80% after")


def test_where_nothing_is_right_or_wrong_nothing_is_counted() -> None:
    report = evaluation()
    told = words(report | {"parts": report["parts"][2:]})
    assert told.headline.endswith("no question was scored right or wrong, so none counts as learned or forgotten.")
    assert "0 of 0" not in told.headline and told.parts[0].startswith("text: log perplexity changed by 0.01")


def test_a_gate_is_told() -> None:
    page = Cells(render(evaluation()))
    assert "The gate does not pass" in page.text and "do not ship" in page.text and "28% is over 1%" in page.text
    passed = evaluation()
    passed["gate"]["passed"] = True
    assert "The gate passes" in Cells(render(passed)).text
    assert "The gate" not in Cells(render(evaluation(two=False))).text


def test_a_file_of_one_question_set_and_its_charts(tmp_path: Path) -> None:
    part = evaluation()["parts"][1]
    file = tmp_path / "eval.json"
    file.write_text(
        json.dumps({"data": "some/questions.jsonl", **{key: value for key, value in part.items() if key not in ("name", "data")}})
    )
    assert is_evaluation(file)
    report = read_evaluation(file)
    assert [one["name"] for one in report["parts"]] == ["questions.jsonl"] and report["after"] == "tuned"
    assert "questions.jsonl" in write_suite_page(file, tmp_path / "page.html").read_text()
    assert [chart.id for chart, _ in suite_charts(report)] == ["parts", "groups-0"]
    assert [chart.id for chart, _ in suite_charts(evaluation())] == ["parts", "groups-0", "groups-1", "positions-0"]


@pytest.mark.parametrize("content", ["[]", '{"suite": "x"}', '{"suite": "x", "model": "m", "after": "n", "parts": [{"name": "p"}]}', "{"])
def test_what_is_no_evaluation_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "eval.json"
    file.write_text(content)
    with pytest.raises(InputError):
        write_suite_page(file, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_questions_are_filtered_by_part_and_language(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "eval.json"
    file.write_text(json.dumps(evaluation()))
    opened = Opened(browser, write_suite_page(file, tmp_path / "page.html"))
    page, items = opened.page, evaluation()["parts"][1]["items"]
    page.select_option("#item-split", label="languages")
    page.select_option("#item-lang", label="ar")
    page.click('[data-change="forgotten"]')
    assert opened.shown() == sum(one["lang"] == "ar" and one["right_before"] and not one["right_after"] for one in items)
    page.click('[data-change="all"]')
    assert opened.shown() == sum(one["lang"] == "ar" for one in items)
    page.select_option("#item-split", value="all")
    page.select_option("#item-lang", value="all")
    page.fill("#item-search", "window.hacked")
    assert EVIL in page.locator("#item-table .prompt").first.inner_text() + page.locator("#item-table .said").nth(1).inner_text()
    assert page.evaluate("window.hacked") is None and opened.logged == []
    page.close()
