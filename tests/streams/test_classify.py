import pytest
import torch

from forgetless.core.method import Method
from forgetless.errors import InputError, ProtectionError
from forgetless.evaluation.matrix import Matrix
from forgetless.methods import CPL, METHODS, Plain
from forgetless.streams.classify import Kept, run_classes
from forgetless.streams.record import check_task_identity, for_first_task
from forgetless.streams.stream import SETTINGS, ClassStream, ClassTask


def blobs(tasks=3, each=60):
    """Two well-separated classes a task, around points of their own."""
    draw = torch.Generator().manual_seed(0)
    made = []
    for index in range(tasks):
        centres = torch.randn(2, 10, generator=draw) * 2
        y = torch.arange(2 * each) % 2
        x = centres[y] + 0.3 * torch.randn(2 * each, 10, generator=draw)
        made.append(ClassTask(f"task {index}", (f"{index}a", f"{index}b"), (x[:each], y[:each]), (x[each:], y[each:])))

    def network(units):
        return torch.nn.Sequential(torch.nn.Linear(10, 32), torch.nn.ReLU(), torch.nn.Linear(32, units))

    return ClassStream("blobs", tuple(made), network)


STREAM = blobs()


def run(method, setting, seed=0, **options):
    return run_classes(STREAM, setting, method, seed=seed, steps=60, batch_size=16, lr=0.01, **options)


def test_plain_training_forgets_all_in_the_class_setting_and_little_where_the_task_is_known():
    forgot = {setting: Matrix(r.accuracy, r.baseline) for setting in SETTINGS for r in [run(Plain(), setting)]}
    assert forgot["class"].accuracy[2][0] == 0 and forgot["class"].accuracy[0][0] == 1
    assert forgot["task"].acc > forgot["domain"].acc > forgot["class"].acc


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    one, two, other = (run(Plain(), "domain", seed).accuracy for seed in (0, 0, 1))
    assert one == two != other


def test_items_agree_with_the_matrix():
    record = run(Plain(), "class")
    for task, items in enumerate(record.items):
        assert len(items) == 60
        for after in range(task, 3):
            assert sum(right[after - task] for right in items) / 60 == pytest.approx(record.accuracy[after][task])


def test_a_method_in_need_of_old_data_gets_it_from_the_second_task_on():
    seen = []

    class Spy(Plain):
        needs_retain = True

        def begin_task(self, ctx):
            seen.append((ctx.task.index, sum(len(batch[1]) for batch in ctx.task.retain)))

    run(Spy(), "class", memory=20)
    assert seen == [(1, 20), (2, 20)]


def test_the_first_task_of_a_chain_leaves_out_what_needs_old_data():
    plain, cpl = Plain(), CPL()
    assert for_first_task(plain >> cpl).methods == (plain,)
    assert type(for_first_task(cpl)) is Method


def test_stored_examples_are_of_all_earlier_tasks_and_may_be_called_anything_seen():
    x, y, active = (torch.cat(parts) for parts in zip(*Kept(STREAM, "class", 2, 20, 8, 0), strict=True))
    assert sorted({int(unit) // 2 for unit in y}) == [0, 1] and len(x) == 20
    assert active[:, :6].all() and active.shape == (20, 6)
    x, y, active = (torch.cat(parts) for parts in zip(*Kept(STREAM, "task", 2, 20, 8, 0), strict=True))
    assert all(
        mask.nonzero().flatten().tolist() == [2 * (int(unit) // 2), 2 * (int(unit) // 2) + 1] for unit, mask in zip(y, active, strict=True)
    )


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].needs_task_id])
def test_what_must_be_told_the_task_is_refused_where_it_is_not(name):
    for setting in ("class", "domain"):
        with pytest.raises(InputError, match="must be told which task"):
            check_task_identity(METHODS[name](), name, setting)


def test_every_method_goes_through_a_stream_and_learns_its_last_task():
    failed = {}
    for name, kind in METHODS.items():
        record = run(kind(), "task")
        if record.accuracy[2][2] < 0.9:
            failed[name] = record.accuracy[2]
        assert len(record.seconds) == 3 and record.steps == [60, 60, 60]
    assert not failed


def test_a_training_that_diverges_is_an_error_and_no_figure():
    with pytest.raises(ProtectionError, match=r"the loss is (nan|inf|-inf) in task 'task 0'; lower --lr"):
        run_classes(STREAM, "task", Plain(), seed=0, steps=60, batch_size=16, lr=1e25, optimizer="sgd")
