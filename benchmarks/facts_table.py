"""The table of docs/results/facts.md, made anew from the folders that ``sh benchmarks/facts.sh`` leaves.

python benchmarks/facts_table.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import yaml

FOLDER = Path(__file__).parents[1] / "docs" / "results" / "facts"
PAGE = FOLDER.with_suffix(".md")
ROWS = ("none", "none-higher-rate", "ewc", "replay", "cpl", "lora")


def main() -> None:
    """Print the table and put it in its place."""
    print(table())
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


def page(text: str) -> str:
    """The page with the table as the results give it."""
    lines = text.split("\n")
    rows = [index for index, line in enumerate(lines) if line.startswith("|")]
    return "\n".join([*lines[: rows[0]], table(), *lines[rows[-1] + 1 :]])


def table() -> str:
    """A line for each method."""
    made = ["| method | rate | ACC | forgetting | unseen phrasing | kept by the method |", "|---|---|---|---|---|---|"]
    for name in ROWS:
        matrix = json.loads((FOLDER / name / "matrix.json").read_text("utf-8"))
        config = yaml.safe_load((FOLDER / name / "config.yaml").read_text("utf-8"))
        options = ", ".join(f"{key}={value}" for own in matrix["method_args"].values() for key, value in own.items())
        figures = matrix["figures"]
        unseen = statistics.fmean(value for value in matrix["heldout"][-1] if value is not None)
        cells = [
            f"`{matrix['method']}`{f' ({options})' if options else ''}",
            f"{config['lr']:g}",
            f"{100 * figures['acc']['mean']:.1f}",
            f"{100 * figures['forgetting']['mean']:.1f} ± {100 * figures['forgetting']['se']:.1f}",
            f"{100 * unseen:.0f}",
            f"{matrix['state_bytes'] / 1e6:.1f} MB",
        ]
        made.append(f"| {' | '.join(cells)} |")
    return "\n".join(made)


if __name__ == "__main__":
    main()
