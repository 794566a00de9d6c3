"""What the guard does after a look: a small machine of plain values, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from forgetless.guard.evidence import alarms, within

TIGHTEN, LOWER, ROLL_BACK, STOP, RAISE = "tighten", "lower the rate", "roll back", "stop", "raise the rate"
FACTOR = 2.0
"""By how much one act tightens the method, or divides the learning rate."""
MOST_TIGHTENED, MOST_LOWERED, MOST_ROLLBACKS = 2, 2, 6
SAFE = 0.3
"""The share of the budget that a look may lead to expect where training is to end: a probe is a sample, and the promise is given on other
items. On the way more may be lost for a while: what learning something new displaces comes back in part as it settles."""
CALM = 3
"""Good looks, one after another, until the rate is raised again by one step."""


class Act(NamedTuple):
    """One thing to do, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found.

    Attributes:
        step: optimizer steps done.
        forgotten, total: of the probe's items that were right at the start how many are wrong now, and how many there are.
        expected: the share forgotten that the margins lead to expect; None where the scorer tells no margins.
        margin: the median of the margins, in nats; None likewise.
    """

    step: int
    forgotten: int
    total: int
    expected: float | None = None
    margin: float | None = None

    @property
    def lost(self) -> tuple[int, float]:
        """How bad it is: what was forgotten, then what the margins lead to expect (0 without them)."""
        return self.forgotten, self.expected or 0.0


@dataclass(slots=True)
class Policy:
    """The guard's memory, and what it makes of a look.

    In order: tighten the method; lower the rate; go back to the last good look; stop there. A look over the budget that proves
    nothing yet is answered by what can be undone: tightening, then a rate lowered once; one that alarms (`evidence.alarms`) by going
    back, and a lower rate from there. A guard that goes back at every excess learns nothing: what was learned since is lost with what
    was forgotten, and the same comes again. While looks over the budget get better one after another nothing is done: what was
    tightened is at work. After `CALM` good looks the rate goes up again by one step, so that a guard that was too careful still
    learns; once a look after that is over the budget it never does again.

    Attributes:
        allowed: the share that may be forgotten.
        looks: so far.
        tightened, lowered: how many steps of each are in force; rollbacks: how many there were.
        calm: looks one after another that were within the budget.
        worse: how bad the last look over the budget was; None after a good one, and after going back.
        stopped: whether training ends.
        on_trial, tried: whether the rate has been raised again, and whether that went wrong.
    """

    allowed: float
    looks: int = 0
    tightened: int = 0
    lowered: int = 0
    rollbacks: int = 0
    calm: int = 0
    worse: float | None = None
    stopped: bool = False
    on_trial: bool = False
    tried: bool = False

    def good(self, look: Look) -> bool:
        """Whether a look is within the budget, both by what was forgotten and by what the margins lead to expect."""
        return within(look.forgotten, look.total, self.allowed) and not self._early(look)

    def safe(self, look: Look) -> bool:
        """Whether training may end there, enough being learned: well within the budget (`SAFE`), with at most half of it forgotten."""
        share = look.forgotten / look.total if look.expected is None else look.expected
        few = within(2 * look.forgotten, look.total, self.allowed)
        return self.good(look) and few and share <= max(SAFE * self.allowed, 0.5 / look.total) + 1e-12

    def unsafe(self, look: Look) -> list[Act]:
        """What is to be done where enough is learned but a look is not `safe`."""
        self.tried = True  # the rate never goes up again
        expected = "" if look.expected is None else f" and {look.expected:.3g} expected by the margins"
        reason = f"enough is learned, but {look.forgotten} of {look.total} forgotten{expected} is too near the budget to end with"
        return [self._careful(reason)] if self._can() else []

    def _early(self, look: Look) -> bool:
        return look.expected is not None and look.expected > max(self.allowed, 0.5 / look.total) + 1e-12

    def judge(self, look: Look) -> list[Act]:
        """Take a look in; what is to be done, in order. Call it once for each look."""
        self.looks += 1
        if self.good(look):
            self.worse = None
            self.calm += 1
            if self.calm >= CALM and self.lowered and not self.tried:
                self.calm, self.lowered, self.on_trial = 0, self.lowered - 1, True
                return [Act(RAISE, f"{CALM} looks one after another were within the budget")]
            return []
        self.calm, self.tried = 0, self.tried or self.on_trial
        last, self.worse = self.worse, max(look.forgotten / look.total, look.expected or 0.0)
        if last is not None and self.worse < last:
            return []
        what = f"{look.forgotten} of {look.total} forgotten"
        if not alarms(look.forgotten, look.total, self.allowed, self.looks):
            if not within(look.forgotten, look.total, self.allowed):
                reason = f"{what}, over the budget"
            else:
                reason = f"margins fell: {look.expected:.3g} of what was known would be forgotten ({what} so far)"
            return [self._careful(reason)] if self._can(lowered=1) else []
        reason = f"{what}: more than {self.allowed:.3g} of what was known, not by chance"
        self.worse = None
        if self.rollbacks >= MOST_ROLLBACKS:
            self.stopped = True
            return [Act(ROLL_BACK, reason), Act(STOP, f"it went back {self.rollbacks} times before")]
        self.rollbacks += 1
        acts = [Act(ROLL_BACK, reason)]
        if self.tightened < MOST_TIGHTENED:
            acts.append(self._careful(reason))
        if self.lowered < MOST_LOWERED:
            self.lowered += 1
            acts.append(Act(LOWER, "to go on from there with smaller steps"))
        return acts

    def _can(self, *, lowered: int = MOST_LOWERED) -> bool:
        return self.tightened < MOST_TIGHTENED or self.lowered < lowered

    def _careful(self, reason: str) -> Act:
        if self.tightened < MOST_TIGHTENED:
            self.tightened += 1
            return Act(TIGHTEN, reason)
        self.lowered += 1
        return Act(LOWER, reason)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        for name, value in state.items():
            setattr(self, name, value)
