"""The pages that say what to type are typed, in a fresh folder each; ``smollm2-135m`` there is a tiny model that knows some questions.

Every command must work, and every line shown must come out, but for its numbers, which are the real model's: ``python tests/docs/pages.py
docs/start.md`` compares those too.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from cli.warm import Warm
from docs.pages import NOT_RUN, ROOT, blocks, changed, commands, expanded, follow, masked, missing

PAGES = [ROOT / "docs" / "start.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
NOTHING_TO_RUN = "cluster"
"""The page whose commands need several processes or machines."""
KNOWN = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home folder whose cache holds, under the name of the embedded model, a tiny one that was taught some of the questions."""
    made = tmp_path_factory.mktemp("home")
    cache = made / ".cache" / "forgetless"
    cache.mkdir(parents=True)
    own = Path(os.environ.get("FORGETLESS_CACHE") or Path.home() / ".cache" / "forgetless") / "compiled"
    own.mkdir(parents=True, exist_ok=True)
    (cache / "compiled").symlink_to(own)  # the step's loops, which take seconds to compile
    rows = [json.loads(line) for line in (ROOT / "examples" / "questions" / "keep.jsonl").read_text("utf-8").splitlines()]
    start = runpy.run_path(str(ROOT / "examples" / "start.py"))
    model = start["make_tiny_model"](cache / "smollm2-135m", rows[:KNOWN])
    for file, change in (
        ("config.json", {"max_position_embeddings": 512}),
        ("tokenizer_config.json", {"chat_template": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"}),
    ):
        told = json.loads((model / file).read_text("utf-8"))
        (model / file).write_text(json.dumps(told | change), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def warm(home, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        _live_in(home, patch)
        made = Warm(tmp_path_factory.mktemp("streams"))
        yield made
        made.close()


def _live_in(home, patch):
    patch.setenv("HOME", str(home))
    patch.delenv("FORGETLESS_CACHE", raising=False)
    patch.delenv("XDG_CACHE_HOME", raising=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_page_says_is_what_happens(page, home, warm, tmp_path, monkeypatch):
    _live_in(home, monkeypatch)
    (tmp_path / "forgetless").symlink_to(ROOT)

    def run(words, folder):
        words = expanded(words, folder)
        if words[0] == "forgetless":
            done = warm.run(*words[1:], cwd=folder)
            return done.code, done.out + (done.err if done.code else "")
        if words[0] == "python" and words[1].endswith(".py"):
            return script(words[1:], folder, monkeypatch)
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + (done.stderr if done.returncode else "")

    assert follow(page.read_text("utf-8"), tmp_path, run, masked) > 0 or page.stem == NOTHING_TO_RUN


def script(words, folder, patch):
    """Run a script in this process, which has imported torch and transformers."""
    out = io.StringIO()
    patch.chdir(folder)
    patch.setattr(sys, "argv", words)
    patch.setenv("CUDA_VISIBLE_DEVICES", "")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        runpy.run_path(str(folder / words[0]), run_name="__main__")
    return 0, out.getvalue()


def test_every_guide_of_the_site_is_among_them_and_has_commands_with_output():
    told = {str(page.relative_to(ROOT / "docs")) for page in PAGES}
    nav = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert told == set(re.findall(r"\b(start\.md|guides/[\w-]+\.md)", nav))
    for page in PAGES:
        kinds = [block.kind for block in blocks(page.read_text("utf-8"))]
        assert "sh" in kinds and ("text" in kinds or page.stem == NOTHING_TO_RUN), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_installed_exists(page):
    pins = (ROOT / "constraints.txt").read_text("utf-8") + (ROOT / "Makefile").read_text("utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for block in blocks(page.read_text("utf-8")):
        if block.title == "once":
            for words, _ in commands(block.text):
                for word in words:
                    if named := re.search(r"\[([\w,-]+)\]$", word):
                        assert set(named[1].split(",")) <= set(extras), word
                    if "==" in word:
                        assert word in pins, f"{word} is not the version that is tested"


def test_a_page_fails_where_a_line_does_not_come_out_or_a_command_fails(tmp_path):
    page = "```sh\necho 1 fish\n```\n\n```text\n{}\n```\n"
    ran = []

    def run(words, folder):
        ran.append(words)
        return int(words[0] == "false"), " ".join(words[1:]) + "\n"

    assert follow(page.format("1 fish"), tmp_path, run, str) == 1
    assert follow(page.format("2 fish"), tmp_path, run, masked) == 1
    with pytest.raises(AssertionError, match="shown and not printed"):
        follow(page.format("2 fish"), tmp_path, run, str)
    with pytest.raises(AssertionError, match="ended with 1"):
        follow("```sh\nfalse\n```\n", tmp_path, run, str)
    with pytest.raises(AssertionError, match="ended with 0"):
        follow("```sh\ntrue # exit code 3\n```\n", tmp_path, run, str)
    with pytest.raises(AssertionError, match="output of no command"):
        follow("```text\n1 fish\n```\n", tmp_path, run, str)
    assert len(ran) == 5
    assert follow('```sh title="once"\nfalse\n```\n', tmp_path, run, str) == 0 and "once" in NOT_RUN


def test_lines_are_compared_in_their_order():
    assert missing("a\n...\nc", "a\nb\nc", str) == []
    assert missing("c\na", "a\nb\nc", str) == ["a"]


def test_a_diff_changes_the_lines_that_it_names_and_no_others():
    assert changed("a\nb\nc\nd\n", " a\n-b\n+B\n@@\n d\n+e\n") == "a\nB\nc\nd\ne\n"
    with pytest.raises(ValueError, match="0 times"):
        changed("a\n", "-b\n+c\n")
    with pytest.raises(ValueError, match="2 times"):
        changed("a\na\n", "-a\n+c\n")


def test_the_yaml_on_these_pages_is_yaml():
    for page in PAGES:
        for block in blocks(page.read_text("utf-8")):
            if block.kind == "yaml":
                assert yaml.safe_load(block.text)
