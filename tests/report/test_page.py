"""The page as text: its figures equal the summaries, nothing from the data becomes markup, nothing points outside."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetless.errors import InputError
from forgetless.report import verdict_sentences, write_report
from forgetless.report.frame import script_json
from report.folders import HOSTILE, write_lines, write_run

FIGURES = [
    "learned",
    "learned_heldout",
    "forgotten",
    "forgotten_heldout",
    "seconds",
    "eval_seconds",
    "peak_memory_bytes",
    "conflicting_fraction",
    "constraint_violation",
    "steps",
]


class Page(HTMLParser):
    """Collects elements, figures, the data in the page and the visible text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: dict[tuple[str, str], str] = {}
        self.raw, self.text, self._in = "", "", ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self._in = "data" if found.get("id") == "items-data" else tag
        if "data-run" in found:
            self.figures[str(found["data-run"]), str(found["data-figure"])] = str(found["data-value"])

    def handle_data(self, data: str) -> None:
        if self._in == "data":
            self.raw += data
        elif self._in not in ("script", "style"):
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    @property
    def data(self) -> dict[str, Any]:
        """The items in the page."""
        loaded: dict[str, Any] = json.loads(self.raw)
        return loaded


def test_the_figures_equal_the_summaries(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "cpl"), write_run(tmp_path / "none", method="none", keep=0.7)]
    page = Page(write_report(runs, tmp_path / "report.html", title="Codes & <facts>"))
    for run in runs:
        summary = json.loads((run / "summary.json").read_text())
        for name in FIGURES:
            expected = "" if summary[name] is None else str(summary[name])
            assert page.figures[summary["method"], name] == expected, name
        assert page.figures[summary["method"], "probe:other-kinds"] == str(summary["probes"]["other-kinds"]["forgotten"])
        assert f"{summary['learned']} of {summary['inject_total']}" in page.text
    text = " ".join(page.text.split())
    for sentence in verdict_sentences(runs):
        assert " ".join(sentence.split()) in text
    assert "Codes & <facts>" in page.text


def test_no_text_from_the_data_becomes_markup(tmp_path: Path) -> None:
    evil = '"><script>window.hacked=9</script>'
    run = write_run(tmp_path / "run", hostile=True, probes=(f"probe{evil}",), method=f"cpl{evil}", model=f"model{evil}")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {f"key{evil}": evil, "nested": {"list": [evil]}}))
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"verdict": evil, "stopped_because": evil}))
    out = write_report([run], tmp_path / "report.html", title=evil)
    page, plain = Page(out), Page(write_report([write_run(tmp_path / "plain")], tmp_path / "plain.html"))
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert len(scripts) == 4 == sum(tag == "script" for tag, _ in plain.tags)
    assert not any(tag in ("img", "iframe", "object", "embed", "base", "form") for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "window.hacked=9" in page.text
    assert not set("<>&\u2028\u2029") & set(page.raw)
    prompts = [entry[4] for entry in page.data["items"]]
    for text in HOSTILE:
        assert any(text.replace("\ud83d", "?") in prompt for prompt in prompts), text[:40]


def test_nothing_points_outside_the_file(tmp_path: Path) -> None:
    page = Page(write_report([write_run(tmp_path / "run")], tmp_path / "report.html"))
    links = [str(value) for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href", "action", "srcset")]
    assert links and all(link.startswith("#") or link == "data:," for link in links)
    html = (tmp_path / "report.html").read_text()
    assert not re.search(r"@import|url\(|https?://", html)
    policy = next(str(attributes["content"]) for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "unsafe-inline' " not in policy.split("script-src")[1]


def test_every_part_is_there_for_one_and_for_six_runs(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"run{i}", method=method, seed=i, items=20, finished=i != 5)
        for i, method in enumerate(["cpl", "none", "replay,cpl", "none", "ewc", "lwf"])
    ]
    for chosen in (runs[:1], runs):
        page = Page(write_report(chosen, tmp_path / "report.html"))
        tests = {attributes.get("data-testid") for _, attributes in page.tags}
        assert {
            "chart-learned-inject",
            "chart-learned-inject-heldout",
            "chart-forgotten-retain",
            "chart-forgotten-retain-heldout",
            "chart-forgotten-other-kinds",
            "chart-frontier-retain-heldout",
            "chart-frontier-other-kinds",
            "chart-loss",
            "chart-conflicting",
            "chart-sign-flips",
            "verdict",
        } <= tests
        assert any(str(test).startswith("layers-") for test in tests)
        images = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
        assert images and all(len(str(attributes["aria-label"])) > 20 for attributes in images)
        assert "versions.torch" in page.text
    assert "lwf: Unfinished" in page.text


def test_missing_parts_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", method="none", heldout=False, probes=())
    (run / "items.jsonl").unlink()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.get("splits", {}).pop("retain", None)
    write_lines(run / "metrics.jsonl", rows)
    summary = json.loads((run / "summary.json").read_text())
    gone: dict[str, Any] = {"retain_total": None, "forgotten": None, "paired": {}, "peak_memory_bytes": None}
    (run / "summary.json").write_text(json.dumps(summary | gone))
    page = Page(write_report([run], tmp_path / "report.html"))
    tests = {str(attributes.get("data-testid")) for _, attributes in page.tags}
    assert not any("heldout" in test or "retain" in test or "frontier" in test or "layers" in test for test in tests)
    assert "forgetting was not measured" in page.text and "No run on this page recorded its items." in page.text


def test_a_run_with_no_steps_yet_and_a_diverged_one(tmp_path: Path) -> None:
    empty, diverged = write_run(tmp_path / "empty", finished=False), write_run(tmp_path / "diverged", method="none")
    (empty / "metrics.jsonl").write_text("")
    rows = [json.loads(line) for line in (diverged / "metrics.jsonl").read_text().splitlines()]
    write_lines(diverged / "metrics.jsonl", [row | ({"loss": float("nan")} if row.get("step", 0) > 20 else {}) for row in rows])
    page = Page(write_report([empty, diverged], tmp_path / "report.html"))
    assert "cpl is unfinished and has not been scored yet." in page.text
    paths = [str(attributes["d"]) for tag, attributes in page.tags if tag == "path"]
    assert paths and not any("nan" in path or "inf" in path for path in paths)


def test_no_runs_is_an_error_and_a_failure_leaves_the_old_page(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("old")
    with pytest.raises(InputError, match="no run folder is given"):
        write_report([], out)
    with pytest.raises(InputError, match="does not exist"):
        write_report([tmp_path / "nowhere"], out)
    assert out.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", hostile=True)
    first = write_report([run], tmp_path / "a.html").read_bytes()
    assert first == write_report([run], tmp_path / "b.html").read_bytes()


def test_json_in_a_script_cannot_end_it() -> None:
    text = "</script><!-- & \u2028\u2029"
    made = script_json({"text": text})
    assert not set("<>&\u2028\u2029") & set(made) and json.loads(made) == {"text": text}
