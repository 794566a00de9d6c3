"""The docs say everything: every public name, every flag, every page in the navigation."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import forgetless
from docs.public_api import lines

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def test_the_public_names_and_their_signatures_are_those_that_were_agreed():
    agreed = (Path(__file__).parent / "public_api.txt").read_text("utf-8").splitlines()
    assert list(lines()) == agreed, "run: python tests/docs/public_api.py > tests/docs/public_api.txt, and say it in CHANGELOG.md"


@pytest.mark.parametrize("name", forgetless.__all__)
def test_every_public_name_has_its_docstring_on_the_reference_page(name):
    where = f"forgetless.{forgetless._WHERE[name]}"
    shown = re.findall(r"^::: (\S+)", (DOCS / "reference.md").read_text("utf-8"), flags=re.M)
    assert f"{where}.{name}" in shown or where in shown
    value = getattr(forgetless, name)
    assert not (inspect.isclass(value) or inspect.isroutine(value)) or (inspect.getdoc(value) or "").strip()


def test_the_page_of_flags_is_what_the_command_line_says():
    made = subprocess.run(
        [sys.executable, "-m", "typer", "forgetless.cli.main", "utils", "docs", "--name", "forgetless"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (DOCS / "flags.md").read_text("utf-8").strip() == made.stdout.strip(), "run: make flags"
    undocumented = re.findall(r"^\* `(--[a-z-]+[^`]*)`\s*$", made.stdout, flags=re.M)
    assert not undocumented, f"flags without a word of help: {undocumented}"


def test_every_page_is_in_the_navigation_and_every_entry_a_page():
    def entries(part):
        return (
            [part]
            if isinstance(part, str)
            else [name for item in (part.values() if isinstance(part, dict) else part) for name in entries(item)]
        )

    told = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    assert sorted(entries(told)) == sorted(str(page.relative_to(DOCS)) for page in PAGES)
