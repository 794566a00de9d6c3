"""Where a model computes, and in which precision."""

from __future__ import annotations

from forgetless.data.model import Language
from forgetless.errors import InputError

DTYPES = ("float32", "bfloat16")


def check_placement(device: str, dtype: str) -> None:
    """Raise `InputError` where there is no such device on this machine, or no such precision to train in."""
    _device(device)
    if dtype not in DTYPES:
        raise InputError(f"{dtype!r} is not allowed", where="--dtype", mend=f"Give one of {', '.join(DTYPES)}")


def place(language: Language, device: str = "auto", dtype: str = "float32") -> Language:
    """Bring the model's weights to a device and a precision, in place.

    Args:
        language: the model; only its weights move.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` ...
        dtype: one of `DTYPES`; optimizers then keep their moments in it, too.

    Raises:
        InputError: there is no such device or precision.
    """
    import torch

    check_placement(device, dtype)
    language.model.to(_device(device), getattr(torch, dtype))
    return language


def _device(name: str) -> str:
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if found else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{name!r} is no device", where="--device", mend="Give auto, cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"{name!r} is not supported", where="--device", mend="Give auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= found:
        raise InputError(f"there is no {name} on this machine, which has {found} GPUs", where="--device", mend="Give auto or cpu")
    return name
