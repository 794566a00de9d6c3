"""The notebooks run from top to bottom, and what they say of forgetting is what comes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
FORGOT = re.compile(r"learned (\d+) of (\d+), forgot (\d+) of \d+ retained, forgot (\d+) of \d+ held-out retained")


def executed(name: str, monkeypatch: Any) -> Any:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    book = nbformat.read(FOLDER / name, 4)
    NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}).execute()
    return book


def printed(book: Any) -> str:
    return "".join(output.get("text", "") for cell in book.cells if cell.cell_type == "code" for output in cell.outputs)


def test_see_forgetting_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    book = executed("see-forgetting-happen.ipynb", monkeypatch)
    plain, replay, cpl = ([int(part) for part in found] for found in FORGOT.findall(printed(book))[-3:])
    assert plain[0] == plain[1] and plain[3] > max(replay[3], cpl[3]) and plain[2] > max(replay[2], cpl[2])
    assert sum("image/png" in output.get("data", {}) for cell in book.cells if cell.cell_type == "code" for output in cell.outputs) == 2


def test_keep_a_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(executed("keep-a-promise.ipynb", monkeypatch))
    free, guarded = ([int(part) for part in found] for found in FORGOT.findall(text.replace("budget-probe", ""))[:2])
    assert guarded[0] >= 0.8 * free[0] and guarded[3] < free[3]
    assert "kept: True" in text and "roll back" in text
