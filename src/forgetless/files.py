"""Writing files so that nothing half-written ever stands in place of something whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from forgetless.errors import InputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a quota reached, a file larger than the limit on files."""


def cache_folder() -> Path:
    """``$FORGETLESS_CACHE``, else ``$XDG_CACHE_HOME/forgetless``, else ``~/.cache/forgetless``."""
    own = os.environ.get("FORGETLESS_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forgetless"


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` durable (a no-op where folders cannot be opened)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows: folders cannot be opened, renames are durable by themselves
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Force the bytes of ``path`` to the disk."""
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the file system that names no file name ``path``; safetensors' errors become errors of the file system."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
    except Exception as error:
        for code in NO_ROOM:
            if os.strerror(code) in str(error):
                raise OSError(code, os.strerror(code), str(path)) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed over ``path``.

    On any error the temporary file, and the folders made for it, are removed and ``path`` is left as it was.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            sync_file(temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):  # not there, or not empty: then it is somebody else's
                temporary.unlink(missing_ok=True)
                for folder in missing:
                    folder.rmdir()
            raise


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``out``, which becomes ``out`` on success: the folder is there with all its files, or not at all.

    What a process that was killed left of an earlier attempt is removed.
    """
    out = out.absolute()
    temporary = out.with_name(f".{out.name}.tmp")
    missing = [folder for folder in out.parents if not folder.exists()]
    with naming(out):
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
            os.replace(temporary, out)
            sync_folder(out.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):  # not empty: then it is somebody else's
                for folder in missing:
                    folder.rmdir()
            raise


def left_overs(*folders: Path) -> list[Path]:
    """What a process that was killed left half-written in these folders: ours end in .tmp, those of safetensors begin with it."""
    entries = [entry for folder in folders if folder.is_dir() for entry in folder.iterdir()]
    return [entry for entry in entries if entry.name.startswith(".") and (entry.name.startswith(".tmp") or entry.name.endswith(".tmp"))]


def clear_left_overs(*folders: Path) -> None:
    """Remove what `left_overs` finds. Only for folders that are locked against other processes."""
    for entry in left_overs(*folders):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def check_writable(out: Path, *, folder: bool) -> None:
    """Raise `InputError` where ``out`` cannot be made (a folder, else a file); leaves nothing behind.

    Meant to be called before long work whose result goes to ``out``.
    """
    what = "folder" if folder else "file"
    mend = f"Name a {what} for --out that can be written"
    try:
        if out.is_dir() and not folder:
            raise InputError("it is a folder", where=str(out), mend="Name a file for --out")
        if out.exists() and folder and not out.is_dir():
            raise InputError("it is a file", where=str(out), mend="Name a folder for --out")
        if out.is_symlink() and not out.exists():
            raise InputError("it is a link to nothing", where=str(out), mend=mend)
        place = out.absolute() if folder else out.absolute().parent
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise InputError(f"{place} is not a folder", where=str(out), mend=mend)
        trial = place / f".{out.name}.try.tmp"  # of a name of its own, so that one left by a kill right here is removed by the next call
        trial.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another process did
            trial.rmdir()
    except OSError as error:
        if error.errno in NO_ROOM:
            raise OSError(error.errno, error.strerror, str(out)) from error
        raise InputError(f"it cannot be made ({error.strerror})", where=str(out), mend=mend) from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line to ``path`` whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[Any]:
    """Read a JSON Lines file that forgetless wrote itself (split on newline only: U+2028 stays in its row)."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line.strip()]
