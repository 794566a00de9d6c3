"""Which units old examples may use: one growing softmax in the class setting, else each its own."""

import torch

from forgetless.core.predictions import Predictions
from forgetless.streams.stream import ClassStream, ClassTask
from nets import net

READ = Predictions()


def stream():
    tasks = []
    for index in range(3):
        x, y = torch.randn(4, 7), torch.tensor([0, 1, 0, 1])
        tasks.append(ClassTask(f"{index}", ("a", "b"), (x, y), (x, y)))
    return ClassStream("three", tuple(tasks), lambda units: net())


def updated(setting, index):
    """The units of an example of task 0 while task ``index`` is trained."""
    made = stream()
    old = made.batch(setting, 0, "train", slice(0, 1), 0)
    task = made.task(setting, index, 4, 1, seed=0)
    new = next(iter(task.train))
    return READ.update_active(old, new, task.earlier_heads)[2][0].nonzero().flatten().tolist()


def test_in_the_class_setting_all_classes_so_far():
    assert updated("class", 1) == [0, 1, 2, 3]
    assert updated("class", 2) == [0, 1, 2, 3, 4, 5]


def test_in_the_task_setting_its_own_also_when_there_is_one_earlier_task_only():
    assert updated("task", 1) == [0, 1]
    assert updated("task", 2) == [0, 1]


def test_in_the_domain_setting_the_ones_they_all_share():
    assert updated("domain", 1) == updated("domain", 2) == [0, 1]


def test_batches_that_do_not_say_their_units_stay_as_they_are():
    plain, masked = (torch.ones(1, 7), torch.tensor([0])), (torch.ones(1, 7), torch.tensor([0]), torch.ones(1, 5, dtype=torch.bool))
    assert READ.update_active(plain, masked, ((0, 1),)) is plain
    assert READ.update_active(masked, plain, ((0, 1),)) is masked
    own = (torch.ones(1, 7), torch.tensor([0]), torch.tensor([[True, True, False, False, False]]))
    assert READ.update_active(own, masked, None) is own, "without earlier heads nobody said that there is one softmax"
