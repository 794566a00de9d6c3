import concurrent.futures
import multiprocessing
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetless.ops import descent, fused, packing, signs
from forgetless.ops.pool import on_cores

numbers = st.lists(st.sampled_from([0.0, -0.0, 1.5, -2.0, 1e-38, -1e-45, 3e38, float("inf"), -float("inf")]), min_size=1, max_size=70)
BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16}
SIZES = [1, 15, 16, 17, packing.STRIPE - 1, packing.STRIPE, packing.STRIPE + 1, 3 * packing.STRIPE - 5]


def random(count, seed, dtype=torch.float32, many=4):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(count, generator=draw).to(dtype) for _ in range(many)]


@pytest.fixture(params=["compiled", "blocks"], scope="module", autouse=True)
def loops(request):
    """Everything here holds with the compiled loops and with blocks of torch operations."""
    fused.loops.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "blocks":
            patch.setenv("FORGETLESS_COMPILE", "0")
        elif shutil.which("cc") is None:
            pytest.skip("this machine has no C compiler, so forgetless has no compiled loops here")
        assert (fused.loops() is None) == (request.param == "blocks")
        yield request.param
    fused.loops.cache_clear()


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


@given(numbers)
def test_packed_signs_round_trip(values):
    tensor = torch.tensor(values)
    packed = packing.pack_signs(tensor)
    assert packed.numel() == packing.packed_size(len(values)) == (len(values) + 15) // 16
    assert torch.equal(packing.unpack(packed, 0, len(values)), tensor.sign().to(torch.int8))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(SIZES) | st.integers(1, 12 * packing.STRIPE), st.data())
def test_any_range_unpacks_like_the_whole(count, data):
    codes = torch.randint(-2, 2, (count,), dtype=torch.int8, generator=torch.Generator().manual_seed(count))
    packed = packing.pack_codes(codes)
    assert packed.numel() * 4 <= 0.25 * count + 4
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    assert torch.equal(packing.unpack(packed, start, stop), codes[start:stop])


def test_pinned_words():
    assert packing.pack_signs(torch.tensor([1.0, -1.0, 0.0, 2.0, -3.0])).tolist() == [0b01_11_00_01_11 << 22]
    words = packing.pack_signs(torch.arange(40.0) - 20)  # three words: word 0 holds weights 0, 3, 6 and so on
    bits = ["11" * 7 + "01" * 7 + "00" * 2, "11" * 7 + "01" * 6 + "00" * 3, "11" * 6 + "00" + "01" * 6 + "00" * 3]
    assert words.tolist() == [int(word, 2) - (1 << 32) for word in bits]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("frozen", [False, True])
def test_hold_back_is_where_bit_for_bit(dtype, frozen, threads):
    reference, gradient, before, after = random(3 * signs.CPU_BLOCK + 17, 0, dtype)
    gradient[::7], reference[::11] = 0, 0
    gradient[3::700], gradient[4::700] = float("inf"), -float("inf")
    gradient[5::700], gradient[6::700] = float("nan"), -float("nan")
    tiny = torch.finfo(dtype).smallest_normal
    gradient[8::700], gradient[9::700] = tiny, -tiny
    gradient[10::700], gradient[11::700] = torch.finfo(dtype).max, -0.0
    before[::5], after[1::5], after[6::50], after[7::50] = -0.0, -0.0, float("nan"), float("inf")
    codes = reference.sign().to(torch.int8)
    if frozen:
        codes[::13] = packing.FROZEN
    conflict = (codes.sign() * gradient.sign() < 0) & (codes != packing.FROZEN) | (codes == packing.FROZEN)
    expected = torch.where(conflict, before, after)
    held = signs.hold_back([signs.Part(packing.pack_codes(codes), 0, gradient)], [before], [after], frozen=frozen)
    bits = BITS[before.element_size()]
    assert torch.equal(after.view(bits), expected.view(bits))
    assert held == [int(conflict.sum())]


@pytest.mark.parametrize("flush", [False, True])
def test_the_smallest_gradients_count(flush):
    """A gradient of 2**-149 has a sign, unless the user has torch take such numbers for zero; then it counts as zero."""
    gradient = torch.tensor([2.0**-149, -(2.0**-149), 2.0**-126, -(2.0**-126), 0.0]).repeat(20)
    packed = packing.pack_signs(torch.tensor([-1.0, -1, -1, -1, -1] * 10 + [0.0] * 50))
    before, after = torch.zeros(100), torch.ones(100)
    supported = torch.set_flush_denormal(flush)
    try:
        held = signs.hold_back([signs.Part(packed, 0, gradient)], [before], [after], frozen=False)
    finally:
        torch.set_flush_denormal(False)
    flush = flush and supported
    assert held == [10 if flush else 20]
    assert after.tolist() == [1.0 if flush else 0.0, 1.0, 0.0, 1.0, 1.0] * 10 + [1.0] * 50


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_zero_conflicts_is_where_zero(dtype):
    reference, gradient, *_ = random(signs.CPU_BLOCK + 5, 2, dtype)
    gradient[::5] = 0
    expected = torch.where(reference * gradient < 0, torch.zeros_like(gradient), gradient)
    held = signs.zero_conflicts([signs.Part(packing.pack_signs(reference), 0, gradient)], frozen=False)
    assert torch.equal(gradient, expected) and held == [int((expected == 0).sum()) - len(gradient[::5])]


