"""Every reader of files that come from outside, as a function of bytes: it gives something, or says in an `InputError` what is wrong."""

from __future__ import annotations

import html.parser
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml

from forgetless.core.state import load_state, save_state
from forgetless.data.reading import read_questions
from forgetless.errors import InputError
from forgetless.evaluation.suite import read_suite
from forgetless.report.page import render
from forgetless.report.read_run import read_run
from report.folders import write_run

ROWS = [
    {"prompt": "The capital of Peru is", "answer": ["Lima", "lima"], "id": "a", "subject": "capital", "lang": "en"},
    {"question": "Which gas?", "choices": ["oxygen", "helium"], "answer": "B"},
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
    {"text": "plain\u2028text"},
]
SUITE = """name: mine
parts:
  - {name: facts, data: facts.jsonl, scorer: exact, by: subject, lang: [en]}
  - {name: shuffled, data: facts.jsonl, scorer: free-text, wording: "Please: {prompt}", limit: 2}
"""


@contextmanager
def placed(name: str, data: bytes) -> Iterator[Path]:
    """A file with these bytes in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path


def question_file(suffix: str) -> Callable[[bytes], bool]:
    """Reads bytes as a question file with this suffix."""

    def read(data: bytes) -> bool:
        with placed(f"questions{suffix}", data) as path:
            return _taken(lambda: read_questions(path))

    return read


def suite_file(data: bytes) -> bool:
    """Reads bytes as a suite beside a question file."""
    with placed("suite.yaml", data) as path:
        (path.parent / "facts.jsonl").write_text(json.dumps(ROWS[0]) + "\n", "utf-8")
        return _taken(lambda: read_suite(str(path)))


def state_file(data: bytes) -> bool:
    """Reads bytes as a state."""
    with placed("state.safetensors", data) as path:
        return _taken(lambda: load_state(path))


def run_file(name: str) -> Callable[[bytes], bool]:
    """Reads a run folder in which the file ``name`` holds these bytes, and makes its page."""

    def read(data: bytes) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            run = write_run(Path(folder) / "run", items=3, epochs=1, steps=2, layers=2)
            (run / name).write_bytes(data)
            return _taken(lambda: _parsed(render([read_run(run)])))

    return read


def seeds() -> dict[str, bytes]:
    """For every reader a file that it takes."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    table = b'prompt,answer,id\nThe capital of Peru is,Lima,a\n"two\nlines",x,b\n'
    found = {
        ".jsonl": lines,
        ".json": json.dumps(ROWS).encode(),
        ".csv": table,
        ".tsv": table.replace(b",", b"\t"),
        ".parquet": _parquet(),
        "suite": SUITE.encode(),
        "state": _state(),
    }
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", items=3, epochs=1, steps=2, layers=2)
        found |= {file.name: file.read_bytes() for file in sorted(run.iterdir()) if file.is_file()}
    return found


def readers() -> dict[str, Callable[[bytes], bool]]:
    """By the names of `seeds`."""
    own = {name: question_file(name) for name in (".jsonl", ".json", ".csv", ".tsv", ".parquet")}
    own |= {"suite": suite_file, "state": state_file}
    return own | {name: run_file(name) for name in seeds() if name not in own}


def _taken(read: Callable[[], object]) -> bool:
    """Whether ``read`` took the bytes; anything but an `InputError` that says what, where and how to mend it goes through."""
    try:
        read()
    except InputError as error:
        text = str(error)
        assert text.strip() and "\n" not in text, repr(text)
        return False
    return True


class _Page(html.parser.HTMLParser):
    """Counts what a page must not have more of than its template gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "href") or value is None or value.startswith(("#", "data:")), (tag, value)


def _parsed(page: str) -> None:
    seen = _Page()
    seen.feed(page)
    clean = _Page()
    with tempfile.TemporaryDirectory() as folder:
        clean.feed(render([read_run(write_run(Path(folder) / "run", items=3, epochs=1, steps=2, layers=2))]))
    assert seen.scripts == clean.scripts


def _parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({"prompt": ["The capital of Peru is"], "answer": ["Lima"]}), sink)
    return bytes(sink.getvalue().to_pybytes())


def _state() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        save_state(path, {"weights": torch.arange(3.0), "step": 3, "order": (1, [2, {"a": None}]), 7: True})
        return path.read_bytes()


def yaml_bytes(value: object) -> bytes:
    """``value`` as YAML."""
    return yaml.safe_dump(value, allow_unicode=True).encode()
