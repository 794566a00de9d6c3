"""The one-pass loops of ``fused.c``, where a C compiler is at hand and they give the very bits that torch's operations give.

They are compiled once, at first use, into the cache folder. ``FORGETLESS_COMPILE=0`` leaves them out; without them, and on
anything but fp32 weights on a processor, `signs` works in blocks of torch operations.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from ctypes import c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.files import cache_folder, replacing
from forgetless.ops.descent import Adam, Descent, Momentum, Plain
from forgetless.ops.packing import STRIPE, pack_signs
from forgetless.ops.pool import one_core

SOURCE = Path(__file__).with_name("fused.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC")
WHOLE = 64
"""`Loops.descend` takes a multiple of so many weights: torch rounds the last few of a tensor in another way."""
PART = slice(WHOLE, None)
_PLACE = [c_void_p, c_int64, c_int64, c_int64, c_void_p]  # packed, its size, the first element, how many, their gradient


class Loops:
    """The compiled loops. All tensors are flat, contiguous, of fp32, on a processor; ``element`` is the place of the first in its tensor.

    Attributes:
        descents: the kinds of steps that round here as in torch.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._hold = _function(library, "hold_back", [c_void_p, c_void_p, c_int32])
        self._plain = _function(library, "descend", [c_void_p, c_float, c_int32])
        self._moving = _function(library, "descend_moving", [c_void_p, c_float, c_int32, c_void_p, c_float, c_float])
        self._adam = _function(library, "descend_adam", [c_void_p, ctypes.POINTER(c_float), c_int32, c_void_p, c_void_p])
        self.descents: tuple[type[Descent], ...] = ()

    def hold_back(self, packed: Tensor, element: int, gradient: Tensor, before: Tensor, after: Tensor, *, frozen: bool) -> int:
        """``after = where(conflict, before, after)``; gives the number of conflicts."""
        held: int = self._hold(*_place(packed, element, gradient), before.data_ptr(), after.data_ptr(), frozen)
        return held

    def descend(
        self, packed: Tensor, element: int, gradient: Tensor, weight: Tensor, descent: Descent, part: int, some: slice, *, frozen: bool
    ) -> int:
        """Step the weights that do not conflict, and of what else ``descent`` moves the elements ``some`` of number ``part``."""
        place = (*_place(packed, element, gradient), weight.data_ptr())
        moved = [tensor.view(-1)[some].data_ptr() for tensor in descent.memory(part)]
        if isinstance(descent, Plain):
            held: int = self._plain(*place, -descent.rate, frozen)
        elif isinstance(descent, Momentum):
            held = self._moving(*place, -descent.rate, frozen, *moved, descent.momentum, 1 - descent.dampening)
        else:
            held = self._adam(*place, (c_float * 8)(*descent.factors()), frozen, *moved)
        return held


def fit(*tensors: Tensor) -> bool:
    """Whether the loops can take these tensors."""
    return all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors)


@cache
def loops() -> Loops | None:
    """The loops, compiled, loaded and compared with torch; None without a compiler, or where they differ."""
    if os.environ.get("FORGETLESS_COMPILE") == "0":
        return None
    compiler = os.environ.get("CC") or next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if compiler is None:
        return None
    try:
        found = Loops(ctypes.CDLL(str(_library(compiler))))
    except (
        OSError,
        subprocess.SubprocessError,
        AttributeError,
        RuntimeError,
    ):  # RuntimeError: nobody has a home; torch does the same, slower
        return None
    with one_core():
        if not _holds_back(found):
            return None
        found.descents = tuple(kind for kind in (Plain, Momentum, Adam) if _descends(found, kind))
    return found


def _function(library: ctypes.CDLL, name: str, others: list[type]) -> ctypes._CFuncPtr:  # type: ignore[name-defined]  # only in stubs
    function = getattr(library, name)
    function.argtypes, function.restype = [*_PLACE, *others], c_int64
    return function


