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
import threading
from collections.abc import Callable, Sequence
from ctypes import c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from forgetless.files import cache_folder, replacing
from forgetless.ops.descent import Adam, Descent, FusedAdam, Momentum, Plain
from forgetless.ops.packing import STRIPE, pack_signs
from forgetless.ops.pool import one_core

SOURCE = Path(__file__).with_name("fused.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC")
WHOLE = 64
"""Of a `FusedAdam` step `Loops.descend` takes a multiple of so many weights: torch rounds the last few of a tensor in another way."""
BLOCK = 1 << 16
"""Weights whose `Adam` step is taken at a time: a core's cache holds them between its three passes."""
PART = slice(WHOLE, None)
_local = threading.local()


class Stretch(NamedTuple):
    """Neighbouring weights to step: ``length`` from place ``start`` on, of contiguous tensors of fp32 on a processor.

    Attributes:
        packed: signs of the whole tensor.
        element: the place in it of the first weight.
        gradient, weight: of the part of it at hand.
        memory: what else moves with the weights, likewise.
    """

    packed: Tensor
    element: int
    gradient: Tensor
    weight: Tensor
    memory: list[Tensor]
    start: int
    length: int


class Loops:
    """The compiled loops. All tensors are contiguous, of fp32, on a processor (those of `hold_back` also flat).

    Attributes:
        descents: the kinds of steps that round here as in torch.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        factors = ctypes.POINTER(c_float)
        place = [c_void_p, c_int64, c_int64, c_int64, c_void_p]  # packed, its size, the first element, how many, their gradient
        self._hold = _function(library, "hold_back", [*place, c_void_p, c_void_p, c_int32], c_int64)
        self._all = _function(library, "descend_all", [c_void_p, c_int64, c_int32, factors, c_int32], None)
        self._average = _function(library, "average", [c_int64, c_void_p, c_void_p, factors, c_void_p, c_void_p], None)
        self._averaged = _function(library, "descend_averaged", [*place, c_void_p, factors, c_int32, c_void_p, c_void_p], c_int64)
        self.descents: tuple[type[Descent], ...] = ()

    def hold_back(self, packed: Tensor, element: int, gradient: Tensor, before: Tensor, after: Tensor, *, frozen: bool) -> int:
        """``after = where(conflict, before, after)``; gives the number of conflicts."""
        place = (packed.data_ptr(), packed.numel(), element, gradient.numel(), gradient.data_ptr())
        held: int = self._hold(*place, before.data_ptr(), after.data_ptr(), frozen)
        return held

    def descend(self, stretches: Sequence[Stretch], descent: Descent, *, frozen: bool) -> list[int]:
        """Step the weights that do not conflict, and all memory; gives for each stretch how many were held back."""
        by = (c_float * 8)(*descent.factors())
        if type(descent) is Adam:
            return [self._by_blocks(stretch, by, frozen) for stretch in stretches]
        numbers: list[int] = []
        for packed, element, gradient, weight, memory, start, length in stretches:
            at = 4 * start
            first, second = ([tensor.data_ptr() + at for tensor in memory] + [0, 0])[:2] if memory else (0, 0)
            places = (gradient.data_ptr() + at, weight.data_ptr() + at, first, second, 0)
            numbers += (packed.data_ptr(), packed.numel(), element, length, *places)
        table = (c_int64 * len(numbers))(*numbers)
        self._all(table, len(stretches), (Plain, Momentum, FusedAdam).index(type(descent)), by, frozen)
        return table[8::9]

    def _by_blocks(self, stretch: Stretch, by: ctypes.Array[c_float], frozen: bool) -> int:
        """Moments, their roots by torch, and the weights, block by block."""
        packed, element, gradient, weight, memory, first, total = stretch
        mean, square, room, held = memory[0], memory[1].view(-1), _room(), 0
        codes, size, roots = packed.data_ptr(), packed.numel(), room.data_ptr()
        along, weights, means, squares = (tensor.data_ptr() for tensor in (gradient, weight, mean, square))
        for start in range(first, first + total, BLOCK):
            count, at = min(BLOCK, first + total - start), 4 * start
            self._average(count, along + at, weights + at, by, means + at, squares + at)
            torch.sqrt(square[start : start + count], out=room[:count])
            place = (codes, size, element + start - first, count, along + at)
            held += self._averaged(*place, weights + at, by, frozen, means + at, roots)
        return held


def _room() -> Tensor:
    """Scratch for a block's roots; each thread keeps its own."""
    if not hasattr(_local, "room"):
        _local.room = torch.empty(BLOCK)
    room: Tensor = _local.room
    return room


