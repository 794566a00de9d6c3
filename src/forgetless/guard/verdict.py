"""Whether the promise was kept, on items that neither the method nor the guard saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from forgetless.errors import InputError
from forgetless.guard.evidence import CONFIDENCE, interval, needed, upper, within


@dataclass(frozen=True, slots=True)
class Promise:
    """The verdict on a budget.

    Attributes:
        allowed: the share that may be forgotten.
        forgotten: right before, wrong after, of the promise's items.
        total: those of them that were right before.
        kept: whether the share forgotten is at most ``allowed``.
        low, high: exact two-sided 95% interval of the share forgotten among all such items.
        upper: its exact one-sided 95% upper bound.
        confidence: 0.95.
    """

    allowed: float
    forgotten: int
    total: int
    kept: bool
    low: float
    high: float
    upper: float
    confidence: float = CONFIDENCE

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def sentence(self) -> str:
        """The verdict in one sentence."""
        counted = f"{self.forgotten} of {self.total} known items that neither the guard nor the method saw were forgotten"
        sure, bound = f"{self.confidence:.0%} confidence", f"{_percent(self.upper)}"
        budget = f"budget {_percent(self.allowed)}"
        if not self.kept:
            proof = f", and with {sure} it is more than that" if self.low > self.allowed else f"; at most {bound} with {sure}"
            return f"The promise was broken ({budget}): {counted} ({_percent(self.forgotten / self.total)}){proof}"
        if self.upper <= self.allowed:
            return f"The promise was kept ({budget}): {counted}; at most {bound} with {sure}"
        enough = needed(self.allowed, self.confidence)
        more = "no number of items could" if enough is None else f"it takes {enough} items or more to"
        return (
            f"The promise was kept on the sample ({budget}): {counted}; at most {bound} with {sure}, so {self.total} items are too few "
            f"to exclude that it is broken elsewhere ({more} show that at this budget)"
        )


def promise(before: Sequence[bool], after: Sequence[bool], allowed: float) -> Promise:
    """The verdict on items asked before and after, in the same order.

    Raises:
        InputError: none was right before.
    """
    known = [now for was, now in zip(before, after, strict=True) if was]
    if not known:
        raise nothing_known("the promise's items")
    lost = known.count(False)
    low, high = interval(lost, len(known))
    return Promise(allowed, lost, len(known), within(lost, len(known), allowed), low, high, upper(lost, len(known)))


def nothing_known(which: str) -> InputError:
    """The error where a model knows nothing that it could forget."""
    return InputError(
        f"the model answers none of {which} right, so there is nothing to keep",
        where="--budget",
        mend="Give questions that it knows (forgetless split finds them)",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
