"""YAML read strictly, with the line of every key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from forgetless.errors import InputError

MEND = "See docs/compare.md for a plan"


class _Loader(yaml.SafeLoader):
    """Numbers such as 1e-4 are numbers, as in YAML 1.2."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))


class Lines:
    """A YAML file as plain values, and where each of them stands.

    Args:
        path: the file.

    Attributes:
        value: what it holds: a mapping.

    Raises:
        InputError: it cannot be read, is not YAML, is no mapping, or has a key twice or one that is no name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text("utf-8")
            self._root = yaml.compose(text, Loader=_Loader)
            self._unique(self._root)
            self.value: Any = yaml.load(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
            tab = "; YAML takes spaces, not tabs" if "\\t" in str(error.problem) else ""
            raise InputError(f"it is not YAML ({error.problem}{tab})", where=f"{path}{line}", mend=MEND) from error
        except InputError:
            raise
        except (ValueError, yaml.YAMLError, RecursionError) as error:  # a ValueError: not UTF-8, or no day that there is
            raise InputError("it is not YAML in UTF-8", where=str(path), mend=MEND) from error
        except OSError as error:
            raise InputError(f"it cannot be read ({error.strerror})", where=str(path), mend="Check the path of --config") from error
        if not isinstance(self.value, dict):
            raise InputError("it is not a mapping of keys to values", where=str(path), mend=MEND)

    def _unique(self, node: Any) -> None:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise InputError("a key is a list or a mapping", where=self._told(key), mend="Give it a name")
                if key.value in seen:
                    raise InputError(f"the key {key.value!r} stands twice", where=self._told(key), mend="Keep one of them")
                seen.add(key.value)
                self._unique(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                self._unique(value)

    def _told(self, node: Any) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"

    def where(self, place: Sequence[str | int]) -> str:
        """``file:line`` of the value at ``place`` (keys and indices from the top), or of what stands nearest above it."""
        node, found = self._root, self._root
        for part in place:
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    if str(key.value).replace("-", "_") == str(part).replace("-", "_"):
                        node, found = value, key
                        break
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = found = node.value[part]
        return self._told(found)
