"""Fifty kills at random moments of every other long verb: the same command gives in the end what it gives when left alone."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cli.world import snapshot

KILLS = 50
TIMES = {"seconds", "eval_seconds", "peak_memory_bytes", "seconds_per_step"}
VERBS: dict[str, list[str]] = {
    "split": ["--model", "model", "--data", "all.jsonl"],
    "diagnose": ["--model", "model", "--inject", "inject.jsonl", "--retain", "retain.jsonl", "--rates", "1e-5", "--curve-items", "1"],
    "stream": ["--stream", "split-digits", "--method", "replay", "--seeds", "2", "--steps", "4", "--batch-size", "16", "--resume"],
}


def content(folder: Path) -> dict[str, Any]:
    """Every file of a result: JSON without times, all else as bytes, but for the pages, which show times."""
    found: dict[str, Any] = {}
    for name, data in snapshot(folder).items():
        if data is None or name.endswith(".html"):
            found[name] = data is None
        elif name.endswith(".json"):
            found[name] = timeless(json.loads(data))
        else:
            found[name] = data
    return found


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("verb", VERBS)
def test_fifty_kills_change_nothing(warm: Any, place: Path, verb: str) -> None:
    began = time.perf_counter()
    done = warm.run(verb, *VERBS[verb], "--out", "alone", "--json", cwd=place)
    assert (done.code, done.err) == (0, ""), done.err
    whole, expected = time.perf_counter() - began, content(place / "alone")
    others = set(snapshot(place)) | {"killed"}
    draw, kills, number = random.Random(random.SystemRandom().randrange(10**6)), 0, 0
    while kills < KILLS:
        number += 1
        out = f"run-{number}"
        while True:
            done = warm.kill_after(draw.uniform(0, whole), verb, *VERBS[verb], "--out", out, "--json", cwd=place)
            if done.code == 0:
                break
            if done.code == 2 and "the folder is not empty" in done.err:
                break  # killed after its folder had become whole, before it ended: so the next call sees it
            assert done.code == -signal.SIGKILL, done.err
            kills += 1
            if kills >= KILLS:
                done = warm.run(verb, *VERBS[verb], "--out", out, "--json", cwd=place)
                assert (done.code, done.err) == (0, "") or (done.code == 2 and "the folder is not empty" in done.err), done.err
                break
        assert content(place / out) == expected, out
    left = [name for name in set(snapshot(place)) - others if not name.startswith("run-") or "tmp" in name]
    assert not left, left
