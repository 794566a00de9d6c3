"""Whatever is wrong with a compiler or with what it made, the results are the same: torch's operations stand in."""

import os
import shutil
import stat

import pytest
import torch

from forgetless.ops import descent, fused, packing, signs

compiled = pytest.mark.skipif(shutil.which("cc") is None, reason="this machine has no C compiler, so forgetless has no compiled loops here")


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("FORGETLESS_CACHE", str(tmp_path))
    monkeypatch.delenv("FORGETLESS_COMPILE", raising=False)
    fused.loops.cache_clear()
    yield tmp_path
    fused.loops.cache_clear()


@compiled
def test_they_are_compiled_once_and_agree_with_torch_in_every_step_here(fresh):
    loops = fused.loops()
    assert loops.descents == (descent.Plain, descent.Momentum, descent.Adam, descent.FusedAdam)
    (library,) = (fresh / "compiled").iterdir()
    made = library.stat().st_mtime_ns
    fused.loops.cache_clear()
    assert fused.loops() is not None and library.stat().st_mtime_ns == made
    assert [file.name for file in (fresh / "compiled").iterdir()] == [library.name]


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false", "true"])
def test_a_compiler_that_does_not_work_leaves_torchs_operations_and_no_file(fresh, monkeypatch, compiler):
    monkeypatch.setenv("CC", compiler)
    assert fused.loops() is None
    assert not [file for file in fresh.rglob("*") if file.is_file()]


@compiled
def test_a_library_that_others_may_write_is_not_loaded(fresh):
    assert fused.loops() is not None
    (library,) = (fresh / "compiled").iterdir()
    library.chmod(library.stat().st_mode | stat.S_IWOTH)
    fused.loops.cache_clear()
    assert fused.loops() is None


@compiled
def test_under_a_generous_umask_they_are_loaded_all_the_same(fresh):
    before = os.umask(0)
    try:
        assert fused.loops() is not None
    finally:
        os.umask(before)


@compiled
def test_a_file_that_is_no_library_is_not_loaded(fresh):
    library = fused._library(shutil.which("cc"))
    library.write_bytes(b"not a library")
    assert fused.loops() is None


@compiled
def test_loops_that_round_in_another_way_are_not_used(fresh, monkeypatch):
    source = fused.SOURCE.read_text()
    other = fresh / "fused.c"
    kept, changed = "fmaf(rate, drawn(gradient[i], weight[i], added), weight[i])", "weight[i] + 1.0000001f * rate * gradient[i]"
    other.write_text(source.replace(kept, changed))
    assert other.read_text() != source
    monkeypatch.setattr(fused, "SOURCE", other)
    assert fused.loops().descents == (descent.Momentum, descent.Adam, descent.FusedAdam)  # of the plain step only the weights differ
    other.write_text(source.replace("stays ? before[i] : after[i]", "stays ? after[i] : before[i]"))
    fused.loops.cache_clear()
    assert fused.loops() is None


@compiled
@pytest.mark.parametrize(
    ("kept", "changed", "left"),
    [
        ("roots[i] / root + eps", "roots[i] * (1 / root) + eps", [descent.Adam]),
        ("(sqrtf(square[i]) / root + eps)", "(sqrtf(square[i]) * (1 / root) + eps)", [descent.FusedAdam]),
        ("? fmaf(momentum, velocity[i], along)", "? along + momentum * velocity[i]", [descent.Momentum]),
        (
            "added != 0 ? fmaf(weight, added, gradient)",
            "added != 0 ? weight * added + gradient",
            [descent.Plain, descent.Momentum, descent.Adam],
        ),
    ],
)
def test_each_kind_of_step_is_compared_by_itself(fresh, monkeypatch, kept, changed, left):
    source = fused.SOURCE.read_text()
    other = fresh / "fused.c"
    other.write_text(source.replace(kept, changed))
    assert other.read_text() != source
    monkeypatch.setattr(fused, "SOURCE", other)
    kinds = (descent.Plain, descent.Momentum, descent.Adam, descent.FusedAdam)
    assert fused.loops().descents == tuple(kind for kind in kinds if kind not in left)


@pytest.mark.parametrize("kind", [descent.Adam, descent.FusedAdam])
def test_without_loops_plain_descent_is_the_same_and_adam_is_left_to_its_optimizer(fresh, monkeypatch, kind):
    monkeypatch.setenv("FORGETLESS_COMPILE", "0")
    weight, gradient = torch.ones(64), torch.full((64,), 2.0)
    parts = [signs.Part(packing.pack_signs(torch.tensor([1.0, -1.0] * 32)), 0, gradient)]
    step = kind(0.5, (0.9, 0.99), 1e-8, 0.0, True, 1, [torch.zeros(64)], [torch.zeros(64)])
    assert signs.descend(parts, [weight], step, frozen=False) is None
    assert signs.descend(parts, [weight], descent.Plain(0.5), frozen=False) == [32]
    assert weight.tolist() == [0.0, 1.0] * 32
