"""A uniform sample of all examples ever offered, of fixed size (Vitter 1985, Algorithm R)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from forgetless.errors import InputError
from forgetless.memory.store import Store


class Reservoir:
    """Keeps ``capacity`` examples; after n offers each has been kept with probability capacity / n.

    Args:
        capacity: how many examples to hold.
        seed: of the generator that it owns.
        where: what an error calls the capacity.

    Raises:
        InputError: the capacity is no whole number of at least 1.

    Attributes:
        store: the examples held.
        offered: how many have been offered.
    """

    def __init__(self, capacity: int, seed: int = 0, *, where: str = "capacity") -> None:
        if not isinstance(capacity, int) or isinstance(capacity, bool) or capacity < 1:
            raise InputError(f"{capacity!r} is not allowed", where=where, mend="Give a whole number of at least 1")
        self.capacity, self.offered = capacity, 0
        self.store = Store()
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.store)

    def place(self) -> int | None:
        """Count one more offer: the place that the example takes, or None if it is not kept."""
        self.offered += 1
        if len(self.store) < self.capacity:
            return len(self.store)
        drawn = int(torch.randint(self.offered, (1,), generator=self.generator))
        return drawn if drawn < self.capacity else None

    def put(self, place: int, example: Any, extra: dict[str, Tensor] | None = None) -> None:
        """Keep an example in a place that `place` gave."""
        if place == len(self.store):
            self.store.add(example, extra)
        else:
            self.store.replace(place, example, extra)

    def offer(self, example: Any, extra: dict[str, Tensor] | None = None) -> None:
        """Show it one more example; it keeps it or not."""
        place = self.place()
        if place is not None:
            self.put(place, example, extra)

    def draw(self, count: int) -> list[int]:
        """``count`` places, uniformly, with replacement; one after another, so that 4 and 4 are the same as 8."""
        return torch.randint(len(self.store), (count,), generator=self.generator).tolist()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"store": self.store.state_dict(), "offered": self.offered, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.store.load_state_dict(state["store"])
        self.offered = state["offered"]
        self.generator.set_state(state["generator"].cpu())