def _library(compiler: str) -> Path:
    told = [SOURCE.read_bytes(), " ".join((compiler, *FLAGS)).encode(), _processor().encode()]
    path = cache_folder() / "compiled" / f"fused-{hashlib.sha256(b'|'.join(told)).hexdigest()[:20]}.so"
    if not path.is_file():
        with replacing(path) as temporary:
            subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(temporary), "-lm"], check=True, capture_output=True, timeout=120)
            temporary.chmod(0o700)  # whatever the umask: what others may write is not loaded
    found = path.stat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise PermissionError(f"{path} could have been written by somebody else")
    return path


def _processor() -> str:
    """What ``-march=native`` looks at."""
    flags = Path("/proc/cpuinfo")
    lines = flags.read_text("utf-8", "replace").split("\n") if flags.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor()) + platform.machine()


def _holds_back(found: Loops) -> bool:
    """Whether `Loops.hold_back` is ``where``, bit for bit."""
    packed, conflict, gradient, (before, after, _) = _sample()
    kept = after.clone()
    held = found.hold_back(packed, PART.start, gradient[PART], before[PART], kept[PART], frozen=False)
    return held == int(conflict[PART].sum()) and torch.equal(kept[PART], torch.where(conflict, before, after)[PART])


def _descends(found: Loops, kind: type[Descent]) -> bool:
    """Whether `Loops.descend` takes torch's own step where nothing conflicts, bit for bit, and none elsewhere."""
    packed, conflict, gradient, (before, first, second) = _sample()
    second = second.abs()
    cases: list[tuple[Callable[..., torch.optim.Optimizer], dict[str, Any], Descent, list[Tensor]]] = []
    if kind is Plain:
        cases = [(torch.optim.SGD, {}, Plain(0.1), [])]
    elif kind is Momentum:
        cases = [(torch.optim.SGD, {"momentum": 0.9, "dampening": 0.7}, Momentum(0.1, 0.9, 0.7, [first.clone()]), [first])]
    else:
        for decoupled, other in ((True, torch.optim.AdamW), (False, torch.optim.Adam)):
            step = Adam(0.1, (0.9, 0.999), 1e-8, 0.1, decoupled, 4, [first.clone()], [second.clone()])
            cases.append((other, {"fused": True, "weight_decay": 0.1}, step, [first.clone(), second.clone()]))
    names = {Plain: (), Momentum: ("momentum_buffer",), Adam: ("exp_avg", "exp_avg_sq")}[kind]
    for optimizer_class, options, descent, kept in cases:
        twin = nn.Parameter(before.clone())
        twin.grad = gradient
        optimizer = optimizer_class([twin], lr=0.1, **options)
        optimizer.state[twin].update(zip(names, kept, strict=True))
        if kind is Adam:
            optimizer.state[twin]["step"] = torch.tensor(3.0)
        optimizer.step()
        weight = before.clone()
        found.descend(packed, PART.start, gradient[PART], weight[PART], descent, 0, PART, frozen=False)
        if not torch.equal(weight[PART], torch.where(conflict, before, twin.detach())[PART]):
            return False
        if any(not torch.equal(mine[PART], theirs[PART]) for mine, theirs in zip(descent.memory(0), kept, strict=True)):
            return False
    return True


def _sample() -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Packed signs, where they conflict with a gradient, the gradient, and three tensors more."""
    generator = torch.Generator().manual_seed(0)
    reference, gradient, *others = torch.randn(5, 3 * STRIPE + 640, generator=generator).unbind()
    gradient[::7] = 0
    return pack_signs(reference), reference * gradient < 0, gradient, (others[0], others[1], others[2])


def _place(packed: Tensor, element: int, gradient: Tensor) -> tuple[int, int, int, int, int]:
    return packed.data_ptr(), packed.numel(), element, gradient.numel(), gradient.data_ptr()
