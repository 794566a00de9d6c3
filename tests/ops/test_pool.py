"""Work on several cores: what a plain loop gives, one core each, and nobody left working behind an error."""

import threading

import pytest
import torch

from forgetless.ops.pool import on_cores, one_core


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shares", [[], [3], [3, 1], [5, 2, 4, 1]])
def test_the_results_are_those_of_a_loop_in_order(shares):
    assert on_cores(lambda share: share * 10, shares) == [share * 10 for share in shares]


def test_each_share_has_a_thread_of_its_own_in_which_torch_uses_one_core(two_threads):
    met = threading.Barrier(3, timeout=60)

    def work(share):
        met.wait()  # all three work at once, else this never ends
        return threading.get_ident(), torch.get_num_threads()

    found = on_cores(work, [0, 1, 2])
    assert len({thread for thread, _ in found}) == 3 and found[0][0] == threading.get_ident()
    assert [cores for _, cores in found] == [1, 1, 1] and torch.get_num_threads() == 2


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_is_raised_after_the_others_have_ended_and_the_cores_are_given_back(two_threads, failing):
    began, ended = threading.Event(), []

    def work(share):
        if share == failing:
            began.set()
            raise ValueError(f"share {share}")
        began.wait(60)
        ended.append(share)

    with pytest.raises(ValueError, match=f"share {failing}"):
        on_cores(work, [0, 1] if failing == 0 else [1, 0])
    assert ended == [1 - failing] and torch.get_num_threads() == 2


def test_one_core_is_left_as_it_was_found(two_threads):
    with one_core():
        assert torch.get_num_threads() == 1
        with one_core():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
