"""Hub data sets: names, what counts as a path, and reading through the library (from a local folder, without a network)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forgetless.data import hub, reading
from forgetless.data.hub import HubName, parse_hub_name, read_hub
from forgetless.data.reading import read_questions
from forgetless.errors import InputError


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("owner/name", ("owner/name", None, None)),
        ("owner/name:test", ("owner/name", None, "test")),
        ("owner/name/config:test", ("owner/name", "config", "test")),
        ("owner/name/config", ("owner/name", "config", None)),
        ("owner/na.me-1_x:train[:5]", ("owner/na.me-1_x", None, "train[:5]")),
        ("name", None),
        ("owner/", None),
        ("owner/name:", None),
        ("a/b/c/d", None),
        ("owner/na me", None),
        ("https://host/name", None),
    ],
)
def test_names(source: str, parts: tuple[str, str | None, str | None] | None) -> None:
    assert parse_hub_name(source) == (HubName(*parts) if parts else None)


@pytest.mark.parametrize(
    "source",
    ["data/q.jsonl", "q.jsonl:12", "data/q.CSV", "./owner/name", "../owner/name", "/owner/name", "~/owner", "q.txt", "data\\q", "C:/q"],
)
def test_what_looks_like_a_path_never_goes_to_the_hub(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("sent to the hub")

    monkeypatch.setattr(reading, "read_hub", refuse)
    with pytest.raises(InputError, match="no such file"):
        read_questions(source)


def test_what_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    with pytest.raises(InputError, match="is a folder"):
        read_questions("owner/name")


def test_neither_a_file_nor_a_hub_name() -> None:
    with pytest.raises(InputError, match=r"^questions: neither a file nor the name of a hub data set"):
        read_questions("questions")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs the package datasets. Install it: pip install 'forgetless\[hf\]'"):
        read_questions("owner/name")


def test_without_a_network_the_error_is_one_line() -> None:
    pytest.importorskip("datasets")
    code = "from forgetless.data.reading import read_questions as r\ntry: r('nobody/none-such:test')\nexcept ValueError as e: print(e)"
    source = str(Path(reading.__file__).parents[2])
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith("nobody/none-such: cannot be loaded from the hub: Couldn't reach ")  # the rest is worded by datasets
    assert line.endswith("or name a local file (.jsonl, .json, .csv, .tsv, .parquet)")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    made = tmp_path / "set"
    made.mkdir()
    choices = {"text": ["red", "blue"], "label": ["1", "2"]}
    rows = [{"question": f"Which is {n}?", "choices": choices, "answerKey": "2"} for n in range(3)]
    (made / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (made / "test.jsonl").write_text(json.dumps(rows[0]) + "\n" + json.dumps(rows[1] | {"answerKey": ""}) + "\n")
    return made


def as_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let owner/name mean ``folder``."""
    monkeypatch.setattr(reading, "parse_hub_name", lambda source: HubName(str(folder), None, source.partition(":")[2] or None))


def test_rows_are_read_through_the_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_hub(monkeypatch, folder)
    questions = read_questions("owner/name:train")
    assert [(q.prompt, q.choices, q.label, q.where) for q in questions] == [
        (f"Which is {n}?", ("red", "blue"), 1, f"owner/name:train:{n + 1}") for n in range(3)
    ]
    assert read_questions("owner/name:train", limit=2) == questions[:2]
    assert read_questions("owner/name:train", limit=50) == questions
    with pytest.raises(InputError, match=r"^owner/name:test:2: the row has no answer"):
        read_questions("owner/name:test")


def test_a_split_must_be_named_where_there_are_several(folder: Path) -> None:
    with pytest.raises(InputError, match=r"the data set has the splits train, test. Name one, for example \S+:train"):
        read_hub(HubName(str(folder)), None)
    with pytest.raises(InputError, match='cannot be loaded from the hub: Unknown split "nope"'):
        read_hub(HubName(str(folder), None, "nope"), None)
    (folder / "test.jsonl").unlink()
    assert len(read_hub(HubName(str(folder)), None)) == 3


def test_images_are_not_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"prompt": datasets.Value("string"), "answer": datasets.Value("string"), "image": datasets.Image()})
    row = {"prompt": ["p"], "answer": ["a"], "image": [{"bytes": b"no image at all", "path": None}]}
    made = datasets.Dataset.from_dict(row, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
    image = {"bytes": "bm8gaW1hZ2UgYXQgYWxs", "path": None}
    assert hub.read_hub(HubName("owner/name"), None)[0].row == {"prompt": "p", "answer": "a", "image": image}
    with pytest.raises(InputError, match=r"^owner/name:1: image must be the path of a file, not dict"):
        read_questions("owner/name")
