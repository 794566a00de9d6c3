"""An optimizer's step, chunk by chunk, filtered by the method."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from forgetless.core.compact import CompactState, compacting
from forgetless.core.context import Context
from forgetless.core.descent import Descends, take_steps
from forgetless.core.figures import Figures
from forgetless.core.method import Method
from forgetless.core.stepping import Piece, step_in_chunks

AUDIT_EVERY = 50
"""Steps from one to the next on which the promised constraint is measured."""


class Scratch:
    """Room for copies of some tensors at a time; it grows to the most that was asked for."""

    def __init__(self) -> None:
        self._room = torch.empty(0, dtype=torch.uint8)

    def copies(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Contiguous copies of the parts, good until the next call."""
        sizes = [-(-part.numel() * part.element_size() // 64) * 64 for part in parts.values()]
        device = next(iter(parts.values())).device
        if self._room.numel() < sum(sizes) or self._room.device != device:
            self._room = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
        copies, start = {}, 0
        for (name, part), size in zip(parts.items(), sizes, strict=True):
            room = self._room[start : start + part.numel() * part.element_size()]
            copies[name] = room.view(part.dtype).view(part.shape).copy_(part)
            start += size
        return copies


class Filter:
    """Steps chunks of weights, lets the method decide what stays of it, and measures what it promised."""

    def __init__(self, method: Method, ctx: Context, figures: Figures) -> None:
        self.method, self.ctx, self.figures, self.scratch = method, ctx, figures, Scratch()
        freezes = compacting(method, ctx)
        self.compact = None if freezes is None else CompactState(freezes, ctx)

    def step(self, names: dict[nn.Parameter, str], raw_step: Callable[[], object], chunk_bytes: int) -> None:
        """Step the parameters ``names``, filtered. A method that can takes the optimizer's step upon itself."""
        ctx = self.ctx
        if self.compact is not None:
            self._compactly(self.compact, names, raw_step)
            return
        if isinstance(self.method, Descends) and ctx.step % AUDIT_EVERY and not ctx.held.sharded:
            names = take_steps(self.method, ctx, names)
            if not names:
                return
        step_in_chunks(ctx.optimizer, raw_step, names, max(1, chunk_bytes // 3), self.visit)

    def close(self) -> None:
        """Give back all memory, and what the optimizer holds that fits this task alone."""
        self.scratch = Scratch()
        if self.compact is not None:
            self.compact.close()

    def _compactly(self, compact: CompactState, names: dict[nn.Parameter, str], raw_step: Callable[[], object]) -> None:
        """Step all at once; every now and then one by one, to measure what moved."""
        ctx = self.ctx
        if ctx.step % AUDIT_EVERY:
            compact.step(names, raw_step)
            return
        for parameter, name in names.items():
            if parameter.grad is None:
                continue
            before = {name: parameter.detach().clone()}
            ctx.gradients = {name: parameter.grad}
            compact.step({parameter: name}, raw_step)
            moved = self.method.violation(ctx, before, {name: parameter.detach()})
            if moved is not None:
                self.figures.moved(moved)
        ctx.gradients = {}

    def visit(self, chunk: list[Piece], step: Callable[[], None]) -> None:
        """Take ``step`` on a chunk. Of sharded weights the method sees this process's part."""
        ctx = self.ctx
        own = [(piece, ctx.parameters[piece.name]) for piece in chunk]
        before = self.scratch.copies({piece.name: piece.of(part.detach()) for piece, part in own})
        audit = {k: v.clone() for k, v in before.items()} if ctx.step % AUDIT_EVERY == 0 else None
        ctx.gradients = {piece.name: piece.of(part.grad) for piece, part in own if part.grad is not None}
        ctx.offsets = {piece.name: piece.offset for piece in chunk}
        step()
        after = {piece.name: piece.of(part) for piece, part in own}
        kept = self.method.update(ctx, before, after)
        for name, tensor in after.items():
            if kept[name] is not tensor:
                tensor.copy_(kept[name])
        if audit is not None:
            moved = self.method.violation(ctx, audit, after)
            if moved is not None:
                self.figures.moved(moved)
        ctx.gradients, ctx.offsets = {}, {}
