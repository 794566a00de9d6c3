"""The share of a change in protected subspaces, against projections of the whole matrix."""

import pytest
import torch

from forgetless.ops.subspace import Factors, Subspace, protected_share


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(size, columns, seed):
    return torch.linalg.qr(draw(size, columns, seed=seed)).Q


def whole(matrix):
    return matrix.u @ torch.diag(matrix.s) @ matrix.v


START = Factors(draw(7, 4, seed=0), draw(4, seed=1).abs(), draw(4, 5, seed=2))
NOW = Factors(START.u + 1e-3 * draw(7, 4, seed=3), START.s + 1e-3 * draw(4, seed=4), START.v + 1e-3 * draw(4, 5, seed=5))
LEFT, RIGHT = orthonormal(7, 2, seed=6), orthonormal(5, 3, seed=7)


def slow(now, left, right):
    change = whole(now) - whole(START)
    sides = (left @ change).square().sum() + (change @ right).square().sum()
    return float(sides / change.square().sum())


@pytest.mark.parametrize("complements", [(False, False), (True, False), (False, True), (True, True)])
def test_the_share_is_that_of_the_projected_change(complements):
    spaces = [Subspace(basis, flag) for basis, flag in zip((LEFT, RIGHT), complements, strict=True)]
    matrices = [basis @ basis.T for basis in (LEFT, RIGHT)]
    matrices = [torch.eye(len(m), dtype=m.dtype) - m if flag else m for m, flag in zip(matrices, complements, strict=True)]
    assert protected_share(NOW, START, *spaces) == pytest.approx(slow(NOW, *matrices), rel=1e-6)


def test_many_random_directions_estimate_it():
    exact = protected_share(NOW, START, Subspace(LEFT), Subspace(RIGHT))
    assert protected_share(NOW, START, Subspace(LEFT), Subspace(RIGHT), directions=4000) == pytest.approx(exact, rel=0.05)


def test_a_change_at_right_angles_to_what_is_protected_has_no_share_and_no_change_has_none():
    left, right = Subspace(LEFT), Subspace(RIGHT)
    nothing = Subspace(LEFT[:, :0]), Subspace(RIGHT[:, :0])
    step = 1e-3 * left.rest(draw(7, 4, seed=8))
    assert protected_share(Factors(START.u + step, START.s, START.v), START, left, nothing[1]) < 1e-20
    assert protected_share(START, START, left, right) == 0.0
    assert protected_share(NOW, START, *nothing) == 0.0


def test_a_change_below_rounding_is_measured_against_rounding():
    tiny = Factors(START.u + 1e-15 * LEFT @ draw(2, 4, seed=9), START.s, START.v)
    assert protected_share(tiny, START, Subspace(LEFT), Subspace(RIGHT)) < 1e-3


def test_part_and_rest_add_up_and_are_at_right_angles():
    vectors = draw(7, 3, seed=10)
    for space in (Subspace(LEFT), Subspace(LEFT, complement=True)):
        torch.testing.assert_close(space.part(vectors) + space.rest(vectors), vectors)
        torch.testing.assert_close(space.part(vectors).T @ space.rest(vectors), torch.zeros(3, 3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(Subspace(LEFT).part(LEFT), LEFT)
    assert torch.equal(Subspace(LEFT, complement=True).part(vectors), Subspace(LEFT).rest(vectors))


def test_flipped_is_the_transposed_matrix():
    torch.testing.assert_close(whole(START.flipped()), whole(START).T)
