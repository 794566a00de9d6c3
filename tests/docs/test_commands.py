"""Every ``forgetless`` command on every page is one that the command line takes: its verb, flags, methods and their options exist."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest
import typer

from forgetless.cli.main import app
from forgetless.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES.remove(ROOT / "docs" / "flags.md")  # which the command line itself writes
EXAMPLES = {"l1sp"}
"""Methods of a package outside, which docs/add-a-method.md installs."""
OTHER_LANGUAGES = ("python", "json", "yaml", "toml", "text", "diff")
STANDS_IN = re.compile(r"[A-Z][A-Z0-9]*$|\.\.\.$|method_?name")
CLI = typer.main.get_command(app)


def written(page: str) -> list[list[str]]:
    """The words of each command, in blocks and in running text; what is optional (``[--fast]``) is taken."""
    lines, inside = [], None
    for line in page.replace("\\\n", " ").splitlines():
        if fence := re.match(r"\s*```(\w*)", line):
            inside = None if inside is not None else fence[1]
        elif inside is None:
            lines += re.findall(r"`((?:[\w./-]+ )*?(?:-m )?forgetless(?: [^`]*)?)`", line)
        elif inside not in OTHER_LANGUAGES:
            lines.append(line)
    found = []
    for line in lines:
        for command in re.findall(
            r"(?:^|(?<=\s))(?<!import )forgetless (?![:/])(.*)", re.sub(r"[\[\]]", " ", line) if "[--" in line else line
        ):
            words = shlex.split(command, comments=True)
            found.append([word for word in words[: words.index("|") if "|" in words else None] if word != "..."])
    return [words for words in found if words]


def wrong(words: list[str]) -> str:
    """What the command line would not take of a command; empty where it takes all."""
    if words[0].startswith("-"):
        flags = {option for parameter in CLI.params for option in parameter.opts} | {"--help", "--install-completion", "--show-completion"}
        return "" if words[0] in flags else f"no such flag {words[0]}"
    if words[0] not in CLI.commands:
        return f"no such verb {words[0]}"
    verb = CLI.commands[words[0]]
    context = type(CLI.make_context("forgetless", ["methods"], resilient_parsing=True))(verb, info_name=words[0])
    if len(words) == 1 or "--help" in words:
        return ""
    try:
        given, left, _ = verb.make_parser(context).parse_args(words[1:])
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return str(error.format_message())
    if left:
        return f"what is {left}?"
    return wrong_method(given) if words[0] in ("train", "stream") else ""


def wrong_method(given: dict[str, object]) -> str:
    """Of ``--method`` and ``--method-arg``: a method or an option that does not exist."""
    names = [name for name in str(given.get("method") or "").split(",") if name and not STANDS_IN.match(name)]
    for name in names:
        if name not in METHODS and name not in EXAMPLES:
            return f"no such method {name}"
    for argument in given.get("method_arg") or []:
        method, _, option = str(argument).partition("=")[0].partition(".")
        if method in EXAMPLES:
            continue
        if names and method not in names:
            return f"{argument} is of a method that is not used"
        if method not in METHODS or option not in inspect.signature(METHODS[method]).parameters:
            return f"no such option {argument}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_the_page_exists(page):
    complaints = [f"forgetless {shlex.join(words)}: {told}" for words in written(page.read_text("utf-8")) if (told := wrong(words))]
    assert not complaints


def test_there_are_commands_of_every_verb():
    verbs = {words[0] for page in PAGES for words in written(page.read_text("utf-8"))}
    assert set(CLI.commands) <= verbs


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("train --model M --inject F --methd cpl --out D", "methd"),
        ("tran --model M", "no such verb tran"),
        ("train --inject", "requires an argument"),
        ("report", ""),
        ("eval --model a b --out c", "what is"),
        ("train --method cpl,ewk --out D", "no such method ewk"),
        ("train --method cpl --method-arg cpl.refrsh=2", "no such option cpl.refrsh=2"),
        ("train --method cpl --method-arg ewc.strength=2", "not used"),
        ("train --method M --out D", ""),
        ("--versio", "no such flag --versio"),
        ("--version", ""),
    ],
)
def test_a_wrong_command_is_seen(command, told):
    found = wrong(written(f"```\nforgetless {command}  # why\n```\n")[0])
    assert (told in found) if told else not found


def test_commands_are_found_wherever_they_stand():
    block = "```sh\ntorchrun --nproc-per-node 2 -m forgetless train \\\n    --out D\n$ forgetless methods\n```\n"
    page = f"Type `forgetless report [--out FILE]`, or\n\n{block}"
    assert written(page) == [["report", "--out", "FILE"], ["train", "--out", "D"], ["methods"]]
    assert written("```text\nforgetless nonsense\n```\n`forgetless.report`") == []
