"""PEFT's adapter layers put into a model in place, switched, merged and taken out again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from forgetless.errors import InputError

ALL_LINEAR = "all-linear"


def peft() -> Any:
    """The package PEFT.

    Raises:
        InputError: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        what = f"the package {error.name} is missing" if error.name else f"peft cannot be used ({error})"
        raise InputError(what, mend="Run: pip install 'forgetless[hf]'") from error
    return peft


def check_target(where: str, target: str | Sequence[str]) -> str | tuple[str, ...]:
    """``"all-linear"`` or names of layers, checked."""
    names = (target,) if isinstance(target, str) else tuple(target) if isinstance(target, Sequence) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{target!r} is not allowed", where=where, mend="Give 'all-linear' or names of layers")
    return target if isinstance(target, str) else names


def layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The adapter layers of a model by name."""
    peft()
    from peft.tuners.tuners_utils import BaseTunerLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer))


def linears(model: nn.Module, target: str | Sequence[str], kinds: tuple[type[nn.Module], ...]) -> dict[str, Any]:
    """The layers to adapt, by name.

    Args:
        model: without adapters.
        target: ``"all-linear"``, or names; a name stands for itself and for all that end in ``.name``.
        kinds: which modules count. Left out are a language model's output layer, a layer whose weight stands in the model
            twice (tied, or the same layer in two places: an adapter would reach one of them), and attention layers of torch
            that read the weight without calling the layer.

    Raises:
        InputError: there is none, or none of a name.
    """
    getter: Any = getattr(model, "get_output_embeddings", None)
    output = getter() if getter else None
    places = Counter(id(module.weight) for _, module in model.named_modules(remove_duplicate=False) if hasattr(module, "weight"))
    found = {
        name: module
        for name, module in model.named_modules()
        if name
        and isinstance(module, kinds)
        and module is not output
        and places[id(module.weight)] == 1
        and not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)
    }
    if target != ALL_LINEAR:
        names = [target] if isinstance(target, str) else target
        for wanted in names:
            if not any(_named(name, wanted) for name in found):
                raise InputError(f"no layer to adapt is called {wanted!r}", where="target", mend=f"Choose among {_few(found)}")
        found = {name: module for name, module in found.items() if any(_named(name, wanted) for wanted in names)}
    if not found:
        raise InputError("the model has no linear layer to adapt", where="model", mend="Take another method")
    return found


def inject(model: nn.Module, config: Any, name: str, targets: Sequence[str]) -> None:
    """Put an adapter on exactly the layers ``targets``; it has their dtype and device, and all else is frozen by it."""
    config.target_modules = "|".join(map(re.escape, targets))
    peft().inject_adapter_in_model(config, model, name)
    del model.peft_config  # PEFT would warn of it at the next adapter, and take its settings for its own
    for _, layer in layers(model):
        dtype = layer.get_base_layer().weight.dtype
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)  # PEFT raises half precision to fp32


def select(model: nn.Module, name: str | None, *, train: bool = False) -> None:
    """Let adapter ``name`` alone act (None, or one that does not exist: none); only with ``train`` does it become what is trained."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for _, layer in layers(model):
        layer.set_adapter([] if name is None else [name])
    if not train:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def unload(model: nn.Module) -> nn.Module:
    """Add the adapter in use to the weights and take the adapter layers out, in place."""
    for name, layer in list(layers(model)):
        with torch.no_grad():
            layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    return model


def adapted(model: nn.Module) -> bool:
    """Whether the model has adapter layers of PEFT, which need not be there to say so."""
    return any(hasattr(module, "base_layer") and hasattr(module, "adapter_layer_names") for module in model.modules())


def factors(model: nn.Module) -> dict[str, str]:
    """The names of the first factors (``lora_A``) of LoRA layers that are trained, each with that of the second (``lora_B``)."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) and ".lora_A." in name}
    return {name: name.replace(".lora_A.", ".lora_B.") for name, module in found.items() if module.weight.requires_grad}


def fresh(model: nn.Module, names: Container[str]) -> dict[str, str]:
    """Of the `factors` whose first is among ``names`` those whose second is still zero, so that the first may be put elsewhere."""
    found = {}
    for first, second in factors(model).items():
        weight: Any = model.get_parameter(f"{second}.weight").detach()
        if first in names and not (weight.full_tensor() if hasattr(weight, "full_tensor") else weight).any():  # FSDP shards it
            found[first] = second
    return found


def refuse_foreign(model: nn.Module, prefix: str) -> None:
    """Raise `InputError` where the model has adapters whose names do not begin with ``prefix``."""
    for name, layer in layers(model):
        foreign = [adapter for adapter in layer._all_available_adapter_names() if not adapter.startswith(prefix)]
        if foreign:
            raise InputError(f"{name} already has the adapter {foreign[0]!r}", where="model", mend="Merge it first: merge_and_unload()")


def _named(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")


def _few(names: Any) -> str:
    found = sorted({name.rpartition(".")[2] for name in names})
    return ", ".join(found[:12]) + (" ..." if len(found) > 12 else "")
