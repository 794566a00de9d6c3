"""Damaged and invented files: whatever the bytes are, a reader takes them or says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.readers import readers, seeds, yaml_bytes

READERS, SEEDS = readers(), seeds()
MANY = settings(deadline=None, suppress_health_check=list(HealthCheck))

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["A", "x.jsonl", "../x", "~", "1e-3"])
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=6)), min_size=1, max_size=6)


def edited(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """``data`` with bytes put in, cut out, or written over, or the rest cut off, at relative places."""
    for place, kind, new in changes:
        at = int(place * len(data))
        data = (
            data[:at] + new + data[at:],
            data[:at] + data[at + len(new) :],
            data[:at] + new + data[at + len(new) :],
            data[:at] + new,
        )[kind]
    return data


@pytest.mark.parametrize("name", sorted(READERS))
def test_what_is_written_well_is_taken(name: str) -> None:
    assert READERS[name](SEEDS[name])


@pytest.mark.parametrize("name", sorted(READERS))
@MANY
@given(changes=edits)
def test_damaged_files_are_taken_or_told(name: str, changes: list[tuple[float, int, bytes]]) -> None:
    READERS[name](edited(SEEDS[name], changes))


@pytest.mark.parametrize("name", [".jsonl", ".json", ".csv", "suite", "config.yaml"])
@MANY
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_taken_or_told(name: str, data: bytes) -> None:
    READERS[name](data)


def replaced(rows: list[dict[str, Any]], draw: st.DataObject) -> list[dict[str, Any]]:
    """The rows with one value replaced by another, or one key renamed."""
    row = draw.draw(st.sampled_from([row for row in rows if row]))
    key = draw.draw(st.sampled_from(sorted(row)))
    if draw.draw(st.booleans()):
        row[key] = draw.draw(values)
    else:
        row[draw.draw(st.text(max_size=8))] = row.pop(key)
    return rows


@pytest.mark.parametrize("name", [".jsonl", "metrics.jsonl", "items.jsonl"])
@MANY
@given(draw=st.data())
def test_rows_with_other_values_are_taken_or_told(name: str, draw: st.DataObject) -> None:
    rows = [json.loads(line) for line in SEEDS[name].splitlines()]
    READERS[name]("".join(json.dumps(row) + "\n" for row in replaced(rows, draw)).encode())


@MANY
@given(draw=st.data())
def test_a_summary_with_other_values_is_taken_or_told(draw: st.DataObject) -> None:
    READERS["summary.json"](json.dumps(replaced([json.loads(SEEDS["summary.json"])], draw)[0]).encode())


@pytest.mark.parametrize("name", ["suite", "config.yaml"])
@MANY
@given(value=values | st.dictionaries(st.sampled_from(["name", "parts", "files", "method", "lr"]), values))
def test_any_yaml_is_taken_or_told(name: str, value: Any) -> None:
    READERS[name](yaml_bytes(value))


def state_of(header: Any) -> bytes:
    """A state file with this content and no tensor."""
    import struct

    text = json.dumps({"__metadata__": {"forgetless": json.dumps(header)}}).encode()
    return struct.pack("<Q", len(text)) + text


kinds = st.sampled_from(["$dict", "$list", "$tuple", "$tensor", "$other"])
headers = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(kinds, inner, max_size=2))


@MANY
@given(header=headers)
def test_a_state_with_any_content_is_taken_or_told(header: Any) -> None:
    READERS["state"](state_of(header))


def test_deep_nesting_is_told() -> None:
    deep: Callable[[str, str], bytes] = lambda begin, end: (begin * 100_000 + end * 100_000).encode()  # noqa: E731
    assert not READERS[".json"](deep("[", "]"))
    assert not READERS["state"](SEEDS["state"][:8] + deep("[", "]"))
    assert not READERS["suite"](deep("[", "]"))
    assert not READERS["summary.json"](deep("[", "]"))
