"""Counts, not times, of a training step: what may not grow unseen. No clock, so the same on every machine.

    python benchmarks/counts.py            # the table beside the last release's
    python benchmarks/counts.py --record   # into benchmarks/baseline.json

For every method, in the second task of a small network: operations that torch is asked for in one step, calls of the network in it, and
passes backward. For CPL's filtered step also without compiled loops, per optimizer, the operations of `optimizer.step()` alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import baseline
from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.methods import CPL, METHODS
from forgetless.ops import fused

OPTIONS: dict[str, dict[str, Any]] = {
    "cpl": {"refresh": "task"},
    "ewc": {"examples": 8},
    "online-ewc": {"examples": 8},
    "mas": {"examples": 8},
    "l2sp": {"anchor": "task"},
    "gem": {"per_task": 8},
    "agem": {"capacity": 16, "batch_size": 8},
}
COUNTED = (
    "none",
    "cpl",
    "l2sp",
    "ewc",
    "online-ewc",
    "si",
    "mas",
    "lwf",
    "kl",
    "replay",
    "der",
    "derpp",
    "gem",
    "agem",
    "gradient-protection",
    "null-space",
)
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw, fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
}


class Operations(TorchDispatchMode):
    """Counts what torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
    """Mean cross-entropy."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def setting() -> tuple[nn.Module, list[Any]]:
    """A network whose tensors hold multiples of 64 weights, and batches of 8."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    return model, [(torch.randn(8, 16), torch.randint(0, 64, (8,))) for _ in range(4)]


def of_method(name: str) -> dict[str, int]:
    """The third step of the second task."""
    model, batches = setting()
    method, found = METHODS[name](**OPTIONS.get(name, {})), {}
    for index in range(2):
        heads = (tuple(range(64)),) if index else ()
        task = Task(f"{index}", batches, batches[:2], index=index, earlier_heads=heads, last=index == 1, steps=4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with attach(method, model, optimizer, task, loss_fn) as session:
            for number, batch in enumerate(batches):
                operations, calls, backwards = Operations(), [0], [0]
                forward = model.register_forward_hook(lambda *_, calls=calls: calls.__setitem__(0, calls[0] + 1))
                arrived = next(model.parameters()).register_post_accumulate_grad_hook(
                    lambda _, backwards=backwards: backwards.__setitem__(0, backwards[0] + 1)
                )
                with operations:
                    outputs = model(batch[0])
                    session.total(nn.functional.cross_entropy(outputs, batch[1]), batch, outputs).backward()
                    optimizer.step()
                    optimizer.zero_grad()
                forward.remove()
                arrived.remove()
                if index and number == 2:
                    found = {"operations": operations.count, "forward": calls[0], "backward": backwards[0]}
    return found


def of_step(name: str, *, compiled: bool) -> int:
    """Operations of ``optimizer.step()`` under CPL."""
    model, batches = setting()
    optimizer, loops = OPTIMIZERS[name](model.parameters()), fused.loops
    operations = Operations()
    with attach(CPL(refresh="task"), model, optimizer, Task("new", batches, batches[:2]), loss_fn) as session:
        for number, batch in enumerate(batches):
            session.total(loss_fn(model, batch), batch).backward()
            if number < 3:
                optimizer.step()
                optimizer.zero_grad()
        try:
            if not compiled:
                fused.loops = lambda: None  # type: ignore[assignment]  # as FORGETLESS_COMPILE=0 does
            with operations:
                optimizer.step()
        finally:
            fused.loops = loops
    return operations.count


def counts() -> dict[str, int]:
    """All of them by name; those of compiled loops only where there are any."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        made = {}
        for way in ("compiled", "torch"):
            if way == "torch" or fused.loops() is not None:
                made |= {f"cpl's step, {name}, {way}": of_step(name, compiled=way == "compiled") for name in OPTIMIZERS}
        for name in COUNTED:
            if name == "cpl" and fused.loops() is None:
                continue
            made |= {f"{name}, {what}": number for what, number in of_method(name).items()}
        return made
    finally:
        torch.set_num_threads(threads)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true")
    given, found = parser.parse_args(), counts()
    known = json.loads(baseline.FILE.read_text("utf-8"))
    for name, number in found.items():
        was = known["counts"].get(name)
        print(f"{name:<40}{number:>8}" + ("" if was is None or was == number else f"   was {was}, {number - was:+}"))
    if given.record:
        baseline.FILE.write_text(json.dumps(known | {"counts": found}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
