"""How time and memory of every method grow: with the parameters (10x), the tasks (1 to 50), the stored examples (100 to 100,000).

    python benchmarks/growth.py measure --out docs/results/growth.json    # goes on where it stopped
    python benchmarks/growth.py table docs/results/growth.json            # and draws docs/results/growth.svg beside it

Small MLPs on random numbers, batches of 32, SGD, one thread. Time is of the processor for one training step, the median of 20 (the first
3 left out); memory is what the method holds between two steps, in bytes, exactly: all tensors of its state, and what it added to the
model. Of the memories the time is also that of the end of a task, where they are filled. An exponent of 1 is a straight line: log of the
growth over log of what grew tenfold, at the upper end.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import raw
from counts import COUNTED
from forgetless.core.session import attach
from forgetless.core.state import flatten
from forgetless.core.task import Task
from forgetless.methods import METHODS

WIDTHS = {100_000: 280, 300_000: 508, 1_000_000: 955, 3_000_000: 1687}
"""Parameters, about, of two hidden layers of so many units."""
GROWN = (*COUNTED, "auto", "joint", "wise", "generative-replay", "lora", "osf", "packnet", "supermask", "progressive")
TASKS = (1, 2, 5, 10, 20, 50)
EXAMPLES = (100, 1_000, 10_000, 100_000)
OPTIONS: dict[str, dict[str, Any]] = {
    "cpl": {"refresh": "task"},
    "ewc": {"strength": 1.0, "examples": 64},
    "online-ewc": {"strength": 1.0, "examples": 64},
    "mas": {"strength": 1.0, "examples": 64},
    "l2sp": {"anchor": "task"},
    "gem": {"per_task": 32, "batch_size": 32},
    "agem": {"capacity": 200, "batch_size": 32},
    "replay": {"capacity": 200},
    "der": {"capacity": 200},
    "derpp": {"capacity": 200},
    "packnet": {"prune": 0.95},  # so that weights are left for the fiftieth task
}
STORING: dict[str, str] = {"replay": "capacity", "der": "capacity", "derpp": "capacity", "agem": "capacity", "gem": "per_task"}
STEPS, WARM, BATCH, INPUTS, CLASSES = 20, 3, 32, 64, 10
LINEAR = 1.15
"""An exponent above this is flagged."""


def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
    """Mean cross-entropy."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def batches(count: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Random inputs and labels."""
    draw = torch.Generator().manual_seed(seed)
    return [(torch.randn(BATCH, INPUTS, generator=draw), torch.randint(0, CLASSES, (BATCH,), generator=draw)) for _ in range(count)]


def held(method: Any) -> int:
    """Bytes of all tensors in a method's state."""
    tensors: dict[str, torch.Tensor] = {}
    flatten(method.state_dict(), "state", tensors)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def size_of(model: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))


def train(method: Any, model: nn.Module, index: int, train_on: list[Any], *, last: bool = False) -> tuple[float, float, nn.Module]:
    """One task; the median time of a step, that of the task's end, and the model that the method made of the one given."""
    heads = (tuple(range(CLASSES)),) if index else ()
    task = Task(f"{index}", train_on, batches(2, 999), index=index, earlier_heads=heads, last=last, steps=STEPS)
    model = method.prepare(model, task)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    times = []
    session = attach(method, model, optimizer, task, loss_fn).start()
    for step in range(STEPS):
        began = time.process_time()
        batch = train_on[step % len(train_on)]
        outputs = model(batch[0])
        session.total(nn.functional.cross_entropy(outputs, batch[1]), batch, outputs).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.process_time() - began)
    began = time.process_time()
    session.close()
    return statistics.median(times[WARM:]), time.process_time() - began, model


