"""The processes that train one model together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """The processes that train one model together, as a method sees them; of one process every sum is the value itself.

    All methods of this class are collective: every process calls them, in the same order.

    Attributes:
        groups: process groups that together make up all processes, the outermost first; data differ from one to the next.
        shards: those of the groups over which weights are sharded; empty where every process holds all weights.
        device: where collectives run.
    """

    groups: tuple[Any, ...] = ()
    shards: tuple[Any, ...] = ()
    device: torch.device | str = "cpu"

    @property
    def size(self) -> int:
        """How many processes there are."""
        found = 1
        for group in self.groups:
            found *= dist.get_world_size(group)
        return found

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        found = 0
        for group in self.groups:
            found = found * dist.get_world_size(group) + dist.get_rank(group)
        return found

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes of something that each has of its own data (a count, a loss, a gradient)."""
        return self._reduced(values, self.groups, dist.ReduceOp.SUM)

    def max(self, values: Tensor) -> Tensor:
        """The largest over all processes, element by element."""
        return self._reduced(values, self.groups, dist.ReduceOp.MAX)

    def sum_shards(self, values: Tensor) -> Tensor:
        """The sum over all shards of something that each process has of its own weights or their gradients (a product, a square).

        Without shards it is the value itself: then every process has it of all weights already.
        """
        return self._reduced(values, self.shards, dist.ReduceOp.SUM)

    def first(self, values: Tensor) -> Tensor:
        """The values that the first process has, on every process."""
        return self.sum(values if self.rank == 0 else torch.zeros_like(values))

    def shares(self, count: int) -> list[int]:
        """The ``count`` of every process, by rank."""
        if not self.groups:
            return [count]
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = count
        found: list[int] = self.sum(counts).tolist()
        return found

    def gather(self, value: Any) -> list[Any]:
        """The value (any object that can be pickled, on the processor) of every process, by rank."""
        found = [value]
        for group in reversed(self.groups):
            parts: list[Any] = [None] * dist.get_world_size(group)
            dist.all_gather_object(parts, found, group=group)
            found = [one for part in parts for one in part]
        return found

    def _reduced(self, values: Tensor, groups: tuple[Any, ...], kind: Any) -> Tensor:
        if not groups:
            return values
        found = values.detach().to(self.device, copy=True)
        for group in groups:
            dist.all_reduce(found, op=kind, group=group)
        return found.to(values.device)
