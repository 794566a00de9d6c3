"""Errors that a user can mend. Every one says what is wrong, where, and how to mend it."""

from __future__ import annotations

import errno
import os

_NO_MEMORY = ("out of memory", "can't allocate memory", "std::bad_alloc", "failed to map segment", os.strerror(errno.ENOMEM).lower())
"""How CUDA, torch, C++, the loader of libraries and the system say it, in small letters."""


class ForgetlessError(Exception):
    """Base of all errors raised on purpose by forgetless."""


class InputError(ForgetlessError, ValueError):
    """Wrong input: a file, a row, an option, a folder. The command line exits with code 2.

    Args:
        what: what is wrong, in a few words.
        where: the file (and line, as ``file:line``), option or argument.
        mend: what the user can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        text = what if where is None else f"{where}: {what}"
        super().__init__(_one_line(text if mend is None else f"{text}. {mend}"))


class ProtectionError(ForgetlessError, RuntimeError):
    """Training could not be protected as promised, so it was stopped rather than run unprotected."""


def _one_line(text: str) -> str:
    """``text`` with every character that would end the line, or steer a terminal, written as Python writes it: names come from files."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory was refused: by Python, the system, torch or a GPU."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError | ImportError) and any(words in str(error).lower() for words in _NO_MEMORY)
