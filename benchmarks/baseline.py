"""The tables of the last release, to stand beside new figures."""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).with_name("baseline.json")


def beside(key: str, value: float) -> str:
    """What the last release had under ``key``, and by how much ``value`` differs; empty where it had nothing."""
    known = json.loads(FILE.read_text("utf-8"))["figures"]
    if key not in known:
        return ""
    was = known[key][0] if isinstance(known[key], list) else known[key]
    return f"   was {was:.2f}, {100 * (value / was - 1):+.0f}%"