def network(width: int) -> nn.Module:
    """Two hidden layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, CLASSES))


def by_parameters(name: str, size: int) -> dict[str, float]:
    """The second task of a larger and larger network."""
    model, method = network(WIDTHS[size]), METHODS[name](**OPTIONS.get(name, {}))
    count, plain = sum(p.numel() for p in model.parameters()), size_of(model)
    *_, model = train(method, model, 0, batches(4, 1))
    seconds, _, model = train(method, model, 1, batches(4, 2))
    return {"x": count, "seconds": seconds, "bytes": held(method) + size_of(model) - plain}


def by_tasks(name: str, count: int) -> dict[str, float]:
    """The last of so many tasks, on 100 units."""
    model, method = network(100), METHODS[name](**OPTIONS.get(name, {}))
    seconds, plain = 0.0, size_of(model)
    for index in range(count):
        seconds, _, model = train(method, model, index, batches(4, index), last=index == count - 1)
    return {"x": count, "seconds": seconds, "bytes": held(method) + size_of(model) - plain}


def by_examples(name: str, count: int) -> dict[str, float]:
    """The task after one of so many examples, all of which are stored."""
    options = OPTIONS.get(name, {}) | {STORING[name]: count} | ({"batch_size": 256} if name == "gem" else {})
    model, method = network(100), METHODS[name](**options)
    own = batches(-(-count // BATCH), 5)
    if name in ("der", "derpp"):  # they store while they train
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with attach(method, model, optimizer, Task("0", own, own, index=0, earlier_heads=(), steps=1), loss_fn):
            filled = 0.0
    else:
        _, filled, _ = train(method, model, 0, own)
    seconds, *_ = train(method, model, 1, batches(4, 6), last=True)
    return {"x": count, "seconds": seconds, "bytes": held(method), "filling": filled}


KINDS = {
    "parameters": (by_parameters, GROWN, tuple(WIDTHS)),
    "tasks": (by_tasks, GROWN, TASKS),
    "examples": (by_examples, tuple(STORING), EXAMPLES),
}


def exponent(points: list[tuple[float, float]]) -> float | None:
    """Of growth from the point at about a tenth of the last to the last one."""
    (x, y), last = min(points, key=lambda point: abs(math.log10(points[-1][0] / point[0]) - 1)), points[-1]
    return math.log(last[1] / y) / math.log(last[0] / x) if y > 0 and last[1] > 0 and last[0] > x else None


def curves(found: list[dict[str, Any]], kind: str, value: str) -> dict[str, list[tuple[float, float]]]:
    """By method the points of one plot."""
    rows = sorted((row for row in found if row["kind"] == kind), key=lambda row: row["x"])
    return {name: [(row["x"], row[value]) for row in rows if row["method"] == name] for name in KINDS[kind][1]}


def table(found: list[dict[str, Any]]) -> None:
    """Print the exponents as Markdown; those above a straight line are flagged."""
    print("| method | time by parameters | memory | time by tasks | memory | time by examples | memory |")
    print("|---|---|---|---|---|---|---|")
    for name in GROWN:
        cells = []
        for kind in KINDS:
            for value in ("seconds", "bytes"):
                points = curves(found, kind, value).get(name, [])
                power = exponent(points) if len(points) > 1 else None
                cells.append("" if power is None else f"{power:.2f}" + (" **more than a line**" if power > LINEAR else ""))
        print(f"| `{name}` | " + " | ".join(cells) + " |")


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """Draw time above and memory below for what grows."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"  # the same file every time
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(13, 8.2), layout="constrained")
    colours = [*plt.get_cmap("tab20").colors, *plt.get_cmap("Dark2").colors]
    for column, kind in enumerate(KINDS):
        for row, (value, label, scale) in enumerate((("seconds", "a step, ms", 1e3), ("bytes", "held by the method, MB", 1e-6))):
            panel = panels[row][column]
            for index, name in enumerate(GROWN):
                points = [(x, y * scale) for x, y in curves(found, kind, value).get(name, []) if y]
                if points:
                    panel.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.2, color=colours[index], label=name)
            panel.set(xscale="log", yscale="log", xlabel=kind, ylabel=label)
            panel.grid(alpha=0.25)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=8, ncols=9)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("measure")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parts.add_parser("table").add_argument("file", type=Path)
    given = parser.parse_args()
    if given.part == "table":
        found = raw.read(given.file)
        table(found)
        plot(found, given.file.with_suffix(".svg"))
        return 0
    torch.set_num_threads(1)
    found = raw.read(given.out)
    for kind in given.kinds:
        run, names, sizes = KINDS[kind]
        for name in names:
            for size in sizes:
                if any((row["kind"], row["method"], row["size"]) == (kind, name, size) for row in found):
                    continue
                found.append({"kind": kind, "method": name, "size": size} | run(name, size))
                raw.keep(given.out, found)
                print(found[-1], flush=True)
    table(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
