import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forgetless.ops.masks import pack_bits, prune_smallest, top_share, unpack_bits


@given(st.lists(st.booleans(), max_size=40))
def test_packed_bits_round_trip_in_an_eighth_of_the_bytes(bits):
    mask = torch.tensor(bits, dtype=torch.bool)
    packed = pack_bits(mask)
    assert packed.numel() == -(-len(bits) // 8) and packed.dtype == torch.uint8
    assert torch.equal(unpack_bits(packed, mask.shape), mask)


def test_a_packed_matrix_has_its_shape_again():
    mask = torch.rand(5, 3, 2, generator=torch.Generator().manual_seed(0)) > 0.5
    assert torch.equal(unpack_bits(pack_bits(mask), mask.shape), mask)


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=30), st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]))
def test_the_smallest_are_pruned_with_what_ties_with_the_last(pairs, share):
    weight = torch.tensor([float(value) for value, _ in pairs])
    among = torch.tensor([flag for _, flag in pairs])
    free = sorted(abs(value) for value, flag in pairs if flag)
    count = round(share * len(free))
    expected = [flag and count > 0 and abs(value) <= free[count - 1] for value, flag in pairs]
    assert prune_smallest(weight, among, share).tolist() == expected


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.sampled_from([0.1, 0.5, 0.9]))
def test_the_top_share_is_that_of_a_sort_and_exact_in_number(scores, share):
    ranked = sorted(range(len(scores)), key=lambda j: (scores[j], j))
    kept = set(ranked[len(scores) - round(share * len(scores)) :])
    assert top_share(torch.tensor(scores), share).tolist() == [j in kept for j in range(len(scores))]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_half_types_do_as_well(dtype):
    weight = torch.tensor([[3.0, -1.0], [2.0, -4.0]], dtype=dtype)
    assert prune_smallest(weight, torch.ones(2, 2, dtype=torch.bool), 0.5).tolist() == [[False, True], [True, False]]
    assert top_share(weight, 0.25).tolist() == [[True, False], [False, False]]
