"""The line between two sets of weights: its points, what stays, and the searches along it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forgetless.ops.interpolation import BISECTIONS, between, largest, least, stays


@given(st.floats(0, 1))
def test_a_point_of_the_line_is_that_of_float64_in_the_type_of_the_end(alpha):
    start, end = torch.tensor([1.0, -2.0, 1e8, 0.5]), torch.tensor([3.0, 2.0, 1e8 + 8, 0.5])
    wide = [a + alpha * (b - a) for a, b in zip(start.tolist(), end.tolist(), strict=True)]
    found = between(start, end, alpha)
    assert found.dtype == torch.float32
    assert found.tolist() == torch.tensor(wide, dtype=torch.float64).float().tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_ends_are_the_ends_themselves(dtype):
    start, end = torch.tensor([0.1, 0.2], dtype=dtype), torch.tensor([0.7, 0.3], dtype=dtype)
    assert between(start, end, 0.0) is start and between(start, end, 1.0) is end
    assert between(start, end, 0.5).dtype == dtype and torch.equal(between(end, end, 0.3), end)


def test_the_first_factor_of_an_adapter_stays_and_nothing_else():
    assert stays("base.layers.0.q.lora_A.default.weight") and stays("emb.lora_embedding_A.default")
    assert not stays("base.layers.0.q.lora_B.default.weight") and not stays("lora_A_scale.weight") and not stays("emb.lora_embedding_B.x")


@given(st.floats(0.001, 0.999), st.integers(0, 8))
def test_the_searches_find_the_border_to_a_power_of_two_and_ask_only_between_the_ends(border, tries):
    asked = []

    def up_to(share):
        asked.append(share)
        return share <= border

    found = largest(up_to, tries)
    step = 2.0**-tries
    assert found % step == 0 and found <= border < found + step
    assert len(asked) == tries and all(0 < share < 1 for share in asked)
    from_on = least(lambda share: share >= border, tries)
    assert from_on % step == 0 and from_on - step < border <= from_on


def test_five_trials_unless_said_otherwise_and_the_last_good_share_is_returned():
    asked = []

    def good(share):
        asked.append(share)
        return share >= 0.3

    assert least(good) == 0.3125 and len(asked) == BISECTIONS == 5 and 0.3125 in asked
    assert largest(lambda share: True) == 31 / 32 and least(lambda share: False) == 1.0 and largest(lambda share: False) == 0.0
