import torch

from forgetless.core.state import load_state, save_state
from forgetless.memory.walk import Walk


def test_every_place_comes_once_a_pass_and_passes_differ():
    walk = Walk()
    passes = [walk.draw(7, 7) for _ in range(5)]
    assert all(sorted(found) == list(range(7)) for found in passes)
    assert len({tuple(found) for found in passes}) > 1


def test_four_draws_of_two_are_one_draw_of_eight_also_across_passes():
    one, other = Walk(3), Walk(3)
    assert [place for _ in range(4) for place in one.draw(2, 5)] == other.draw(8, 5)


def test_a_memory_of_another_size_begins_a_new_pass():
    walk = Walk()
    walk.draw(2, 4)
    assert sorted(walk.draw(6, 6)) == list(range(6))
    walk.draw(2, 6)
    walk.restart()
    assert sorted(walk.draw(6, 6)) == list(range(6))


def test_the_state_goes_on_within_a_pass(tmp_path):
    walk = Walk(1)
    walk.draw(3, 8)
    save_state(tmp_path / "state", walk.state_dict())
    again = Walk(2)
    again.load_state_dict(load_state(tmp_path / "state"))
    assert again.draw(20, 8) == walk.draw(20, 8)
    assert torch.equal(again.order, walk.order)
