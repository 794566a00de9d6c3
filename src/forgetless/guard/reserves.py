"""Methods that stand behind the user's own and wait, at next to no cost, until the guard needs them."""

from __future__ import annotations

from typing import ClassVar

from forgetless.core.context import Context, Tree
from forgetless.core.method import Chain, Method
from forgetless.methods.cpl import CPL
from forgetless.methods.replay import Replay

REFRESH, BATCHES = 4, 1
"""Of `WaitingCPL` once awake: steps between references, and retain batches that one looks at."""


class WaitingCPL(CPL):
    """`CPL` that holds nothing back until it is tightened; from then on it takes the reference anew every `REFRESH` steps."""

    state_names: ClassVar[tuple[str, ...]] = (*CPL.state_names, "awake")

    def __init__(self) -> None:
        super().__init__(refresh=REFRESH, retain_batches=BATCHES)
        self.awake = False

    def begin_task(self, ctx: Context) -> None:
        self.reference, self.mean, self.position, self.awake, self.hurried = {}, {}, 0, False, 0

    def begin_step(self, ctx: Context) -> None:
        if self.awake:
            super().begin_step(ctx)

    @property
    def filters(self) -> bool:
        return self.awake

    def violation(self, ctx: Context, before: Tree, written: Tree) -> float | None:
        return super().violation(ctx, before, written) if self.awake else None

    def tighten(self, ctx: Context, factor: float) -> str:
        if ctx.task.retain is None or self.awake:
            return ""
        self.awake, self.taken_step = True, ctx.step - REFRESH
        return f"cpl holds back what works against the reference, taken anew every {REFRESH} steps"


class WaitingReplay(Replay):
    """`Replay` of the reference at strength 0 until it is tightened for the second time: at first `WaitingCPL` may be enough."""

    state_names: ClassVar[tuple[str, ...]] = (*Replay.state_names, "asked")

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(strength=0.0, seed=seed)
        self.asked = 0

    def begin_task(self, ctx: Context) -> None:
        super().begin_task(ctx)
        self.asked, self.raised = 0, None

    def tighten(self, ctx: Context, factor: float) -> str:
        self.asked += 1
        return super().tighten(ctx, factor) if self.asked > 1 else ""


def with_reserves(method: Method, seed: int) -> Method:
    """``method`` with the reserves behind it that it does not have itself: `WaitingReplay`, then `WaitingCPL`."""
    parts = method.methods if isinstance(method, Chain) else (method,)
    found = method
    if not any(isinstance(part, Replay) for part in parts):
        found = Chain(found, WaitingReplay(seed=seed))
    return found if any(isinstance(part, CPL) for part in parts) else Chain(found, WaitingCPL())
