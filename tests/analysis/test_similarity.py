"""Inner products and the sketch of magnitudes, against plain float64 sums and sorting."""

from __future__ import annotations

import pytest
import torch

from forgetless.ops.similarity import PIECE, MagnitudeSketch, inner


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("count", [0, 1, PIECE, 3 * PIECE + 17])
def test_the_inner_product_is_that_of_float64(dtype: torch.dtype, count: int) -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randn(count, generator=draw).to(dtype) for _ in range(2))
    exact, size = float((one.double() * other.double()).sum()), float((one.double() * other.double()).abs().sum())
    assert inner(one, other).dtype == torch.float64
    assert float(inner(one, other)) == pytest.approx(exact, abs=1e-7 * size + 1e-300)


def spread_values(count: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(count, generator=draw, dtype=torch.float64) * 10 ** (
        8 * torch.rand(count, generator=draw, dtype=torch.float64) - 60
    )
    values[::50] = 0
    return values


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.99, 1.0])
def test_the_share_of_the_top_lies_within_the_bounds_which_are_close(share: float) -> None:
    values = spread_values(20_000)
    sketch = MagnitudeSketch()
    for part in values.split(777):
        sketch.add(part)
    sizes = values.abs().sort(descending=True).values
    exact = float(sizes[: round(share * len(sizes))].sum() / sizes.sum())
    low, high = sketch.top_share(share)
    assert low - 1e-12 <= exact <= high + 1e-12
    assert high - low < 0.002
    assert sketch.total == len(values) and sketch.zeros == int((values == 0).sum())


def test_the_powers_of_ten_count_every_value() -> None:
    values = spread_values(5_000)
    sketch = MagnitudeSketch()
    sketch.add(values)
    rows = sketch.decades()
    assert sum(row["below"] for row in rows) == int((values < 0).sum())
    assert sum(row["above_sum"] for row in rows) == pytest.approx(float(values[values > 0].sum()))
    for row in rows:
        inside = (values >= row["from"] * 1.02) & (values < row["to"] / 1.02)
        around = (values >= row["from"] / 1.02) & (values < row["to"] * 1.02)
        assert int(inside.sum()) <= row["above"] <= int(around.sum())


def test_a_sketch_of_nothing_carries_nothing() -> None:
    sketch = MagnitudeSketch()
    assert sketch.top_share(0.5) == (0.0, 0.0) and sketch.decades() == []
    sketch.add(torch.zeros(5, dtype=torch.float64))
    assert sketch.top_share(0.5) == (0.0, 0.0) and sketch.zeros == 5


def test_the_bounds_of_a_bin_that_is_cut_are_those_of_its_edges() -> None:
    sketch = MagnitudeSketch()
    sketch.add(torch.tensor([1.0, -1.001, 1.002, 1.003, 0.25, 0.0], dtype=torch.float64))  # the first four share a bin from 1 to 1 + 1/64
    whole = 1.0 + 1.001 + 1.002 + 1.003 + 0.25
    mean, upper = 4.006 / 4, 1 + 1 / 64
    assert sketch.top_share(1 / 6) == pytest.approx((mean / whole, min(upper, 4.006 - 3) / whole), rel=1e-14)
    assert sketch.top_share(3 / 6) == pytest.approx((3 * mean / whole, min(3 * upper, 4.006 - 1) / whole), rel=1e-14)
    assert sketch.top_share(4 / 6) == pytest.approx((4.006 / whole, 4.006 / whole), rel=1e-14)
    assert sketch.top_share(5 / 6) == pytest.approx((1.0, 1.0), rel=1e-14) and sketch.top_share(1.0) == (1.0, 1.0)
    assert sketch.top_share(0.0) == (0.0, 0.0)


def test_the_powers_of_ten_are_named_from_the_smallest() -> None:
    sketch = MagnitudeSketch()
    sketch.add(torch.tensor([[5.0, -3.0], [-2.0, 0.5]], dtype=torch.float64))
    sketch.add(torch.tensor([0.0, 200.0], dtype=torch.float64))
    assert sketch.decades() == [
        {"from": 0.1, "to": 1.0, "below": 0, "above": 1, "below_sum": 0.0, "above_sum": 0.5},
        {"from": 1.0, "to": 10.0, "below": 2, "above": 1, "below_sum": 5.0, "above_sum": 5.0},
        {"from": 100.0, "to": 1000.0, "below": 0, "above": 1, "below_sum": 0.0, "above_sum": 200.0},
    ]
    assert sketch.total == 6 and sketch.zeros == 1
