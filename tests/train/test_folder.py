"""Everything in a run folder is whole, or not there."""

from __future__ import annotations

import json
import resource
import shutil
from collections import namedtuple
from contextlib import contextmanager

import pytest
import torch

from forgetless.data.model import load_model
from forgetless.errors import InputError
from forgetless.files import check_writable, read_jsonl, write_text
from forgetless.train.folder import RunFolder
from tiny import make_tiny_model

CONFIG = {"method": "none", "lr": 1e-5, "files": {"inject": {"path": "a.jsonl", "items": 1, "sha256": "0"}}}


@contextmanager
def no_file_above(size: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_does_not_fit_leaves_the_metrics_as_they_were(tmp_path):
    folder = RunFolder(tmp_path)
    folder.log({"a": 1})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with no_file_above(20), pytest.raises(OSError) as caught:
        folder.log({"long": "x" * 100})
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    folder.log({"b": 2})
    assert read_jsonl(tmp_path / "metrics.jsonl") == [{"a": 1}, {"b": 2}]


def test_a_checkpoint_that_does_not_fit_leaves_the_last_one(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoint({"weights": torch.ones(10)})
    with no_file_above(1000), pytest.raises(OSError) as caught:
        folder.checkpoint({"weights": torch.zeros(10_000)})
    assert caught.value.filename.endswith("state.safetensors")
    assert torch.equal(folder.last_checkpoint()["weights"], torch.ones(10))
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["state.safetensors"]


def test_a_model_that_does_not_fit_leaves_the_old_one_and_one_that_fits_replaces_it(tmp_path, capfd):
    language = load_model(str(make_tiny_model(tmp_path / "made")))
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "model" / "old").write_text("old")
    with no_file_above(50_000), pytest.raises(OSError) as caught:
        RunFolder(run).save_model(language.model, language.tokenizer)
    assert caught.value.filename == str(run / "model")
    assert [path.name for path in run.iterdir()] == ["model"] and (run / "model/old").read_text() == "old"
    capfd.readouterr()
    RunFolder(run).save_model(language.model, language.tokenizer)
    assert capfd.readouterr() == ("", ""), "transformers shows a bar when it writes a model"
    assert [path.name for path in run.iterdir()] == ["model"] and not (run / "model/old").exists()
    again = load_model(str(run / "model")).model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in language.model.state_dict().items())
    modes = {path.stat().st_mode for path in (run / "model").iterdir()}
    assert len(modes) == 1, "who may read the settings may read the weights"


def test_a_write_that_fails_removes_the_folders_it_made(tmp_path):
    with no_file_above(10), pytest.raises(OSError):
        write_text(tmp_path / "new" / "deep" / "file.txt", "x" * 100)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with no_file_above(10), pytest.raises(OSError):
        write_text(tmp_path / "mine" / "deep" / "file.txt", "x" * 100)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_checking_whether_a_place_can_be_written_leaves_nothing(tmp_path):
    for folder in (True, False):
        check_writable(tmp_path / "a" / "b", folder=folder)
        with pytest.raises(InputError, match="cannot be made"):
            check_writable(tmp_path.joinpath("/proc/none/b"), folder=folder)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def disk_of(monkeypatch):
    """A function that makes the disk seem to have so many bytes left."""
    usage = namedtuple("usage", "total used free")
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, free))


def test_the_room_needed_is_two_checkpoints_less_what_is_there_already(tmp_path, disk_of):
    folder, weights = RunFolder(tmp_path / "run"), 100 << 20
    disk_of(600 << 20)
    with pytest.raises(InputError, match="the run needs about"):
        folder.check_space(weights, 2 * weights)
    disk_of(700 << 20)
    folder.check_space(weights, 2 * weights)
    (tmp_path / "run/checkpoint").mkdir(parents=True)
    for name in ("state.safetensors", ".tmpAbCdEf", ".state.safetensors.7.tmp"):  # a checkpoint and two half ones
        with open(tmp_path / "run/checkpoint" / name, "wb") as handle:
            handle.truncate(200 << 20)
        disk_of(100 << 20)
        if name != ".state.safetensors.7.tmp":
            with pytest.raises(InputError):
                folder.check_space(weights, 2 * weights)
    folder.check_space(weights, 2 * weights)


def test_opening_a_folder_clears_half_written_files_and_nothing_else(tmp_path):
    folder = RunFolder(tmp_path)
    folder.open(CONFIG, resume=False)
    folder.close()
    (tmp_path / "checkpoint").mkdir()
    for name in (".tmpAbCdEf", ".state.safetensors.7.tmp", "state.safetensors"):
        (tmp_path / "checkpoint" / name).write_text("x")
    (tmp_path / ".model.tmp").mkdir()
    (tmp_path / ".model.tmp" / "half").write_text("x")
    folder.open(CONFIG, resume=True)
    folder.close()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["checkpoint", "config.yaml", "state.safetensors"]


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    folder = RunFolder(tmp_path)
    folder.log({"step": 1})
    folder.checkpoint({"at": 1})
    folder.log({"step": 2})
    with open(tmp_path / "metrics.jsonl", "a") as handle:
        handle.write('{"step": 3, "lo')
    assert folder.last_checkpoint()["at"] == 1
    assert read_jsonl(tmp_path / "metrics.jsonl") == [{"step": 1}]


@pytest.mark.parametrize("content", ["[", "- 1", "a: 1", "files: 3", "\x00"])
def test_a_broken_configuration_is_told(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=r"config\.yaml"):
        RunFolder(tmp_path).check(CONFIG, resume=True)


@pytest.mark.parametrize("name", ["summary.json", "before.json"])
def test_a_broken_json_file_is_told(tmp_path, name):
    (tmp_path / name).write_text("{")
    folder = RunFolder(tmp_path)
    with pytest.raises(InputError, match=name):
        folder.finished if name == "summary.json" else folder.load_before()  # the property reads


def test_what_may_differ_when_a_run_is_resumed(tmp_path):
    folder = RunFolder(tmp_path)
    folder.open(CONFIG | {"versions": {"torch": "1"}, "git": "a", "checkpoint_every": 1}, resume=False)
    folder.check(CONFIG | {"versions": {"torch": "2"}, "git": None, "checkpoint_every": None}, resume=True)
    with pytest.raises(InputError, match=r"lr = 1e-05, this command 0\.1"):
        folder.check(CONFIG | {"lr": 0.1}, resume=True)
    folder.close()


def test_only_one_run_at_a_time_has_the_folder(tmp_path):
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.open(CONFIG, resume=False)
    with pytest.raises(InputError, match="another process"):
        second.open(CONFIG, resume=True)
    first.close()
    second.open(CONFIG, resume=True)
    second.close()
    assert json.dumps(CONFIG)  # untouched


def test_what_a_kill_leaves_of_the_trial_is_gone_after_the_next(tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(type(out), "rmdir", lambda self: None)  # killed right before it
        check_writable(out, folder=True)
    assert len(list(tmp_path.iterdir())) == 1
    check_writable(out, folder=True)
    assert not list(tmp_path.iterdir())
