"""The section of a model card: the figures of the run, every text as text, an existing card kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from forgetless.errors import InputError
from forgetless.files import read_jsonl
from forgetless.report.card import BEGIN, END, HEADING, escape, model_card, section, sections, write_card
from report.folders import write_run
from report.pages import guard

EVIL = "<script>x</script> | a [link](javascript:x) ![i](x) `code` *bold* _it_ ~~no~~ $x$ # https://evil.example www.evil.example \\| <!-- "


def parts(run: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    summary, config = json.loads((run / "summary.json").read_text()), yaml.safe_load((run / "config.yaml").read_text())
    return summary, read_jsonl(run / "items.jsonl"), config


def tokens(text: str) -> list[Any]:
    """Every token of the Markdown, those inside others too."""
    found = MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(text)
    return [inner for token in found for inner in (token, *(token.children or ()))]


def test_it_says_the_figures_of_the_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    guard(run, kept=False)
    summary, items, config = parts(run)
    text = section(summary, items, config)
    for count, total in (("learned", "inject_total"), ("forgotten", "retain_total"), ("forgotten_heldout", "retain_heldout_total")):
        assert f"| {summary[count]} of {summary[total]} | " in text
    probe = summary["probes"]["other-kinds"]
    assert f"| Forgotten, other-kinds | {probe['forgotten']} of {probe['total']} |" in text
    assert "**Broken**: 2 of 60 items that neither" in text and "at most 5% forgotten" in text
    assert "forgetless train --model smollm2-135m" in text and "method cpl" in text and "seed 0" in text


def test_every_text_from_the_data_stands_as_text(tmp_path: Path) -> None:
    summary, items, config = parts(write_run(tmp_path / "run", hostile=True))
    for item in items:
        item |= {"prompt": EVIL, "said_after": EVIL, "split": EVIL}
    summary |= {"method": EVIL, "model": EVIL, "probes": {EVIL: {"total": 3, "forgotten": 1}}}
    text = model_card(summary, items, config | {"scorer": EVIL, "model": "`````"})
    found = tokens(text.split("---\n", 2)[2].replace(BEGIN, "").replace(END, ""))
    kinds = {token.type for token in found}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "em_open", "s_open", "code_inline"}, kinds
    assert sum(token.type == "table_open" for token in found) == 2 and sum(token.type == "fence" for token in found) == 1
    shown = ["".join(child.content for child in token.children or ()) for token in found if token.type == "inline"]
    assert any(" ".join(EVIL.split()) in line for line in shown)
    outside = text.split("```")[0]
    assert EVIL[:8] not in outside and "https://" not in outside and "www." not in outside


def test_escaping_is_undone_by_a_reader_of_markdown() -> None:
    for text in (EVIL, "a_b*c", "1. x", "\\", "line\nbreak", "50% & <b>", "`````"):
        inline = next(token for token in tokens(f"x {escape(text)}") if token.type == "inline")
        assert "".join(child.content for child in inline.children) == f"x {' '.join(text.split())}"


def test_a_new_card_has_front_matter_and_an_old_one_is_kept(tmp_path: Path) -> None:
    summary, items, config = parts(write_run(tmp_path / "run"))
    file = write_card(tmp_path, summary, items, config)
    front = yaml.safe_load(file.read_text().split("---\n")[1])
    assert front == {"base_model": "HuggingFaceTB/SmolLM2-135M-Instruct", "library_name": "transformers", "tags": ["forgetless"]}
    first = file.read_text()
    write_card(tmp_path, summary, items, config)
    assert file.read_text() == first, "the section takes the place of itself"
    file.write_text("---\nlicense: mit\n---\n# Mine\n\nKept.\n")
    write_card(tmp_path, summary | {"learned": 1}, items, config)
    text = file.read_text()
    assert text.startswith("---\nlicense: mit\n---\n# Mine\n\nKept.\n") and text.count(HEADING) == 1 and "It learned 1 of" in text


def test_a_local_model_is_no_hub_name(tmp_path: Path) -> None:
    summary, items, config = parts(write_run(tmp_path / "run", model="/home/me/models/x"))
    assert "base_model" not in yaml.safe_load(model_card(summary, items, config).split("---\n")[1])


def test_several_runs_and_an_unfinished_one(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "one"), write_run(tmp_path / "two", method="none")]
    text = sections(runs)
    assert f"## {HEADING}: one" in text and f"## {HEADING}: two" in text
    with pytest.raises(InputError, match="no finished run"):
        sections([write_run(tmp_path / "three", finished=False)])
