"""Charts as files, budgets on the page, the command that repeats a run, and how large a page may grow."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
import yaml

from forgetless.cli.main import app
from forgetless.errors import InputError
from forgetless.report import read_run, write_report
from forgetless.report.charts import Point, Series, axis, draw
from forgetless.report.export import write_figures
from forgetless.report.page import run_charts
from forgetless.report.reproduce import command
from forgetless.report.subject import read_subject
from report.folders import HOSTILE, write_run
from report.opened import Opened
from report.pages import EVIL, KINDS, given, guard


@pytest.mark.parametrize("kind", KINDS)
def test_every_chart_of_every_page_is_drawn_alone(tmp_path: Path, kind: str) -> None:
    charts = read_subject(given(kind, tmp_path)).charts()
    written = write_figures(charts, tmp_path / "svg", kind="svg")
    assert len(written) == len(charts) == len({path.name for path in written}) > 0
    for path, (chart, _) in zip(written, charts, strict=True):
        root = ElementTree.fromstring(path.read_text("utf-8"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("aria-label")
        assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
        text = " ".join("".join(root.itertext()).split())
        assert all(word in text for word in chart.title.split())


def test_png_files_are_pictures(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", items=16)
    guard(run, kept=True)
    charts = [pair for pair in run_charts([read_run(run)]) if pair[0].id.startswith(("budget", "frontier-retain-heldout"))]
    for path in write_figures(charts, tmp_path / "png", kind="png"):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 5000
    assert len(charts) == 2


def test_a_chart_with_hostile_names_is_a_file_in_its_folder(tmp_path: Path) -> None:
    x = axis("x $a$", [0.0, 1.0], lambda value: f"{value:g}")
    charts = [
        (draw(id, text, x, x, [Series(0, [Point(0.5, 0.5, text)])], text), [text])
        for id, text in (("../../evil", HOSTILE[3]), ("../../evil", HOSTILE[9]), ("", "\x00\x01 $"))
    ]
    for kind in ("svg", "png"):
        written = write_figures(charts, tmp_path / kind, kind=kind)
        assert (
            [path.parent for path in written] == [tmp_path / kind] * 3
            and len(set(written)) == 3
            and all(path.is_file() for path in written)
        )


def test_a_budget_is_told_drawn_and_listed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    guard(run, kept=True)
    html = write_report([run], tmp_path / "page.html").read_text("utf-8")
    assert (
        "cpl kept its budget of 5%: it forgot 2 of 60 items that neither the method nor the guard saw (3.3%, at most 10% with 95%" in html
    )
    watched = read_run(run).watched
    assert watched is not None and watched.allowed == 0.05 and len(watched.looks) == 5 and len(watched.acts) == 3
    chart = next(chart for chart, _ in run_charts([read_run(run)]) if chart.id == "budget-0")
    assert [text for _, text in chart.rules] == ["allowed 5%"] and [text for _, text in chart.events] == ["1", "2+"]
    assert [row[2] for row in chart.rows if row[0] == 0] == ["0%", "7.5%", "15%", "2.5%", "2.5%"]
    assert EVIL not in html and "&lt;/script&gt;&lt;script&gt;window.hacked = 1" in html
    guard(run, kept=False)
    assert "cpl broke its budget of 5%" in write_report([run], tmp_path / "page.html").read_text("utf-8")
    lines = (run / "budget.jsonl").read_text().split("\n")
    (run / "budget.jsonl").write_text("\n".join([lines[0], '{"kind": "look", "step": 1}']))
    with pytest.raises(InputError, match=r"budget\.jsonl:2"):
        write_report([run], tmp_path / "page.html")


def test_the_command_says_the_settings_back(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", method="replay,cpl")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config |= {
        "method_args": {"cpl": {"refresh": 4}, "replay": {"ratio": 0.5}},
        "watch": True,
        "blend": False,
        "budget": 0.02,
        "weight_decay": None,
        "lr": 3.14159265e-05,
    }
    words = shlex.split(str(command(config, "out folder")))
    assert words[:2] == ["forgetless", "train"]
    verb = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    found: dict[str, Any] = verb.make_context("train", words[2:]).params
    for key in (
        "model",
        "method",
        "optimizer",
        "lr",
        "epochs",
        "batch_size",
        "until_learned",
        "seed",
        "template",
        "scorer",
        "watch",
        "blend",
        "budget",
    ):
        assert found[key] == config[key], key
    assert found["weight_decay"] is None and str(found["out"]) == "out folder"
    assert found["inject"] == "data/inject.jsonl" and found["retain_heldout"] == "data/retain-heldout.jsonl"
    assert found["probe"] == ["other-kinds=data/other-kinds.jsonl"]
    assert sorted(found["method_arg"]) == ["cpl.refresh=4", "replay.ratio=0.5"]
    assert command({"method": "none"}, "x") is None


def test_ten_runs_of_300_items_stay_below_5_mb(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"run{n}", seed=n % 5, method="cpl" if n < 5 else "none", items=60, steps=480, layers=30) for n in range(10)
    ]
    assert all(len(read_run(run).items) == 300 for run in runs)
    assert write_report(runs, tmp_path / "page.html").stat().st_size < 5_000_000


def test_10000_items_are_paged_and_searched(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", items=2000, steps=16)
    opened = Opened(browser, write_report([run], tmp_path / "page.html"), 390)
    page = opened.page
    page.click('[data-change="all"]')
    assert opened.shown() == 10_000 and page.locator("#item-table .item").count() == 10
    page.select_option("#item-size", "100")
    assert page.locator("#item-table .item").count() == 100
    page.fill("#item-search", "other-kinds-1234")
    assert opened.shown() == 1 and page.locator("#item-table .item").get_attribute("data-id") == "other-kinds-1234"
    page.select_option("#item-subject", label="airports") if page.locator("#item-subject").is_visible() else None
    assert opened.logged == []
    page.close()


def test_kinds_are_told_apart_and_not_mixed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", items=16)
    assert read_subject([run]).out == run / "report.html" and read_subject([run, run]).out == Path("report.html")
    assert read_subject([run]).card is not None
    (tmp_path / "s").mkdir()
    (suite,) = given("suite", tmp_path / "s")
    assert read_subject([suite]).out == suite.with_suffix(".html") and read_subject([suite]).card is None
    with pytest.raises(InputError, match="an evaluation is given beside something else"):
        read_subject([run, suite])
    with pytest.raises(InputError, match="nothing is given"):
        read_subject([])
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"x": 1}))
    with pytest.raises(InputError, match="is not a folder"):
        read_subject([broken])
