"""Time of a whole training step under every method, as a multiple of plain training's in the same run.

    python benchmarks/method_step.py measure --out docs/results/method_step.json [--repeats 7]     # goes on where it stopped
    python benchmarks/method_step.py table docs/results/method_step.json                           # the table of docs/costs.md

The Llama of benchmarks/memory_table.py (24.6 million weights), the second of two tasks, AdamW, batches of 4 rows of 32 tokens, one thread,
processor time. For each method a process, in which a plain model and the protected one take turns; medians with range. A refresh of CPL's
reference and what a method does between tasks are not in a step; the latter, for the end of the first and the beginning of the second
task together, stands beside it, in plain steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import raw
from counts import COUNTED
from memory_table import network

OTHERS = ("auto", "lora", "osf", "packnet", "supermask", "generative-replay", "joint", "wise")
RUNS = tuple(dict.fromkeys((*COUNTED, *OTHERS)))
OPTIONS: dict[str, dict[str, Any]] = {"cpl": {"refresh": "task"}, "generative-replay": {"count": 8, "length": 16}}
OPTIONS |= {name: {"texts": 8, "length": 16} for name in ("null-space", "auto")}
WARM = 2


def child(name: str, repeats: int) -> None:
    """Let a plain model and one under ``name`` take turns; print the times."""
    import torch

    import forgetless as fl

    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(1)

    def batch() -> dict[str, torch.Tensor]:
        ids = torch.randint(3, 8192, (4, 32), generator=draw)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}

    def loss_fn(model: Any, one: Any) -> torch.Tensor:
        loss: torch.Tensor = model(**one).loss
        return loss

    def steps(session: Any, model: Any, optimizer: torch.optim.Optimizer, own: Any, plainly: Any, count: int) -> list[tuple[float, float]]:
        found = []
        for number in range(count):
            one = own[number % len(own)]
            began = time.process_time()
            outputs = model(**one)
            session.total(outputs.loss, one, outputs).backward()
            optimizer.step()
            optimizer.zero_grad()
            middle = time.process_time()
            plainly(one)
            found.append((middle - began, time.process_time() - middle))
        return found

    plain = network("float32").train()
    stepper = torch.optim.AdamW(plain.parameters(), lr=1e-5)

    def plainly(one: Any) -> None:
        plain(**one).loss.backward()
        stepper.step()
        stepper.zero_grad()

    method = fl.METHODS[name](**OPTIONS.get(name, {}))
    own, old = [batch() for _ in range(4)], [batch() for _ in range(4)]
    first = fl.Task("one", own, old, index=0, steps=WARM)
    model = method.prepare(network("float32").train(), first)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    session = fl.attach(method, model, optimizer, first, loss_fn).start()
    steps(session, model, optimizer, own, plainly, WARM)
    began = time.process_time()
    session.close()
    second = fl.Task("two", old, own, index=1, steps=WARM + repeats)
    model = method.prepare(model, second)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    session = fl.attach(method, model, optimizer, second, loss_fn).start()
    between = time.process_time() - began
    times = steps(session, model, optimizer, old, plainly, WARM + repeats)[WARM:]
    session.close()
    print(json.dumps({"method": name, "times": times, "between": between}))


def table(found: list[dict[str, Any]]) -> None:
    """Print the ratios as Markdown."""
    print("| method | a step, plain = 1 | range | between two tasks, in plain steps |")
    print("|---|---|---|---|")
    for row in found:
        base = statistics.median(plain for _, plain in row["times"])
        ratios = sorted(own / base for own, _ in row["times"])
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"| `{row['method']}` | {statistics.median(ratios):.2f} | {spread} | {row['between'] / base:.1f} |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("measure")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--repeats", type=int, default=7)
    parts.add_parser("table").add_argument("file", type=Path)
    own = parts.add_parser("child")
    own.add_argument("name", choices=RUNS)
    own.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    if given.part == "child":
        child(given.name, given.repeats)
    elif given.part == "table":
        table(raw.read(given.file))
    else:
        found = raw.read(given.out)
        for name in RUNS:
            if all(row["method"] != name for row in found):
                command = [sys.executable, __file__, "child", name, "--repeats", str(given.repeats)]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found.append(json.loads(said.splitlines()[-1]))
                raw.keep(given.out, found)
                print(name, flush=True)


if __name__ == "__main__":
    main()
