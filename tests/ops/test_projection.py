"""GEM's quadratic program and A-GEM's closed form, against independent solvers and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from forgetless.ops import projection
from forgetless.ops.projection import add, dots, multipliers, products, project, project_one
from qp import by_active_sets

F64 = torch.float64


def tree(vector):
    """Cut over two tensors, one of two dimensions."""
    vector = torch.as_tensor(vector, dtype=F64)
    cut = len(vector) // 2
    return {"a": vector[:cut].clone(), "b": vector[cut:].clone().reshape(1, -1)}


def flat(gradients):
    return torch.cat([gradients["a"].flatten(), gradients["b"].flatten()]).numpy()


def assert_holds(g, stored, result):
    norms = np.linalg.norm(g) * np.linalg.norm(stored, axis=1)
    assert (stored @ result >= -1e-6 * norms).all()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_the_projection_is_the_qps_solution(seed, margin):
    draw = np.random.default_rng(seed)
    count = 1 + seed % 5
    g, stored = draw.normal(size=8), draw.normal(size=(count, 8)) * 10.0 ** draw.integers(-2, 3, size=(count, 1))
    found = project(tree(g), [tree(row) for row in stored], margin)
    if (stored @ g >= 0).all():
        assert not found.projected and np.array_equal(flat(found.gradients), g)
        return
    twin = by_active_sets(g, stored, margin)
    np.testing.assert_allclose(flat(found.gradients), twin, rtol=0, atol=1e-9 * np.linalg.norm(twin))
    assert_holds(g, stored, flat(found.gradients))


@pytest.mark.parametrize("seed", range(4))
def test_the_projection_is_the_nearest_point_that_a_general_solver_finds(seed):
    """The primal problem of the paper (Eq. 8): min |g − z|² with every <z, g_k> ≥ 0."""
    draw = np.random.default_rng(seed)
    g, stored = draw.normal(size=6), draw.normal(size=(4, 6))
    found = flat(project(tree(g), [tree(row) for row in stored]).gradients)
    limits = [{"type": "ineq", "fun": lambda z, row=row: z @ row, "jac": lambda z, row=row: row} for row in stored]
    nearest = minimize(lambda z: np.sum((z - g) ** 2), g, jac=lambda z: 2 * (z - g), constraints=limits, method="SLSQP", tol=1e-14)
    np.testing.assert_allclose(found, nearest.x, atol=1e-6)


numbers = st.floats(-10, 10, allow_subnormal=False).map(lambda value: 0.0 if abs(value) < 1e-9 else value)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), size=st.integers(2, 6), count=st.integers(1, 6))
def test_no_stored_loss_rises_whatever_the_gradients(data, size, count):
    """Also equal, opposite, nearly equal, nearly opposite and zero ones, and scales from 1e-12 to 1e12."""
    g = np.array(data.draw(st.lists(numbers, min_size=size, max_size=size)))
    rows = [np.array(data.draw(st.lists(numbers, min_size=size, max_size=size))) for _ in range(count)]
    for k in range(1, count):
        kind = data.draw(st.sampled_from(["own", "own", "same", "opposite", "near", "zero"]))
        if kind != "own":
            nudge = data.draw(st.sampled_from([1e-4, 1e-7, 1e-9, 1e-12]))
            near = rows[0] + nudge * rows[k]
            rows[k] = {"same": rows[0], "opposite": -rows[0], "near": data.draw(st.sampled_from([-1, 1])) * near, "zero": 0 * rows[0]}[kind]
    stored = np.array([row * 10.0 ** data.draw(st.integers(-12, 12)) for row in rows])
    found = project(tree(g), [tree(row) for row in stored])
    assert_holds(g, stored, flat(found.gradients))
    assert np.linalg.norm(flat(found.gradients)) <= np.linalg.norm(g) * 1.05, "nearest: never longer than before"
    assert found.projected == bool(found.before < 0)
    assert found.after >= -1e-6


@settings(max_examples=60, deadline=None)
@given(data=st.data(), size=st.integers(2, 8), scale=st.integers(-12, 12))
def test_one_projection_is_orthogonal_and_equals_the_qp_with_one_row(data, size, scale):
    vectors = st.lists(numbers, min_size=size, max_size=size)
    g, row = np.array(data.draw(vectors)), np.array(data.draw(vectors)) * 10.0**scale
    found = project_one(tree(g), tree(row))
    assert_holds(g, row[None], flat(found.gradients))
    by_qp = flat(project(tree(g), [tree(row)]).gradients)
    np.testing.assert_allclose(flat(found.gradients), by_qp, rtol=0, atol=1e-9 * (1 + np.linalg.norm(g)))
    if lengths := np.linalg.norm(g) * np.linalg.norm(row):
        assert found.before == pytest.approx(g @ row / lengths, abs=1e-12), "a cosine"
        assert found.after == pytest.approx(flat(found.gradients) @ row / lengths, abs=1e-12), "as a share of what there was"
    if g @ row > 0:
        assert not found.projected and np.array_equal(flat(found.gradients), g)


def test_by_hand_in_the_plane():
    """g = (1, -2) against (0, 1): the second coordinate goes. Against (0, 1) and (-1, 0): nothing is left."""
    g, up, left = {"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([0.0, 1.0])}, {"w": torch.tensor([-1.0, 0.0])}
    fresh = lambda: {"w": g["w"].clone()}  # noqa: E731
    assert project_one(fresh(), up).gradients["w"].tolist() == [1.0, 0.0]
    one = project(fresh(), [up])
    torch.testing.assert_close(one.gradients["w"], torch.tensor([1.0, 0.0]))
    assert one.before == pytest.approx(-2 / 5**0.5) and abs(one.after) < 1e-7
    torch.testing.assert_close(project(fresh(), [up, left]).gradients["w"], torch.zeros(2), atol=1e-7, rtol=0)
    torch.testing.assert_close(project(fresh(), [up], margin=3.0).gradients["w"], torch.tensor([1.0, 1.0]))
    assert multipliers(torch.tensor([[5.0, -2.0], [-2.0, 1.0]], dtype=F64)) == pytest.approx([2.0])


def test_what_only_one_gradient_has_counts_as_zero_in_the_other():
    g, row = {"w": torch.tensor([1.0]), "own": torch.tensor([5.0])}, {"w": torch.tensor([-1.0]), "old": torch.tensor([1.0])}
    assert dots(g, [row, {}, g]).tolist() == [-1, 0, 26]
    found = project_one(g, row).gradients
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"w": [0.5], "own": [5.0], "old": [0.5]}


def test_sums_are_taken_piece_by_piece_and_layouts_kept_apart(monkeypatch):
    """Transposed memory, several pieces, half precision: rounded once, at the end."""
    monkeypatch.setattr(projection, "PIECE", 4)
    g, row = torch.arange(15.0).reshape(3, 5).T.to(torch.bfloat16), torch.linspace(-1, 1, 15).reshape(5, 3).to(torch.bfloat16)
    assert float(dots({"w": g}, [{"w": row}])) == pytest.approx(float((g.double() * row.double()).sum()), rel=1e-14)
    found = add({"w": g}, [{"w": row}, {"w": row}], [0.3, 0.6])["w"]
    assert found.dtype == torch.bfloat16 and found.shape == (5, 3)
    assert torch.equal(found, (g.double() + 0.3 * row.double() + 0.6 * row.double()).to(torch.bfloat16))


def test_a_gradient_that_is_not_finite_is_refused():
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not finite"):
            project({"w": torch.tensor([bad])}, [{"w": torch.ones(1)}])
        with pytest.raises(ValueError, match="not finite"):
            project_one({"w": torch.tensor([bad])}, {"w": torch.ones(1)})


def test_products_are_the_dots_of_every_pair_whatever_each_tree_lacks_and_however_pieces_are_cut(monkeypatch):
    draw = torch.Generator().manual_seed(3)
    trees = [{name: torch.randn(5, 40, generator=draw) for name in "abc"} for _ in range(4)]
    del trees[1]["a"], trees[2]["b"]
    expected = torch.stack([dots(one, trees) for one in trees])
    for piece in (1 << 20, 64, 1):
        monkeypatch.setattr(projection, "PIECE", piece)
        found = products(trees)
        assert torch.equal(found, found.T)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert products([]).shape == (0, 0)
