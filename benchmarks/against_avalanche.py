"""Time of a training step of eight methods, here and in Avalanche, as ratios from one run on the same network and data.

    python benchmarks/against_avalanche.py measure --out docs/results/against_avalanche.json [--repeats 5]
    python benchmarks/against_avalanche.py table docs/results/against_avalanche.json

An MLP 784-400-400-10, five tasks of two classes with 1,024 random pictures each, batches of 128 from a data loader, SGD at 0.01 on one
thread, class-incremental. Counted is processor time from one optimizer step to the next inside an epoch, from the third task on; what ends
a task is left out. The two libraries take turns. Needs `avalanche-lib` (measured with 0.6.0), which is no requirement of
forgetless; without it the program says so and measures nothing. Avalanche imports torchvision, of which this uses nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import raw

TASKS, EXAMPLES, BATCH, EPOCHS = 5, 1024, 128, 3
Methods = dict[str, tuple[dict[str, Any], str, dict[str, Any]]]
"""By name here: options, the class there, its options."""
METHODS: Methods = {
    "none": ({}, "Naive", {}),
    "ewc": ({"strength": 1.0}, "EWC", {"ewc_lambda": 1.0, "mode": "separate"}),
    "si": ({"strength": 0.1}, "SynapticIntelligence", {"si_lambda": 0.1}),
    "mas": ({"strength": 1.0}, "MAS", {"lambda_reg": 1.0}),
    "lwf": ({"strength": 1.0}, "LwF", {"alpha": 1.0, "temperature": 2.0}),
    "agem": ({"capacity": 2000, "batch_size": 128}, "AGEM", {"patterns_per_exp": 400, "sample_size": 128}),
    "gem": ({"per_task": 256, "margin": 0.5, "batch_size": 256}, "GEM", {"patterns_per_exp": 256, "memory_strength": 0.5}),
    "derpp": ({"capacity": 500}, "DER", {"mem_size": 500, "alpha": 0.5, "beta": 0.5}),
    "replay": ({"capacity": 500}, "Replay", {"mem_size": 500}),
}


def pictures() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each task inputs and labels."""
    draw = torch.Generator().manual_seed(0)
    return [
        (torch.rand(EXAMPLES, 784, generator=draw), torch.randint(2 * task, 2 * task + 2, (EXAMPLES,), generator=draw))
        for task in range(TASKS)
    ]


def network() -> nn.Module:
    """The same weights for both."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 10))


class Clock:
    """Notes when an optimizer has stepped."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.marks: list[float] = []
        optimizer.register_step_post_hook(lambda *_: self.marks.append(time.process_time()))

    def steps(self) -> list[float]:
        """The time of each step but the first of an epoch, and forget them."""
        each = EXAMPLES // BATCH
        found = [self.marks[i] - self.marks[i - 1] for i in range(len(self.marks)) if i % each]
        self.marks.clear()
        return found


def ours(name: str, options: dict[str, Any]) -> list[float]:
    """Seconds of each step of ``forgetless``'s method."""
    from forgetless.core.session import attach
    from forgetless.core.task import Task
    from forgetless.methods import METHODS as OURS

    def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    model, method, found = network(), OURS[name](**options), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    clock = Clock(optimizer)
    for index, (x, y) in enumerate(pictures()):
        loader = DataLoader(TensorDataset(x, y), batch_size=BATCH, shuffle=True)
        heads = (tuple(range(2 * index)),) if index else ()
        task = Task(f"{index}", loader, index=index, earlier_heads=heads, last=index == TASKS - 1, steps=EPOCHS * len(loader))
        with attach(method, model, optimizer, task, loss_fn) as session:
            for epoch in range(EPOCHS):
                session.begin_epoch(epoch)
                for batch in loader:
                    outputs = model(batch[0])
                    session.total(nn.functional.cross_entropy(outputs, batch[1]), batch, outputs).backward()
                    optimizer.step()
                    optimizer.zero_grad()
        steps = clock.steps()
        found += steps if index > 1 else []
    return found


def theirs(name: str, options: dict[str, Any]) -> list[float]:
    """Seconds of each step of Avalanche's strategy of that name."""
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils.classification_dataset import _make_taskaware_tensor_classification_dataset as dataset
    from avalanche.training import supervised
    from avalanche.training.plugins import EvaluationPlugin

    parts = [dataset(x, y, task_labels=[0] * len(y)) for x, y in pictures()]
    stream = benchmark_from_datasets(train=parts).train_stream
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    clock = Clock(optimizer)
    strategy = getattr(supervised, name)(
        model=model,
        optimizer=optimizer,
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=BATCH,
        train_epochs=EPOCHS,
        evaluator=EvaluationPlugin(),
        **options,
    )
    found = []
    for index, experience in enumerate(stream):
        experience.classes_in_this_experience = [2 * index, 2 * index + 1]
        strategy.train(experience, num_workers=0)
        steps = clock.steps()
        found += steps if index > 1 else []
    return found


def in_turn(repeats: int, methods: Methods, other: str, theirs: Callable[[str, dict[str, Any]], list[float]]) -> dict[str, Any]:
    """Each method here and in the library ``other``, in turn; medians of each run, in milliseconds."""
    torch.set_num_threads(1)
    rows = {}
    for name, (own, there, options) in methods.items():
        runs: dict[str, list[float]] = {"forgetless": [], other: []}
        sides: dict[str, Callable[[], list[float]]] = {
            "forgetless": lambda name=name, own=own: ours(name, own),  # type: ignore[misc]  # bound now
            other: lambda there=there, options=options: theirs(there, options),  # type: ignore[misc]
        }
        for _ in range(repeats):
            for side, train in sides.items():
                runs[side].append(1e3 * statistics.median(train()))
        rows[name] = runs | {"options": own, "there": there, "options_there": options}
        ratio = statistics.median(runs["forgetless"]) / statistics.median(runs[other])
        print(f"{name}: {ratio:.2f} of {other.capitalize()}'s {there}", flush=True)
    return {"torch": torch.__version__, "repeats": repeats, "methods": rows}


def table(found: dict[str, Any], other: str) -> None:
    """Print the results as Markdown: medians, and the range over runs of the ratio in each run."""
    rows = found["methods"]
    plain = {side: statistics.median(rows["none"][side]) for side in ("forgetless", other)}
    print(f"| method | a step here, {other.capitalize()} = 1 | range | here, over plain here | there, over plain there |")
    print("|---|---|---|---|---|")
    for name, row in rows.items():
        here, there = (statistics.median(row[side]) for side in ("forgetless", other))
        ratios = sorted(one / other for one, other in zip(row["forgetless"], row[other], strict=True))
        over = f"{here / plain['forgetless']:.2f} | {there / plain[other]:.2f}"
        print(f"| `{name}` ({row['there']}) | {here / there:.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} | {over} |")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("measure")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--repeats", type=int, default=5)
    parts.add_parser("table").add_argument("file", type=Path)
    given = parser.parse_args()
    if given.part == "table":
        table(json.loads(given.file.read_text("utf-8")), "avalanche")
        return 0
    if importlib.util.find_spec("avalanche") is None:
        print("skipped: avalanche-lib is not installed here, so there is nothing to compare with (pip install avalanche-lib)")
        return 0
    found = {"avalanche": version("avalanche-lib")} | in_turn(given.repeats, METHODS, "avalanche", theirs)
    given.out.write_text(json.dumps(raw.named(given.out, found, [0]), indent=1) + "\n", encoding="utf-8")
    table(found, "avalanche")
    return 0


if __name__ == "__main__":
    sys.exit(main())