STEPS = {
    "plain": (torch.optim.SGD, {}, ()),
    "plain, decay": (torch.optim.SGD, {"weight_decay": 0.1}, ()),
    "momentum": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.25}, ("momentum_buffer",)),
    "nesterov, decay": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, ("momentum_buffer",)),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}, ("exp_avg", "exp_avg_sq")),
    "adamw, foreach": (torch.optim.AdamW, {"weight_decay": 0.1, "betas": (0.4, 0.9), "foreach": True}, ("exp_avg", "exp_avg_sq")),
    "adam": (torch.optim.Adam, {"weight_decay": 0.1}, ("exp_avg", "exp_avg_sq")),
    "adamw, fused": (torch.optim.AdamW, {"weight_decay": 0.1, "betas": (0.4, 0.9), "fused": True}, ("exp_avg", "exp_avg_sq")),
    "adam, fused": (torch.optim.Adam, {"weight_decay": 0.1, "fused": True}, ("exp_avg", "exp_avg_sq")),
}


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("frozen", [False, True])
def test_descend_is_torchs_step_where_the_signs_agree(threads, loops, kind, frozen):
    make, options, names = STEPS[kind]
    sizes = [640, 700_032, 64] if "fused" in kind else [5, 70, 700_001, 64]
    made = [random(size, size) for size in sizes]
    codes = [reference.sign().to(torch.int8) for reference, *_ in made]
    if frozen:
        codes[1][::9] = packing.FROZEN
    parts = [signs.Part(packing.pack_codes(code), 0, gradient) for code, (_, gradient, *_) in zip(codes, made, strict=True)]
    weights = [weight for _, _, weight, _ in made]
    twins = [torch.nn.Parameter(weight.clone()) for weight in weights]
    weights[1][:9] = twins[1].data[:9] = -0.0
    start = [weight.clone() for weight in weights]
    conflicts = [(code * gradient < 0) | (code == packing.FROZEN) for code, (_, gradient, *_) in zip(codes, made, strict=True)]
    optimizer = make(twins, lr=0.1, **options)
    kept = {name: [torch.rand(size) for size in sizes] for name in names}
    for index, (twin, (_, gradient, *_)) in enumerate(zip(twins, made, strict=True)):
        twin.grad = gradient
        optimizer.state[twin].update({name: kept[name][index].clone() for name in names})
        if "adam" in kind:
            optimizer.state[twin]["step"] = torch.tensor(4.0)
    decay = options.get("weight_decay", 0.0)
    if kind.startswith("plain"):
        step = descent.Plain(0.1, decay)
    elif names == ("momentum_buffer",):
        step = descent.Momentum(0.1, 0.9, options.get("dampening", 0.0), kept["momentum_buffer"], decay, "nesterov" in kind)
    else:
        betas, made_by = optimizer.param_groups[0]["betas"], descent.FusedAdam if "fused" in kind else descent.Adam
        step = made_by(0.1, betas, 1e-8, decay, "adamw" in kind, 5, kept["exp_avg"], kept["exp_avg_sq"])
    held = signs.descend(parts, weights, step, frozen=frozen)
    if held is None:  # torch's operations would need six passes more: the optimizer itself is better
        assert loops == "blocks" and "adam" in kind
        assert all(torch.equal(weight, old) for weight, old in zip(weights, start, strict=True))
        return
    if "fused" in kind:
        torch.set_num_threads(1)  # it rounds the last few weights of each thread's share in another way
    optimizer.step()
    torch.set_num_threads(threads)
    assert held == [int(conflict.sum()) for conflict in conflicts]
    for index, (weight, twin, old, conflict) in enumerate(zip(weights, twins, start, conflicts, strict=True)):
        expected = torch.where(conflict, old, twin.detach())
        assert torch.equal(weight.view(torch.int32), expected.view(torch.int32))
        assert all(torch.equal(kept[name][index], optimizer.state[twin][name]) for name in names)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 70_000), st.integers(1, 70_000))
def test_hold_back_of_a_part_agrees_with_the_whole(start, length):
    reference, gradient, before, after = random(100_000, 1)
    packed = packing.pack_signs(reference)
    expected = torch.where(reference * gradient < 0, before, after)
    some = slice(start, min(start + length, 100_000))
    signs.hold_back([signs.Part(packed, start, gradient[some])], [before[some]], [after[some]], frozen=False)
    assert torch.equal(after[some], expected[some])


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_a_step_that_is_held_back_never_raises_the_reference_loss_to_first_order(seed):
    reference, gradient, *_ = random(257, seed)
    before, after = torch.zeros(257), -gradient
    signs.hold_back([signs.Part(packing.pack_signs(reference), 0, gradient)], [before], [after], frozen=False)
    assert float(((after - before).double() * reference.double()).sum()) <= 0


def test_flips_count_changes_between_plus_and_minus_only():
    old, new = torch.tensor([1.0, -1, 1, 0, 1, -1, 0]), torch.tensor([1.0, 1, -1, 1, 0, -1, 0])
    assert signs.flips(packing.pack_signs(old), packing.pack_signs(new), 7) == 2


def _threads_at_work(_):
    return torch.get_num_threads()


def _in_a_fork(queue):
    torch.set_num_threads(2)
    queue.put(on_cores(_threads_at_work, [0, 1]))


def test_the_pool_uses_one_core_a_thread_and_works_in_a_fork():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert on_cores(_threads_at_work, [0, 1]) == [1, 1]
        assert torch.get_num_threads() == 2
        with concurrent.futures.ThreadPoolExecutor(1) as other:  # a new thread still finds the user's setting
            assert other.submit(torch.get_num_threads).result() == 2
        with pytest.raises(ZeroDivisionError):
            on_cores(lambda share: 1 // share, [1, 0])
    finally:
        torch.set_num_threads(before)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_a_fork, args=(queue,))
    child.start()
    child.join(60)
    assert child.exitcode == 0 and queue.get() == [1, 1]
