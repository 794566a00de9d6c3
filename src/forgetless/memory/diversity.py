"""A memory that covers what each task looked like: k-centre greedy selection (Gonzalez 1985; Sener & Savarese 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.core.context import Context
from forgetless.core.gradients import quiet
from forgetless.errors import InputError
from forgetless.memory.reservoir import Reservoir
from forgetless.memory.store import Store

CANDIDATES, LEAST = 4, 1000
"""The selection chooses from so many times the capacity, and from no fewer than so many."""
BATCH = 64


class Coverage:
    """Keeps ``capacity`` examples, an equal share of each task, chosen so that every one is near to one that is kept.

    A greedy selection is nested: its first m examples are the selection of m. So each task's examples are kept in the order
    in which they were chosen, and make room for later tasks from the back.

    While it chooses, at most four times ``capacity`` examples of the task (or 1,000), a uniform sample, stand in memory.

    Args:
        capacity: how many examples to hold.
        seed: of the sample of candidates.

    Raises:
        InputError: the capacity is not positive.

    Attributes:
        store: the examples held, task by task, each task's in the order of selection.
        counts: how many of each task.
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        if capacity < 1:
            raise InputError(f"{capacity!r} is not allowed", where="capacity", mend="Give a whole number of at least 1")
        self.capacity, self.seed = capacity, seed
        self.store, self.counts = Store(), list[int]()

    def __len__(self) -> int:
        return len(self.store)

    def take(self, ctx: Context, examples: Iterable[Any]) -> None:
        """Choose from the examples of one more task, and cut the earlier tasks to their share."""
        sample = Reservoir(max(LEAST, CANDIDATES * self.capacity), self.seed + len(self.counts))
        for example in examples:
            sample.offer(example)
        if not len(sample):
            return
        shares = _shares([*self.counts, len(sample)], self.capacity)
        kept, start = Store(), 0
        for count, share in zip(self.counts, shares, strict=False):
            kept.examples += self.store.examples[start : start + share]
            start += count
        candidates = sample.store
        chosen = k_centres(features(ctx, candidates), shares[-1])
        kept.examples += [candidates.examples[place] for place in chosen]
        kept.extras = [{} for _ in kept.examples]
        self.store, self.counts = kept, shares

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"store": self.store.state_dict(), "counts": list(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.store.load_state_dict(state["store"])
        self.counts = list(state["counts"])


def k_centres(points: Tensor, count: int) -> list[int]:
    """Greedy cover of the rows of ``points``: first the one nearest to the mean, then always the farthest from those chosen.

    The largest distance of any row to its nearest chosen one is at most twice the best possible (Gonzalez 1985).
    """
    points = points - points.mean(0)
    squares = points.square().sum(1)
    nearest, chosen = squares.new_full(squares.shape, float("inf")), list[int]()
    while len(chosen) < min(count, len(points)):
        place = int(nearest.argmax()) if chosen else int(squares.argmin())
        chosen.append(place)
        nearest = torch.minimum(nearest, (squares + squares[place] - 2 * (points @ points[place])).clamp_(min=0))
        nearest[place] = -1.0  # not again, even where all that is left are copies
    return chosen


def features(ctx: Context, store: Store) -> Tensor:
    """For each example the mean over its predicted rows of what the model's last linear layer gets (without one: of the logits).

    In evaluation mode, on the CPU, of shape (examples, width).
    """
    predictions, device = ctx.task.predictions, next(iter(ctx.parameters.values())).device
    found = []
    with quiet(ctx.model), torch.no_grad():
        for start in range(0, len(store), BATCH):
            batch = store.batch(range(start, min(start + BATCH, len(store))), predictions, device)
            last: list[Tensor] = []
            handles = [
                module.register_forward_pre_hook(lambda _, args, last=last: last.__setitem__(slice(None), args[:1]))
                for module in ctx.model.modules()
                if isinstance(module, nn.Linear)
            ]
            try:
                outputs = predictions.outputs(ctx.model, batch)
            finally:
                for handle in handles:
                    handle.remove()
            rows = predictions.logits(outputs, batch, every=True)
            size = predictions.size(batch)
            if last and last[0].ndim in (2, 3) and last[0].shape[0] == size:
                inner = predictions.logits(last[0], batch, every=True)
                rows = inner if inner.shape[0] == rows.shape[0] else rows
            owners = predictions.owners(batch).to(rows.device)
            total = torch.zeros(size, rows.shape[1], dtype=torch.float32, device=rows.device)
            total.index_add_(0, owners, rows.float())
            found.append((total / torch.bincount(owners, minlength=size).clamp(min=1)[:, None]).cpu())
    return torch.cat(found)


def _shares(counts: Sequence[int], capacity: int) -> list[int]:
    """Divide the capacity evenly; what a task cannot fill goes to the others, a remainder to the earlier ones."""
    shares = [0] * len(counts)
    left = capacity
    while left:
        open_ = [place for place, count in enumerate(counts) if shares[place] < count]
        if not open_:
            break
        each = max(1, left // len(open_))
        for place in open_:
            more = min(each, counts[place] - shares[place], left)
            shares[place] += more
            left -= more
    return shares
