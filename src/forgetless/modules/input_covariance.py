"""What goes into a model's linear layers: the uncentred covariance of their inputs over some batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

OUTLIER = 3.0
"""An input longer than so many times the median of its run counts as one of that length: the first token of a text is
many times longer than all others in some layers, and would leave these unprotected."""


class Inputs(NamedTuple):
    r"""What was seen of the inputs of some layers.

    Attributes:
        covariance: :math:`\frac1n \sum_i x_i x_i^\top` in fp32 (of fp64 inputs fp64) on the CPU, by the first of the layers that are
            given the same input.
        counts: n, likewise.
        sources: for each layer that was called the name under which its input stands.
    """

    covariance: dict[str, Tensor]
    counts: dict[str, int]
    sources: dict[str, str]

    def and_more(self, other: Inputs) -> Inputs:
        """Both taken together."""
        covariance, counts = dict(self.covariance), dict(self.counts)
        for name, new in other.covariance.items():
            old, total = counts.get(name, 0), counts.get(name, 0) + other.counts[name]
            covariance[name] = new if not old else covariance[name].lerp(new, other.counts[name] / total)
            counts[name] = total
        return Inputs(covariance, counts, other.sources | self.sources)


def watch(layers: Mapping[str, nn.Linear], runs: Iterable[tuple[Callable[[], Any], Tensor | None]]) -> Inputs:
    """See what goes into the layers in some forward passes.

    Args:
        layers: by name.
        runs: each one forward pass or several, with a tensor that is true where a position of a batch counts (padding does not), or
            None. An input of other leading dimensions than the tensor counts whole.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    sources: dict[str, str] = {}
    seen: dict[str, list[Tensor]] = {}  # of this run
    last: list[tuple[Tensor, str]] = []  # layers that share an input are called one after another
    mask: Tensor | None = None
    looking = False  # what makes the next run may ask the model too

    def look(name: str, given: Tensor) -> None:
        if not looking:
            return
        if not last or last[0][0] is not given:
            last[:] = [(given, name)]
        if sources.setdefault(name, last[0][1]) != name:
            return
        rows = given.detach()
        rows = rows[mask.to(rows.device)] if mask is not None and rows.shape[:-1] == mask.shape else rows.reshape(-1, rows.shape[-1])
        seen.setdefault(name, []).append(rows)

    def add(name: str, rows: Tensor) -> None:
        if len(rows):
            rows = _shortened(rows.to(torch.promote_types(rows.dtype, torch.float32)))
            sums[name] = torch.addmm(sums[name], rows.T, rows) if name in sums else rows.T @ rows
            counts[name] = counts.get(name, 0) + len(rows)

    hooks = [layer.register_forward_pre_hook(lambda _, given, name=name: look(name, given[0])) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            for run, real in runs:
                mask, looking = None if real is None else real.bool(), True
                run()
                looking = False
                last.clear()
                while seen:
                    name, rows = seen.popitem()
                    add(name, torch.cat(rows))
    finally:
        for hook in hooks:
            hook.remove()
    return Inputs({name: (total / counts[name]).cpu() for name, total in sums.items()}, counts, sources)


def _shortened(rows: Tensor) -> Tensor:
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    short: Tensor = rows * (OUTLIER * lengths.median() / lengths.clamp_min(torch.finfo(rows.dtype).tiny)).clamp(max=1)
    return short
