"""Typed access to the keys of one JSON or YAML mapping; a wrong or missing key is an InputError that names it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from forgetless.errors import InputError

_T = TypeVar("_T")


class Fields:
    """A mapping read from ``where`` (a file, or ``file:line``).

    The ``maybe_`` readers return None for a key that is absent or null; the others demand it.
    """

    def __init__(self, value: Any, where: str) -> None:
        self.where = where
        if not isinstance(value, Mapping):
            raise InputError(
                f"must be a mapping of keys to values, not {_kind(value)}", where=where, mend="Restore the file or train again"
            )
        self.mapping: Mapping[str, Any] = {str(key): item for key, item in value.items()}

    def wrong(self, key: str, problem: str) -> InputError:
        """The error that says what is wrong with ``key``."""
        return InputError(f"{key!r} {problem}", where=self.where, mend="Restore the file or train again")

    def maybe_text(self, key: str) -> str | None:
        """A string or None."""
        value = self.mapping.get(key)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(key, f"must be a string, not {_kind(value)}")

    def maybe_whole(self, key: str) -> int | None:
        """A whole number or None."""
        value = self.mapping.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self.wrong(key, f"must be a whole number, not {_kind(value)}")

    def maybe_number(self, key: str) -> float | None:
        """A number (it may be NaN or infinite: a diverged run has such losses) or None."""
        value = self.mapping.get(key)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        raise self.wrong(key, f"must be a number, not {_kind(value)}")

    def maybe_part(self, key: str) -> Fields | None:
        """A nested mapping or None."""
        value = self.mapping.get(key)
        return None if value is None else Fields(value, f"{self.where}, {key}")

    def text(self, key: str) -> str:
        """A string."""
        return self._there(key, self.maybe_text(key))

    def whole(self, key: str) -> int:
        """A whole number."""
        return self._there(key, self.maybe_whole(key))

    def count(self, key: str, total: int) -> int:
        """How many of ``total``: a whole number from 0 to that."""
        return self._of(key, self.whole(key), total)

    def maybe_count(self, key: str, total: int | None) -> int | None:
        """How many of ``total``, or None."""
        value = self.maybe_whole(key)
        return value if value is None or total is None else self._of(key, value, total)

    def number(self, key: str) -> float:
        """A number."""
        return self._there(key, self.maybe_number(key))

    def maybe_flag(self, key: str) -> bool | None:
        """True, false or None."""
        value = self.mapping.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(key, f"must be true or false, not {_kind(value)}")

    def flag(self, key: str) -> bool:
        """True or false."""
        return self._there(key, self.maybe_flag(key))

    def texts(self, key: str) -> list[str]:
        """A list of strings; empty where the key is absent or null."""
        value = self.mapping.get(key)
        if value is None:
            return []
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value
        raise self.wrong(key, f"must be a list of strings, not {_kind(value)}")

    def part(self, key: str) -> Fields:
        """A nested mapping; empty where the key is absent or null."""
        return self.maybe_part(key) or Fields({}, f"{self.where}, {key}")

    def parts(self, key: str) -> Iterator[tuple[str, Fields]]:
        """The nested mappings of a mapping, by name; none where the key is absent or null."""
        part = self.part(key)
        for name, value in part.mapping.items():
            yield name, Fields(value, f"{part.where}.{name}")

    def _of(self, key: str, value: int, total: int) -> int:
        if not 0 <= value <= total:
            raise self.wrong(key, f"is {value}, and there are {max(0, total)} to count")
        return value

    def _there(self, key: str, value: _T | None) -> _T:
        if value is None:
            raise self.wrong(key, "is missing")
        return value


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
