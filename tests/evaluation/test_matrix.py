import pytest

from forgetless.evaluation.matrix import Matrix, mean_and_error

THREE = Matrix([[0.9, 0.4, 0.5], [0.7, 0.8, 0.6], [0.6, 0.9, 0.7]], [0.5, 0.3, 0.2])


def test_the_figures_by_hand():
    assert THREE.acc == pytest.approx((0.6 + 0.9 + 0.7) / 3)
    assert THREE.bwt == pytest.approx(((0.6 - 0.9) + (0.9 - 0.8)) / 2)
    assert THREE.fwt == pytest.approx(((0.4 - 0.3) + (0.6 - 0.2)) / 2)
    assert THREE.forgetting == pytest.approx(((0.9 - 0.6) + (0.8 - 0.9)) / 2)


def test_tasks_to_come_may_be_unknown():
    known = Matrix([[0.9, None], [0.8, 0.7]], [0.1, 0.2])
    assert known.fwt is None and known.bwt == pytest.approx(-0.1)


def test_one_task_has_nothing_to_forget():
    alone = Matrix([[0.5]], [0.1])
    assert (alone.acc, alone.bwt, alone.fwt, alone.forgetting) == (0.5, None, None, None)


def test_the_standard_error_is_of_the_mean():
    assert mean_and_error([1.0, 2.0, 3.0, None]) == pytest.approx((2.0, 1 / 3**0.5))
    assert mean_and_error([2.0]) == (2.0, None)
    assert mean_and_error([None]) == (None, None)
