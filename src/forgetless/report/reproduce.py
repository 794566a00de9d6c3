"""How a run was set up: its settings, and the command that makes it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from forgetless.report.numbers import plain
from forgetless.report.run import INJECT, STANDARD_SPLITS, Run
from forgetless.report.tables import Table

_NOT_FLAGS = {"files", "method_args", "versions", "git", "budget"}
"""Keys of ``config.yaml`` that are told in another way, or are no setting."""

_OFF = {"blend": "--no-blend"}
"""Flags of switches that are on unless they are turned off."""


def command(config: Mapping[str, Any], out: str) -> str | None:
    """The command of a run with this ``config.yaml``, every setting spelled out; None where it names no inject file.

    Args:
        config: the content of ``config.yaml``.
        out: the folder to name.
    """
    files = config.get("files")
    if not isinstance(files, Mapping) or INJECT not in files:
        return None
    words = ["forgetless", "train", "--model", str(config.get("model"))]
    for split, file in files.items():
        path = str(file.get("path") if isinstance(file, Mapping) else file)
        words += [f"--{split}", path] if split in STANDARD_SPLITS else ["--probe", f"{split}={path}"]
    for key, value in config.items():
        if key in _NOT_FLAGS or key == "model" or value is None or (value is False and key not in _OFF):
            continue
        flag = f"--{key.replace('_', '-')}"
        words += [flag] if value is True else [_OFF[key]] if value is False else [flag, _text(value)]
    budget = config.get("budget")
    if budget is not None:
        words += ["--budget", _text(budget.get("allowed") if isinstance(budget, Mapping) else budget)]
    args = config.get("method_args")
    for method, options in (args if isinstance(args, Mapping) else {}).items():
        for name, value in (options if isinstance(options, Mapping) else {}).items():
            words += ["--method-arg", f"{method}.{name}={_text(value)}"]
    return shlex.join([*words, "--out", out])


def settings(run: Run) -> dict[str, str]:
    """The settings as dotted keys and text."""
    flat: dict[str, str] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, part in value.items():
                add(f"{prefix}.{key}" if prefix else str(key), part)
        else:
            flat[prefix] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)

    add("", dict(run.config))
    return flat


def settings_table(runs: Sequence[Run], names: Sequence[str], *, differing: bool) -> Table:
    """All settings, a column a run; with ``differing`` only those that are not the same in all runs."""
    columns = [settings(run) for run in runs]
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = [
        [key, *(column.get(key, "\N{EN DASH}") for column in columns)]
        for key in keys
        if not differing or len({column.get(key) for column in columns}) > 1
    ]
    return Table("Settings that differ between the runs" if differing else "All settings", ["setting", *names], rows)


def paired_table(runs: Sequence[Run], names: Sequence[str]) -> Table | None:
    """Before against after on each split of each run, with the exact test; None where no run recorded it."""
    rows = [
        [
            name,
            split,
            str(pair.n),
            str(pair.learned),
            str(pair.forgotten),
            _signed(pair.difference),
            f"{_signed(pair.low)} to {_signed(pair.high)}",
            plain(pair.p_value),
        ]
        for run, name in zip(runs, names, strict=True)
        if run.summary
        for split, pair in run.summary.paired.items()
    ]
    head = ["run", "split", "items", "learned", "forgotten", "accuracy change, points", "95% interval", "p (exact McNemar)"]
    return Table("Before against after training, the same items", head, rows) if rows else None


def _text(value: Any) -> str:
    """A value as the command line reads it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return value if isinstance(value, str) else json.dumps(value)


def _signed(value: float) -> str:
    return f"{value * 100:+.1f}".replace("-", "\N{MINUS SIGN}")
