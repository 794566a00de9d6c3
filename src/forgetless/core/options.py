"""Checks of options: each gives the value back, or refuses it by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from forgetless.errors import InputError

T = TypeVar("T")


def number(where: str, value: float, *, above: bool = False, high: float | None = None, below: float | None = None) -> float:
    """A finite number from 0 up.

    Args:
        where: the option, as ``method.option`` or ``--option``.
        value: what was given.
        above: 0 itself is not allowed.
        high: the largest allowed.
        below: what it must be smaller than.

    Raises:
        InputError: it is something else.
    """
    real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    inside = real and (value > 0 or (value == 0 and not above)) and (high is None or value <= high) and (below is None or value < below)
    if inside:
        return float(value)
    least = "above 0" if above else "from 0 up"
    most = "" if high is None else f" to {high:g}"
    raise refused(where, value, f"a number {least}{most}" if below is None else f"a number {least}, and below {below:g}")


def whole(where: str, value: int, least: int = 1, most: int | None = None) -> int:
    """A whole number of at least ``least``, and at most ``most`` where that is given, likewise."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least and (most is None or value <= most):
        return value
    raise refused(where, value, f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}")


def count(where: str, value: int | None) -> int | None:
    """A whole number of at least 1, or None for all, likewise."""
    return None if value is None else whole(where, value)


def seed(where: str, value: int) -> int:
    """A whole number from 0 up, likewise."""
    return whole(where, value, 0)


def flag(where: str, value: bool) -> bool:
    """``value``, if it is True or False."""
    if isinstance(value, bool):
        return value
    raise refused(where, value, "True or False")


def choice(where: str, value: T, allowed: Sequence[T]) -> T:
    """One of ``allowed``, likewise."""
    if isinstance(value, str) and value in allowed:
        return value
    raise refused(where, value, " or ".join(repr(one) for one in allowed))


def refused(where: str, value: object, expected: str) -> InputError:
    """The error that says what to give in place of a value, for checks of a method's own."""
    return InputError(f"{value!r} is not allowed", where=where, mend=f"Give {expected}")
