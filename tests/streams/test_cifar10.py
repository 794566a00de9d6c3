"""split-cifar10: reading images, and the real frozen network on small made ones."""

import base64
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from forgetless.errors import InputError
from forgetless.streams.builders import make_stream
from forgetless.streams.cifar10 import split_cifar10
from forgetless.streams.pictures import TASK_FILE, read_pictures

COLOURS = {"blue": (20, 40, 220), "green": (30, 200, 40), "red": (220, 30, 30), "yellow": (230, 220, 20)}
EACH = 10


def png(colour: str, number: int, side: int = 32) -> bytes:
    noise = np.random.default_rng([number, len(colour)]).integers(-20, 20, (side, side, 3))
    stored = io.BytesIO()
    Image.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8)).save(stored, "PNG")
    return stored.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FORGETLESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for colour in COLOURS:
        inside = tmp_path / "images" / colour
        inside.mkdir(parents=True)
        for number in range(EACH):
            (inside / f"{number:02}.png").write_bytes(png(colour, number))
    return tmp_path / "images"


def bigbench_task() -> bytes:
    rows = [
        {"input": base64.b64encode(png(colour, number)).decode(), "target_scores": {name: int(name == colour) for name in COLOURS}}
        for colour in COLOURS
        for number in range(EACH)
    ]
    return json.dumps({"name": "base64", "examples": rows}).encode()


def test_a_folder_for_each_class_is_read_in_order(folder: Path):
    (folder / ".hidden").mkdir()
    (folder / "empty").mkdir()
    (folder / "red" / "notes.txt").write_text("not an image")
    _, names, pictures = read_pictures(str(folder))
    assert names == ("blue", "green", "red", "yellow")
    assert [picture.label for picture in pictures] == [label for label in range(4) for _ in range(EACH)]
    for picture in pictures:
        assert (picture.pixels().float().mean((1, 2)) - torch.tensor(COLOURS[names[picture.label]])).abs().max() < 15


def test_bigbench_is_read_from_its_archive_its_folder_and_its_file(tmp_path: Path, folder: Path):
    unpacked = tmp_path / "bigbench-1.0.0" / TASK_FILE
    unpacked.parent.mkdir(parents=True)
    unpacked.write_bytes(bigbench_task())
    archive = tmp_path / "bigbench-1.0.0.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tmp_path / "bigbench-1.0.0", "bigbench-1.0.0")
    _, _, plain = read_pictures(str(folder))
    for source in (archive, tmp_path, tmp_path / "bigbench-1.0.0", unpacked):
        told, names, pictures = read_pictures(str(source))
        assert "CIFAR-10" in told and names == tuple(COLOURS)
        assert [(picture.content, picture.label) for picture in pictures] == [(picture.content, picture.label) for picture in plain]


def test_the_frozen_features_tell_the_classes_apart(folder: Path, capfd: pytest.CaptureFixture[str]):
    stream = split_cifar10(images=str(folder), resolution=32, width=20)
    assert "features of 40 images" in capfd.readouterr().err
    assert [task.classes for task in stream.tasks] == [("blue", "green"), ("red", "yellow")]
    for task in stream.tasks:
        assert task.train[0].shape == (16, 1280) and task.test[0].shape == (4, 1280)
        assert task.train[1].bincount().tolist() == [8, 8] and task.test[1].bincount().tolist() == [2, 2]
        assert not (torch.cdist(task.train[0], task.test[0]) == 0).any()
        means = torch.stack([task.train[0][task.train[1] == label].mean(0) for label in (0, 1)])
        assert torch.equal(torch.cdist(task.test[0], means).argmin(1), task.test[1])
    assert stream.make_model(4)(stream.tasks[0].test[0]).shape == (4, 4)


def test_features_are_computed_once_and_kept_per_resolution(folder: Path, cache: Path, capfd: pytest.CaptureFixture[str]):
    first = split_cifar10(images=str(folder), resolution=32)
    (kept,) = cache.iterdir()
    written = kept.read_bytes()
    capfd.readouterr()
    again = split_cifar10(images=str(folder), resolution=32)
    assert capfd.readouterr().err == ""
    assert torch.equal(first.tasks[1].test[0], again.tasks[1].test[0]) and kept.read_bytes() == written
    split_cifar10(images=str(folder), resolution=40)
    (folder / "red" / "00.png").write_bytes(png("red", 99))
    split_cifar10(images=str(folder), resolution=32)
    assert len(list(cache.iterdir())) == 3
    kept.write_bytes(b"broken")
    (folder / "red" / "00.png").write_bytes(png("red", 0))
    with pytest.raises(InputError, match=f"{kept.name}: the features kept .* Delete the file"):
        split_cifar10(images=str(folder), resolution=32)


def test_larger_images_are_made_small(tmp_path: Path):
    for colour in ("red", "blue"):
        (tmp_path / colour).mkdir()
        (tmp_path / colour / "one.png").write_bytes(png(colour, 1, side=100))
    _, _, pictures = read_pictures(str(tmp_path))
    assert pictures[0].pixels().shape == (3, 32, 32)


def test_what_cannot_be_read_is_named(tmp_path: Path, folder: Path):
    with pytest.raises(InputError, match="no such file or folder"):
        split_cifar10(images=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="holds images of 0 classes"):
        split_cifar10(images=str(folder / "red"))
    (tmp_path / "some.tar.gz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"some\.tar\.gz: cannot be read as an archive"):
        split_cifar10(images=str(tmp_path / "some.tar.gz"))
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as packed:
        packed.add(folder / "red" / "00.png", "a.png")
    with pytest.raises(InputError, match="has no CIFAR-10 images"):
        split_cifar10(images=str(tmp_path / "other.tar.gz"))
    (tmp_path / "task.json").write_text('{"examples": [{"input": "%%%", "target_scores": {"a": 1, "b": 0}}]}')
    with pytest.raises(InputError, match="is not bigbench's task file"):
        split_cifar10(images=str(tmp_path / "task.json"))
    (folder / "red" / "03.png").write_bytes(png("red", 3)[:200])
    with pytest.raises(InputError, match=r"03\.png: cannot be read as an image"):
        make_stream("split-cifar10", {"images": str(folder), "resolution": 32})
