"""Questions enough to share between choosing and reporting, a tiny model that knows some of them, and a plan."""

from __future__ import annotations

from pathlib import Path

from cli.world import rows, write_rows

SIZES = {"inject": 12, "inject-heldout": 4, "retain": 12, "retain-heldout": 12, "other": 8}
PLAN = """\
title: A tiny comparison
model: model
data:
  inject: inject.jsonl
  inject-heldout: inject-heldout.jsonl
  retain: retain.jsonl
  retain-heldout: retain-heldout.jsonl
  probes: {other: other.jsonl}
methods: [none, replay]
rates: [3e-3, 1e-2]
seeds: [0]
budget: {epochs: 4}
batch-size: 4
retain-batch-size: 4
levels: [0.2, 0.5]
checkpoint-every: 2
"""


def write_questions(folder: Path) -> None:
    """A file for each split, and ``known.jsonl`` with all that the model is to know."""
    for name, count in SIZES.items():
        write_rows(folder / f"{name}.jsonl", rows(name, count))
    write_rows(folder / "known.jsonl", [row for name in ("retain", "retain-heldout", "other") for row in rows(name, SIZES[name])])


TEACH = ["train", "--model", "raw", "--inject", "known.jsonl", "--method", "none", "--lr", "1e-2", "--epochs", "60"]
TEACH += ["--until-learned", "0.9", "--batch-size", "8", "--out", "taught", "--json"]
"""Arguments that make ``taught/model`` of ``raw``, a model of `tiny.make_tiny_model`."""
