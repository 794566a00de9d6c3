"""Where a tensor stands in a network: its layer and its kind, told from names and modules."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from torch import nn

KINDS = ("attention", "MLP", "norm", "embedding", "other")
_NUMBER = re.compile(r"(?:^|\.)(\d+)\.")
_ATTENTION = re.compile(r"(^|[._])(attn|self_attn|attention|self_attention|cross_attn|q_proj|k_proj|v_proj|o_proj|qkv\w*)([._]|$)", re.I)
_MLP = re.compile(r"(^|[._])(mlp|ffn?|feed_forward|feedforward|experts?|gate_proj|up_proj|down_proj|fc\d*|intermediate)([._]|$)", re.I)
_NORM = re.compile(r"(norm\w*|(^|[._])ln(_?\w+)?)$", re.I)
_EMBEDDING = re.compile(r"(^|[._])(embed\w*|wte|wpe|lm_head|embeddings?)([._]|$)", re.I)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands: the number of its layer (None: outside of the numbered ones), and one of `KINDS`."""

    layer: int | None
    kind: str


def places(model: nn.Module) -> dict[str, Place]:
    """The place of every parameter, by name.

    The layer is the first number in the name (``model.layers.7.mlp.up_proj.weight``: 7). The kind is told by the module that
    owns the tensor (an `torch.nn.Embedding`; a class with ``Norm`` in its name), then by the name; ``lm_head`` counts as
    embedding, whose weights it often shares; what fits nothing is ``other``.
    """
    modules = dict(model.named_modules())
    found = {}
    for name, _ in model.named_parameters():
        owner, _, _ = name.rpartition(".")
        number = _NUMBER.search(name)
        found[name] = Place(int(number[1]) if number else None, _kind(owner, modules.get(owner)))
    return found


def _kind(owner: str, module: nn.Module | None) -> str:
    if isinstance(module, nn.Embedding):
        return "embedding"
    if "Norm" in type(module).__name__ or _NORM.search(owner):
        return "norm"
    for pattern, kind in ((_ATTENTION, "attention"), (_MLP, "MLP"), (_EMBEDDING, "embedding")):
        if pattern.search(owner):
            return kind
    return "other"


def last_layers(found: dict[str, Place], count: int, names: Iterable[str] | None = None) -> list[str]:
    """The tensors of the last ``count`` numbered layers, and those outside of them that are no embedding (the final norm).

    Without any numbered layer: the last ``count`` modules' tensors, by order of name in the model.
    """
    allowed: Collection[str] = list(found if names is None else names)
    numbers = sorted({place.layer for name, place in found.items() if place.layer is not None and name in allowed})
    if not numbers:
        owners = list(dict.fromkeys(name.rpartition(".")[0] for name in allowed))[-count:]
        return [name for name in allowed if name.rpartition(".")[0] in owners]
    kept = set(numbers[-count:])
    return [name for name in allowed if found[name].layer in kept or (found[name].layer is None and found[name].kind != "embedding")]
