"""The stream ``split-digits``: scikit-learn's 1,797 handwritten digits of 8 × 8 pixels, two of the ten in each task."""

from __future__ import annotations

import torch

from forgetless.core.options import whole
from forgetless.streams.partition import MLP, divide, package
from forgetless.streams.stream import ClassStream

SOURCE = "scikit-learn's digits, 1,797 images of 8 × 8 pixels (UCI Optical Recognition of Handwritten Digits, CC BY 4.0)"


def split_digits(
    *, classes_per_task: int = 2, width: int = 100, flat: bool = False, limit: int | None = None, seed: int = 0
) -> ClassStream:
    """Five tasks of two digits each; three quarters of the images are trained on, a quarter is tested.

    Args:
        classes_per_task: 1, 2 or 5.
        width: units of each of the network's two hidden layers.
        flat: inputs of shape (64,) in place of (1, 8, 8).
        limit: use about so many training images, as many of each digit.
        seed: which images are tested.

    Raises:
        InputError: for an option that makes no sense, or if scikit-learn is missing.
    """
    network = MLP(64, whole("width", width))
    found = package("sklearn.datasets", "split-digits").load_digits()
    x = torch.tensor(found.images, dtype=torch.float32).div_(16)
    x = x.flatten(1) if flat else x.unsqueeze(1)
    y = torch.tensor(found.target, dtype=torch.int64)
    names = [f"digit {number}" for number in range(10)]
    images = divide(x, y, names, test_share=0.25, seed=seed, limit=limit)
    return ClassStream("split-digits", images.tasks(classes_per_task), network, SOURCE)
