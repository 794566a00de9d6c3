"""Shuffled walks through a memory."""

from __future__ import annotations

from typing import Any

import torch


class Walk:
    """Draws places of a memory without replacement: each once in a pass, every pass in an order of its own.

    Draws follow one another, so that 4 draws of 2 give what one draw of 8 gives.

    Args:
        seed: of the generator that it owns.
    """

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64)
        self.position = 0

    def draw(self, count: int, size: int) -> list[int]:
        """The next ``count`` places of a memory of ``size`` (at least 1); a memory of another size begins a new pass."""
        if len(self.order) != size:
            self.order, self.position = torch.empty(0, dtype=torch.int64), 0
        found: list[int] = []
        while len(found) < count:
            if self.position == len(self.order):
                self.order, self.position = torch.randperm(size, generator=self.generator), 0
            taken = self.order[self.position : self.position + count - len(found)].tolist()
            found, self.position = found + taken, self.position + len(taken)
        return found

    def restart(self) -> None:
        """Begin a new pass with the next draw: the memory holds others now."""
        self.order, self.position = torch.empty(0, dtype=torch.int64), 0

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"generator": self.generator.get_state(), "order": self.order, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.generator.set_state(state["generator"].cpu())
        self.order, self.position = state["order"].cpu(), state["position"]
