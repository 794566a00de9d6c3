"""The page of a diagnosis: its words and tables, its charts as PNG, in a real browser, with hostile data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forgetless.errors import InputError
from forgetless.report.diagnosis_page import all_charts, read_diagnosis, render, sentences, write_diagnosis
from report.opened import Opened

HOSTILE = "<img src=x onerror=alert(1)> & 'quoted' \u2028"


def part(name: str, weights: int, conflicting: int) -> dict[str, Any]:
    return {
        "name": name, "weights": weights, "conflicting": conflicting, "share": conflicting / weights,
        "share_of_nonzero": conflicting / weights, "zero": 0, "inner": -0.5, "abs": 2.0,
    }  # fmt: skip


def point(rate: float, r2: float | None) -> dict[str, Any]:
    return {
        "rate": rate, "r2": r2, "spearman": None if r2 is None else 0.5, "trusted": r2 is not None and r2 >= 0.9, "moved": 0.75,
        "predicted": [1e-3 * rate, -2e-3 * rate], "real": [1.1e-3 * rate, None if r2 is None else -2e-3 * rate],
    }  # fmt: skip


def diagnosis(*, benchmark: bool = False) -> dict[str, Any]:
    """A diagnosis of 30 questions, of which 4 do harm; with what a benchmark adds."""
    items = [
        {
            "rank": n + 1, "id": f"i{n}", "prompt": f"{n} {HOSTILE}", "answer": "LYS", "predicted_change": (4 - n) * 1e-5, "inner": n - 4.0,
            "cosine": (n - 4) / 100, "norm": 3.0, "loss": 2.0,
            "groups": {"capital": {"inner": 1.0, "cosine": 0.25}, HOSTILE: {"inner": -1.0, "cosine": -0.125}},
        }
        for n in range(30)
    ]  # fmt: skip
    points = [point(1e-6, 0.99), point(1e-4, 0.95), point(1e-2, -40.0), point(1.0, None)]
    found: dict[str, Any] = {
        "kind": "diagnosis", "model": "tiny", "n": {"retain": 9, "inject": 30, "weights": 1000, "groups": {"capital": 5, HOSTILE: 4}},
        "similarity": {"inner": -1.5, "cosine": -0.03, "norm_retain": 5.0, "norm_inject": 10.0},
        "conflict": {
            "all": part("all", 1000, 430), "by_layer": [part("0", 500, 200), part("1", 400, 210), part("outside", 100, 20)],
            "by_kind": [part("attention", 600, 260), part("MLP", 400, 170)], "tensors": [part("model.layers.0.q", 500, 200)],
        },
        "histogram": [
            {"from": 1e-9, "to": 1e-8, "below": 300, "above": 400, "below_sum": 1e-6, "above_sum": 2e-6},
            {"from": 1e-8, "to": 1e-7, "below": 130, "above": 170, "below_sum": 1e-5, "above_sum": 3e-5},
        ],
        "top": {"share": 0.01, "carry": [0.61, 0.63]}, "items": items, "against": 4,
        "ranking": {
            "mode": "exact", "optimizer": "sgd", "lr": 1e-5, "fast_tensors": 3, "fast_weights": 0.2,
            "fast_against_exact": {"n": 30, "spearman": 0.9},
        },
        "curve": {"sgd": points, "adamw": points}, "trusted": {"sgd": 1e-4, "adamw": None},
        "refresh": {"lr": 1e-5, "turned": [{"steps": 1, "share": 0.02}, {"steps": 4, "share": 0.09}]},
        "suggestion": {"method": "none", "lr": 1e-4, "reasons": [f"because {HOSTILE}"]},
    }  # fmt: skip
    if benchmark:
        side = {"mean": 0.2, "sd": 0.1, "values": [0.1, 0.3]}
        row = {
            "most harmful": side,
            "least harmful": {**side, "mean": 0.1},
            "more": 2,
            "fewer": 0,
            "seeds": 2,
            "difference": 0.1,
            "sd": 0.0,
        }
        found["validation"] = {
            "protocol": {"drawn": 20, "taken": 5, "steps": 9}, "compared": {"sgd": {"loss_change A": row, "forgotten A": row, "norm": {}}},
        }  # fmt: skip
        runs = [{"kl": 0.1 * n, "forgotten": n, "optimizer": "sgd"} for n in range(4)]
        found["drift"] = {"forward": {"n": 4, "spearman": 1.0, "spearman_low": 0.8, "spearman_high": 1.0, "points": runs}}
    return found


def test_the_words_say_the_figures() -> None:
    found = sentences(diagnosis())
    assert "against the retain set" in found[0] and found[1].startswith(
        "43.0% of 1,000 weights conflict; the top 1% of all weights carry 62%"
    )
    assert found[2].startswith("4 of 30") and "up to a learning rate of 0.0001" in found[3] and "none of the rates" in found[4]
    assert "rank correlation 0.90" in found[5]


def test_nothing_is_left_out_that_was_not_measured() -> None:
    small = diagnosis() | {"curve": {}, "trusted": {}, "histogram": [], "refresh": {"lr": 1e-5, "turned": []}}
    page = render(small)
    assert 'id="curve"' not in page and 'id="validation"' not in page and "Conflict by kind" in page


def test_it_writes_reads_and_draws_everything(tmp_path: Path) -> None:
    report = diagnosis(benchmark=True)
    written = write_diagnosis(report, tmp_path / "out", png=True)
    assert read_diagnosis(tmp_path / "out") == report
    assert len(written) == 2 + len(all_charts(report)) and len({chart.id for chart, _ in all_charts(report)}) == 9
    for file in written[2:]:
        assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and file.stat().st_size > 5000
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    (tmp_path / "diagnosis.json").write_text("[]")
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="diagnosis"):
            read_diagnosis(folder)


@pytest.mark.parametrize(("width", "scheme"), [(380, "dark"), (1400, "light")])
def test_it_opens_whole_offline_and_true(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    write_diagnosis(diagnosis(benchmark=True), tmp_path)
    report = tmp_path / "report.html"
    opened = Opened(browser, report, width, scheme)
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert opened.logged == [] and opened.asked == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("[data-testid=suggestion]").inner_text() == "forgetless train --method none --lr 0.0001"
    first = page.locator("[data-testid=harm] tbody tr").first.inner_text()
    assert HOSTILE[:12] in first and "+4.0e-05" in first, "text from data is shown, not run"
    assert page.locator("[data-testid=harm] tbody tr").count() == 20
    assert page.locator("[data-testid=kinds] tbody tr").nth(1).inner_text().startswith("attention")
    assert "2 of 2" in page.locator("[data-testid=validation]").inner_text()
    assert page.locator("#chart-curve svg").is_visible() and page.locator("#chart-drift-forward svg").is_visible()
    page.close()
