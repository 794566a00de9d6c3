"""Distances between two models' answers, against loops over rows and units."""

import math

import pytest
import torch

from forgetless.ops.distillation import grouped, kl_rows, positions, replayed, soft_cross_entropy

ROWS, UNITS = 5, 4


def logits(seed, dtype=torch.float64):
    return (3 * torch.randn(ROWS, UNITS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


def shares(row):
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def slow(student, teacher, temperature):
    """Of one row, from the definition."""
    p, q = shares([t / temperature for t in teacher]), shares([s / temperature for s in student])
    return -(temperature**2) * sum(a * math.log(b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_soft_cross_entropy_is_that_of_its_definition(temperature):
    student, teacher = logits(0), logits(1)
    expected = [slow(s, t, temperature) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert soft_cross_entropy(student, teacher, temperature).tolist() == pytest.approx(expected, rel=1e-12)
    half = soft_cross_entropy(student.bfloat16(), teacher.bfloat16(), temperature)
    assert half.dtype == torch.float32 and half.tolist() == pytest.approx(expected, rel=0.05)
    assert soft_cross_entropy(student, teacher).tolist() == soft_cross_entropy(student, teacher, 1.0).tolist()


def test_groups_have_a_softmax_each_and_count_alike():
    student, teacher = logits(0), logits(1)
    rows = list(zip(student.tolist(), teacher.tolist(), strict=True))
    first = sum(slow(s[:1] + s[3:], t[:1] + t[3:], 2.0) for s, t in rows) / ROWS
    whole = sum(slow(s, t, 2.0) for s, t in rows) / ROWS
    assert float(grouped(student, teacher, [[0, 3], None], 2.0)) == pytest.approx((first + whole) / 2, rel=1e-12)


@pytest.mark.parametrize("temperature", [None, 1.0, 2.0])
def test_what_is_replayed_is_one_of_the_group_among_those_allowed(temperature):
    student, teacher, group, allowed = logits(2), logits(3), [2, 0], [0, 1, 2]
    expected, heat = 0.0, temperature or 1.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        q = dict(zip(allowed, shares([s[unit] / heat for unit in allowed]), strict=True))
        p = shares([t[unit] / heat for unit in group]) if temperature else [float(t[unit] == max(t[u] for u in group)) for unit in group]
        expected -= heat**2 * sum(a * math.log(q[unit]) for a, unit in zip(p, group, strict=True)) / ROWS
    assert float(replayed(student, teacher, group, allowed, temperature)) == pytest.approx(expected, rel=1e-12)


def test_the_divergence_has_a_direction_and_is_zero_of_equals():
    base, model = logits(4), logits(5)
    p, q = ([shares(row) for row in found.tolist()] for found in (base, model))

    def divergence(one, other):
        return [sum(a * math.log(a / b) for a, b in zip(x, y, strict=True)) for x, y in zip(one, other, strict=True)]

    assert kl_rows(base, model).tolist() == pytest.approx(divergence(p, q), rel=1e-9)
    assert kl_rows(base, model, "reverse").tolist() == pytest.approx(divergence(q, p), rel=1e-9)
    assert kl_rows(base, base).tolist() == [0.0] * ROWS
    assert kl_rows(base.half(), model.half()).dtype == torch.float32
    stacked = kl_rows(torch.stack([base, model]), torch.stack([model, base]))
    assert stacked.tolist() == [kl_rows(base, model).tolist(), kl_rows(model, base).tolist()], "rows are the last dimension"


@pytest.mark.parametrize("owners", [[0], [2, 0, 2, 2, 0, 5], [1, 1, 1], [3, 2, 1, 0]])
def test_positions_count_the_earlier_rows_of_the_same_owner(owners):
    assert positions(torch.tensor(owners)).tolist() == [owners[:place].count(owner) for place, owner in enumerate(owners)]
