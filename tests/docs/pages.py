"""What stands in the fenced blocks of a page, and running it as a reader would.

    python tests/docs/pages.py docs/start.md    # types the page in a fresh folder, with the real model, and compares what comes out

On a page that is run, a block is one of

- ``sh``: commands, typed one after another in one folder; a ``text`` block right behind shows what they print on standard output
  (``...`` stands for lines left out). With a title they are not run: ``once`` (installing), ``on a cluster`` (machines that are not here),
  ``in two processes`` (what tests/examples and tests/distributed run), ``with models of your own`` (names that stand for others);
- ``python`` or ``yaml`` with a title: a file of that name; ``diff`` with a title: changes of that file;
- ``python`` without a title: a fragment, which test_blocks runs.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_RUN = ("once", "on a cluster", "in two processes", "with models of your own")
FENCE = re.compile(r'^```(\w*)(?: title="([^"]*)")?\n(.*?)^```$', flags=re.S | re.M)
Run = Callable[[list[str], Path], tuple[int, str]]
"""Runs one command in a folder; gives its exit code and its standard output."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its title and its text."""

    kind: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page)]


def commands(text: str) -> Iterator[tuple[list[str], int]]:
    """The command lines of a shell block, as words without comments, with the exit code that a comment ``# exit code 3`` announces."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            told = re.search(r"# exit code (\d)", line)
            yield words, int(told[1]) if told else 0


def changed(text: str, diff: str) -> str:
    """``text`` with the changes of ``diff``, whose parts are parted by lines that begin with ``@@``."""
    for part in re.split(r"^@@.*\n", diff, flags=re.M):
        lines = part.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        if lines and text.count(old) != 1:
            raise ValueError(f"these lines stand in the file {text.count(old)} times:\n{old}")
        text = text.replace(old, new)
    return text


def plain(line: str) -> str:
    """A line without what differs from machine to machine: seconds and such, which only trainers' own logs have here."""
    return " ".join(re.sub(r"('train_(?:runtime|samples_per_second|steps_per_second)'): '[^']*'", r"\1: '...'", line).split())


def masked(line: str) -> str:
    """A line without its numbers: what a tiny model has in common with the real one."""
    return re.sub(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?", "#", plain(line))


def missing(shown: str, printed: str, form: Callable[[str], str]) -> list[str]:
    """The lines shown that were not printed, in their order."""
    left = [form(line) for line in printed.splitlines()]
    lost = []
    for line in shown.splitlines():
        if line.strip() in ("", "..."):
            continue
        if form(line) in left:
            left = left[left.index(form(line)) + 1 :]
        else:
            lost.append(line)
    return lost


def follow(page: str, folder: Path, run: Run, form: Callable[[str], str]) -> int:
    """Do what ``page`` says, in ``folder``; gives the number of commands that ran.

    Raises:
        AssertionError: a command fails, or does not print what the page shows.
    """
    printed, count = None, 0
    for block in blocks(page):
        if block.kind == "text":
            assert printed is not None, f"output of no command: {block.text}"
            lost = missing(block.text, printed, form)
            assert not lost, f"shown and not printed: {lost}; printed was\n{printed}"
        elif block.kind == "sh" and not block.title:
            printed = ""
            for words, told in commands(block.text):
                code, out = run(words, folder)
                assert code == told, f"{shlex.join(words)} ended with {code}: {out[-2000:]}"
                printed, count = printed + out, count + 1
        elif block.kind == "sh":
            assert block.title in NOT_RUN, block.title
        elif block.kind == "diff":
            file = folder / block.title
            file.write_text(changed(file.read_text("utf-8"), block.text), encoding="utf-8")
        elif block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        else:
            assert block.kind == "python", f"a block of which nobody knows what it is: {block.kind} {block.text[:60]}"
    return count


def expanded(words: list[str], folder: Path) -> list[str]:
    """``words`` with ``~`` and with patterns of file names filled in, as a shell does."""
    found: list[str] = []
    for word in map(os.path.expanduser, words):
        matches = sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if "*" in word else []
        found += matches or [word]
    return found


def _typed(words: list[str], folder: Path) -> tuple[int, str]:
    print("$", shlex.join(words), flush=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        expanded(words, folder), cwd=folder, env=os.environ | {"PATH": path}, stdout=subprocess.PIPE, text=True, check=False
    )
    print(done.stdout, end="", flush=True)
    return done.returncode, done.stdout


def main() -> None:
    """See the top of the file."""
    for name in sys.argv[1:]:
        folder = Path(tempfile.mkdtemp(prefix="page-"))
        (folder / "forgetless").symlink_to(ROOT)
        try:
            print(f"{name}: {follow(Path(name).read_text('utf-8'), folder, _typed, plain)} commands, all as shown")
        except AssertionError as error:
            sys.exit(f"{name}: {error}")
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
