"""Raw results, which say what made them: the commands, the commits, the seeds and the machine.

Rows are kept as ``{"made": ..., "rows": [...]}``, a row a line; any other result has ``made`` beside its own keys. A file that is added
to at a later commit, or by another command, names both.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]


def made(before: Mapping[str, Any], seeds: Iterable[int]) -> Row:
    """What makes a result now, added to what made it before (its ``made``; empty at first)."""
    from forgetless.train.provenance import provenance

    program = Path(sys.argv[0]).resolve()
    called = program.relative_to(ROOT).as_posix() if program.is_relative_to(ROOT) else program.name
    command = without_paths(shlex.join(["python", called, *sys.argv[1:]]))
    machine = {"cpu": processor(), "cores": os.cpu_count(), "gpus": []}
    found = {"commands": command, "commits": provenance()["git"], "machines": machine}
    kept = {key: [*old, *([now] if now not in old else [])] for key, now in found.items() for old in [before.get(key, [])]}
    return kept | {"seeds": sorted({*before.get("seeds", ()), *seeds})}


def read(file: Path) -> list[Row]:
    """The rows of a raw result; none where there is no file."""
    rows: list[Row] = json.loads(file.read_text("utf-8"))["rows"] if file.is_file() else []
    return rows


def keep(file: Path, rows: Sequence[Row], seed: int = 0) -> None:
    """Write the rows of a raw result, and what made them; the file is there whole or as it was. Those that name no seed have ``seed``."""
    before = json.loads(file.read_text("utf-8"))["made"] if file.is_file() else {}
    head = json.dumps(made(before, {row.get("seed", seed) for row in rows}))
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(f'{{"made": {head},\n"rows": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}\n", encoding="utf-8")
    temporary.replace(file)


def named(file: Path, found: Mapping[str, Any], seeds: Iterable[int]) -> Row:
    """A result that is no list of rows, with ``made`` as its first key; ``file`` is where it was kept before, if it was."""
    before = json.loads(file.read_text("utf-8")).get("made", {}) if file.is_file() else {}
    return {"made": made(before, seeds)} | {key: value for key, value in found.items() if key != "made"}


def processor() -> str:
    """What this machine's processor calls itself."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text("utf-8"), re.MULTILINE) if info.is_file() else []
    return names[0] if names else platform.machine()


def without_paths(text: str) -> str:
    """A command with the last part alone of every absolute path."""
    return shlex.join(Path(part).name if part.startswith("/") else part for part in shlex.split(text))
