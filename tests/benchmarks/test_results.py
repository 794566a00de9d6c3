"""The published tables are what the committed raw results give."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))


def test_split_mnist_is_what_its_raw_results_give():
    import split_mnist

    assert split_mnist.table(split_mnist._read(split_mnist.RAW)) == split_mnist.TABLE.read_text("utf-8")


def test_the_facts_on_smollm2_are_what_their_raw_results_give():
    import facts_table

    text = facts_table.PAGE.read_text("utf-8")
    assert facts_table.page(text) == text
    assert all(line in text.split("\n") for line in facts_table.table().split("\n"))