def fit(*tensors: Tensor) -> bool:
    """Whether the loops can take these tensors."""
    return all([tensor.dtype == torch.float32 and tensor.is_cpu and tensor.is_contiguous() for tensor in tensors])


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
        found.descents = tuple(kind for kind in (Plain, Momentum, Adam, FusedAdam) if _descends(found, kind))
    return found


def _function(library: ctypes.CDLL, name: str, takes: list[Any], gives: Any) -> ctypes._CFuncPtr:  # type: ignore[name-defined]  # only in stubs
    function = getattr(library, name)
    function.argtypes, function.restype = takes, gives
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
    odd = 0 if kind is FusedAdam else 27  # the last few weights too, but where another than we steps them
    packed, conflict, gradient, (before, first, second) = _sample(odd)
    second = second.abs()
    cases: list[tuple[Callable[..., torch.optim.Optimizer], dict[str, Any], Descent, list[Tensor]]] = []
    for decay in (0.0, 0.1):
        if kind is Plain:
            cases.append((torch.optim.SGD, {"weight_decay": decay}, Plain(0.1, decay), []))
        elif kind is Momentum:
            for nesterov, dampening in ((False, 0.7), (True, 0.0)):
                moving = Momentum(0.1, 0.9, dampening, [first.clone()], decay, nesterov)
                options = {"momentum": 0.9, "dampening": dampening, "nesterov": nesterov, "weight_decay": decay}
                cases.append((torch.optim.SGD, options, moving, [first.clone()]))
        else:
            assert kind is Adam or kind is FusedAdam
            for decoupled, other in ((True, torch.optim.AdamW), (False, torch.optim.Adam)):
                step = kind(0.1, (0.9, 0.999), 1e-8, decay, decoupled, 4, [first.clone()], [second.clone()])
                options = {"fused": kind is FusedAdam, "weight_decay": decay}
                cases.append((other, options, step, [first.clone(), second.clone()]))
    names = {Plain: (), Momentum: ("momentum_buffer",)}.get(kind, ("exp_avg", "exp_avg_sq"))
    for optimizer_class, options, descent, kept in cases:
        twin = nn.Parameter(before.clone())
        twin.grad = gradient
        optimizer = optimizer_class([twin], lr=0.1, **options)
        optimizer.state[twin].update(zip(names, kept, strict=True))
        if isinstance(descent, Adam):
            optimizer.state[twin]["step"] = torch.tensor(3.0)
        optimizer.step()
        weight, start = before.clone(), PART.start
        stretch = Stretch(packed, start, gradient, weight, descent.memory(0), start, weight.numel() - start)
        found.descend([stretch], descent, frozen=False)
        if not torch.equal(weight[PART], torch.where(conflict, before, twin.detach())[PART]):
            return False
        if any(not torch.equal(mine[PART], theirs[PART]) for mine, theirs in zip(descent.memory(0), kept, strict=True)):
            return False
    return True


def _sample(odd: int = 0) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Packed signs, where they conflict with a gradient, the gradient, and three tensors more."""
    generator = torch.Generator().manual_seed(0)
    reference, gradient, *others = torch.randn(5, 3 * STRIPE + 640 + odd, generator=generator).unbind()
    gradient[::7] = 0
    return pack_signs(reference), reference * gradient < 0, gradient, (others[0], others[1], others[2])
