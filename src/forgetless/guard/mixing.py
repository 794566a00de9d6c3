"""Replay that waits until the guard needs it."""

from __future__ import annotations

from forgetless.core.method import Chain, Method
from forgetless.methods.replay import Replay


def with_mixing(method: Method, seed: int) -> Method:
    """``method`` with `Replay` of strength 0 behind it, which costs nothing until the guard tightens it, unless it replays already."""
    parts = method.methods if isinstance(method, Chain) else (method,)
    return method if any(isinstance(part, Replay) for part in parts) else Chain(method, Replay(strength=0.0, seed=seed))
