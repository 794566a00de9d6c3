"""Conflict by layer: the tensors of a run as a grid of layer by kind of tensor."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forgetless.report.numbers import percent
from forgetless.report.run import Run
from forgetless.report.tables import Table

_NUMBERED = re.compile(r"^(?P<stem>.*?)\.(?P<layer>\d+)\.(?P<rest>.+)$")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One parameter tensor: its mean conflicting share over the epochs, in the first and in the last of them."""

    name: str
    mean: float
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the grid: ``level`` from 0 to 100 on the scale of the grid; None where there is no such tensor."""

    tip: str
    level: int | None


@dataclass(frozen=True, slots=True)
class LayerGrid:
    """Conflict of one run. ``bars``: mean by layer with its height in percent of the tallest."""

    run: int
    layers: Sequence[int]
    bars: Sequence[Cell]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    outside: Sequence[tuple[Tensor, Cell]]
    table: Table
    short: Mapping[str, str]  # a kind as the grid names it: its last part where that is enough to tell it apart
    low: str
    high: str
    summary: str


def layer_grid(index: int, label: str, run: Run) -> LayerGrid | None:
    """The grid of ``run``, in the style of series ``index``; None where it recorded no conflict by tensor."""
    seen: dict[str, list[float]] = {}
    for epoch in run.epochs:
        for name, value in epoch.layers.items():
            if math.isfinite(value):
                seen.setdefault(name, []).append(value)
    tensors = [Tensor(name, sum(values) / len(values), values[0], values[-1]) for name, values in seen.items()]
    if not tensors:
        return None
    scaled = [t.mean for t in tensors if _NUMBERED.match(t.name)] or [t.mean for t in tensors]
    low, high = min(scaled), max(scaled)
    grid: dict[str, dict[int, Tensor]] = {}
    outside = []
    for tensor in tensors:
        match = _NUMBERED.match(tensor.name)
        if match:
            kind = match["rest"].removesuffix(".weight")
            grid.setdefault(kind, {})[int(match["layer"])] = tensor
        else:
            outside.append((tensor, _cell(tensor.name, tensor.mean, low, high)))
    layers = sorted({layer for row in grid.values() for layer in row})
    means = {layer: _mean([row[layer].mean for row in grid.values() if layer in row]) for layer in layers}
    tallest = max(means.values(), default=0.0)
    bars = [Cell(f"layer {layer}: {percent(mean)}", round(100 * mean / tallest) if tallest else 0) for layer, mean in means.items()]
    rows = [
        (kind, [_cell(f"layer {layer}, {kind}", row[layer].mean, low, high) if layer in row else Cell("", None) for layer in layers])
        for kind, row in grid.items()
    ]
    lasts = [kind.rsplit(".", 1)[-1] for kind in grid]
    short = {kind: last if lasts.count(last) == 1 else kind for kind, last in zip(grid, lasts, strict=True)}
    top = max(tensors, key=lambda tensor: tensor.mean)
    least = percent(min(tensor.mean for tensor in tensors))
    summary = (
        f"Conflicting share of {label} over {len(tensors)} tensors in {len(layers)} layers: from {least} to {percent(top.mean)}, "
        f"highest in {top.name}."
    )
    cells = [[t.name, percent(t.mean), percent(t.first), percent(t.last)] for t in tensors]
    table = Table(f"Conflicting share of every tensor of {label}", ["tensor", "mean", "first epoch", "last epoch"], cells)
    return LayerGrid(index, layers, bars, rows, outside, table, short, percent(low), percent(high), summary)


def _cell(name: str, mean: float, low: float, high: float) -> Cell:
    return Cell(f"{name}: {percent(mean)}", min(100, max(0, round(100 * (mean - low) / (high - low)))) if high > low else 50)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
