"""The page on streams, as text and in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forgetless.errors import InputError
from forgetless.report.stream_page import MOST_ITEMS, fading, read_stream_run, write_stream_report
from report.opened import Opened

HOSTILE = "<img src=x onerror=alert(1)> & 'quoted' \u2028"


def write_stream(folder: Path, method: str, *, setting: str = "class", items: int = 30, kept: int = 10) -> Path:
    """A finished folder: three tasks, two seeds; of the first task's items ``kept`` are never lost, the rest after the third."""
    folder.mkdir()
    tasks = [HOSTILE, "second", "third"]
    value = {"mean": 0.5, "se": 0.01}
    matrix = {
        "stream": "made-up", "source": "a test", "setting": setting, "tasks": tasks, "method": method, "method_args": {}, "n_seeds": 2,
        "figures": {"acc": value, "bwt": {"mean": -0.25, "se": None},
                    "fwt": {"mean": None, "se": None}, "forgetting": {"mean": 0.25, "se": 0.02}},
        "mean": [[1.0, 0.1, None], [0.75, 1.0, None], [0.5, 0.25, 1.0]], "se": [[0.0, 0.0, None]] * 3, "baseline": [0, 0, 0],
        "seconds": {"mean": 12.0, "se": 1.0}, "state_bytes": 2_000_000, "model_bytes": 4_000_000, "seeds": [],
    }  # fmt: skip
    (folder / "matrix.json").write_text(json.dumps(matrix))
    rows = [
        {"seed": seed, "task": tasks[0], "item": f"item {n:04d} {HOSTILE}", "right": [n != 3, True, n < kept]}
        for seed in (0, 1)
        for n in range(items)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_only_what_was_learned_is_followed_and_what_stayed_comes_first(tmp_path: Path) -> None:
    found = fading(read_stream_run(write_stream(tmp_path / "run", "replay")))
    assert found["total"] == 29 and found["seed"] == 0
    assert found["kept"] == [29, 29, 9]
    assert [row["right"][2] for row in found["rows"]] == [True] * 9 + [False] * 20


def test_of_many_items_some_are_drawn_at_even_distances(tmp_path: Path) -> None:
    found = fading(read_stream_run(write_stream(tmp_path / "run", "replay", items=1001, kept=501)))
    assert found["total"] == 1000 and len(found["rows"]) == MOST_ITEMS
    assert sum(row["right"][2] for row in found["rows"]) == pytest.approx(MOST_ITEMS / 2, abs=1)


def test_runs_of_different_settings_are_not_put_side_by_side(tmp_path: Path) -> None:
    runs = [write_stream(tmp_path / setting, "none", setting=setting) for setting in ("class", "task")]
    with pytest.raises(InputError, match="different streams, settings or tasks"):
        write_stream_report(runs, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("change", [{"tasks": ["a", "b", "c"]}, {"source": "law.jsonl"}, {"tasks": ["second"]}])
def test_runs_on_different_data_are_not_put_side_by_side(tmp_path: Path, change: dict[str, Any]) -> None:
    runs = [write_stream(tmp_path / name, name) for name in ("none", "replay")]
    for run, own in zip(runs, ({}, change), strict=True):
        matrix = json.loads((run / "matrix.json").read_text())
        (run / "matrix.json").write_text(json.dumps(matrix | {"stream": "from_files"} | own))
    with pytest.raises(InputError, match=r"different streams, settings or tasks: from_files class \(a test\)"):
        write_stream_report(runs, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run through a stream"):
        write_stream_report([tmp_path], tmp_path / "page.html")
    (tmp_path / "matrix.json").write_text("[]")
    (tmp_path / "items.jsonl").write_text("")
    with pytest.raises(InputError, match="not one of forgetless"):
        write_stream_report([tmp_path], tmp_path / "page.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1400])
def test_it_opens_whole_offline_and_true(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    runs = [write_stream(tmp_path / name, name) for name in ("none", "replay")]
    report = write_stream_report(runs, tmp_path / "page.html")
    opened = Opened(browser, report, width, scheme)
    page = opened.page
    assert opened.logged == [] and opened.asked == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("[data-testid=verdict] li").all_inner_texts()[1].startswith("replay: after 3 tasks 50% right")
    cells = page.locator("[data-testid=heat-0] td").all_inner_texts()
    assert cells == ["100%", "10%", "–", "75%", "100%", "–", "50%", "25%", "100%"]
    assert page.locator("[data-testid=fade-1] .fade-cells i.lost").count() == 20
    assert HOSTILE[:12] in page.locator("[data-testid=heat-0] th").nth(1).inner_text(), "text from data is shown, not run"
    page.close()
