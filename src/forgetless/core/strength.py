"""Options whose number may be found instead of given: ``strength="auto"``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from forgetless.core import options
from forgetless.core.context import Context
from forgetless.core.method import Chain, Method
from forgetless.errors import InputError

Auto = Literal["auto"]
AUTO: Auto = "auto"


class Adjustable(Method, ABC):
    """A method that is governed by one number, which may be ``"auto"``: then a search finds it as a task begins (`core.search`).

    Attributes:
        label: the method's name and the option's, joined by a dot, for messages and reports.
        found: the number in force in place of what the user gave; None while nothing was put in its place. Part of the state.
        searched: what the search saw, where it took place in this process.
    """

    label: ClassVar[str]
    option: ClassVar[str] = "strength"
    """The attribute, and the option, that holds what the user gave."""
    costs: ClassVar[bool] = False
    """Whether a greater number takes more time, so that of equally good ones the smallest is chosen."""
    found: float | None = None
    searched: dict[str, Any] | None = None

    @abstractmethod
    def protects(self, ctx: Context) -> bool:
        """Whether there is anything to protect in this task, so that the number matters."""

    def numbers(self, ctx: Context) -> tuple[float, ...]:
        """The numbers to try where they have a scale of their own; empty: `core.search` finds the scale."""
        return ()

    @property
    def automatic(self) -> bool:
        """Whether a search is to find the number."""
        return bool(getattr(self, self.option) == AUTO)

    def tighten(self, ctx: Context, factor: float) -> str:
        """Raise the number in force by ``factor``, for a guard that sees too much forgotten; says so, or nothing where it is 0."""
        number = self.in_force(ctx)
        if not number or not self.protects(ctx):
            return ""
        self.found = number * factor
        return f"{self.label} from {number:g} to {self.found:g}"

    def in_force(self, ctx: Context) -> float:
        """The number to act with; reported where it was found. While a search is still to come it is 0."""
        if self.found is not None:
            ctx.report(self.label, self.found)
            if self.searched is not None and not ctx.step:
                ctx.report(f"{self.label}.search", self.searched)
            return self.found
        return 0.0 if self.automatic else float(getattr(self, self.option))


def automatic(method: Method) -> list[Adjustable]:
    """The parts of a chain, or the method itself, whose number is to be found."""
    parts = method.methods if isinstance(method, Chain) else (method,)
    return [part for part in parts if isinstance(part, Adjustable) and part.automatic]


def number_or_auto(label: str, value: float | Auto) -> float | Auto:
    """A finite number from 0 up, or ``"auto"``.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, str):
        return options.choice(label, value, (AUTO,))
    return options.number(label, value)


def nothing_to_measure(label: str, task: str) -> InputError:
    """The error for a search without old examples."""
    return InputError(
        f"auto is found by what stays known, and task {task!r} brings no old examples to look at",
        where=label,
        mend="Give old data, which need not be trained on: a retain set, or Task(..., probe=batches); or give a number",
    )
