"""Ossification: EWC's penalties add up until nothing more can be learned; online EWC, whose running Fisher decays, goes on learning.

    python benchmarks/ossification.py [--out docs/results] [--seeds 5] [--strengths 10 100] [--gamma 0.7] [--plot-only]

Ten tasks of permuted digits (scikit-learn's 8 × 8 digits, the pixels in another order in each task), one MLP with one output layer for
all of them, the same strength for both methods. Writes ossification.json (raw) and ossification.svg (made from it), and prints the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import forgetless as fl
import raw

TASKS, STEPS, BATCH, RATE, HIDDEN, EXAMPLES = 10, 150, 64, 1e-3, 100, 200
NAMES = {"none": "plain", "ewc": "EWC", "online-ewc": "online EWC"}
Pair = tuple[Tensor, Tensor]


def digits() -> tuple[Pair, Pair]:
    """Training and test part, the same three quarters and quarter for every seed."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x, y = torch.tensor(found.data, dtype=torch.float32) / 16, torch.tensor(found.target)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    test, train = order[: len(y) // 4], order[len(y) // 4 :]
    return (x[train], y[train]), (x[test], y[test])


def loss_fn(model: nn.Module, batch: Pair) -> Tensor:
    """Mean cross-entropy."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def run(method: fl.Method, seed: int) -> list[list[float]]:
    """The accuracy matrix: row i after task i, column j the accuracy on task j (up to i)."""
    train, test = digits()
    draw = torch.Generator().manual_seed(seed)
    orders = [torch.arange(64), *(torch.randperm(64, generator=draw) for _ in range(TASKS - 1))]
    torch.manual_seed(seed)
    model: nn.Module = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    matrix = []
    for index, order in enumerate(orders):
        picks = [torch.randint(len(train[1]), (BATCH,), generator=draw) for _ in range(STEPS)]
        data = [(train[0][pick][:, order], train[1][pick]) for pick in picks]
        task = fl.Task(f"order {index}", data, index=index, last=index == TASKS - 1, steps=STEPS)
        model = method.prepare(model, task)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        with fl.attach(method, model, optimizer, task, loss_fn) as session:
            for batch in data:
                session.total(loss_fn(model, batch), batch).backward()
                optimizer.step()
                optimizer.zero_grad()
        with torch.no_grad():
            matrix.append([float((model(test[0][:, o]).argmax(1) == test[1]).double().mean()) for o in orders[: index + 1]])
    return matrix


def measure(seeds: int, strengths: list[float], gamma: float) -> dict[str, Any]:
    """Every run, raw."""
    cells: list[dict[str, Any]] = []
    plan: list[tuple[str, float]] = [("none", 0.0), *((name, s) for s in strengths for name in ("ewc", "online-ewc"))]
    for name, strength in plan:
        options: dict[str, Any] = {} if name == "none" else {"strength": strength, "examples": EXAMPLES}
        if name == "online-ewc":
            options["gamma"] = gamma
        for seed in range(seeds):
            begin = time.perf_counter()
            matrix = run(fl.METHODS[name](**(options if name == "none" else options | {"seed": seed})), seed)
            seconds = round(time.perf_counter() - begin, 2)
            cells.append({"method": name, "strength": strength, "seed": seed, "accuracy": matrix, "seconds": seconds})
            print(f"{name} {strength:g} seed {seed}: task {TASKS} {matrix[-1][-1]:.3f}, all {statistics.mean(matrix[-1]):.3f}", flush=True)
    protocol = {"tasks": TASKS, "steps": STEPS, "batch": BATCH, "rate": RATE, "hidden": HIDDEN, "examples": EXAMPLES, "gamma": gamma}
    return {
        "benchmark": "ossification",
        "stream": "permuted digits",
        "optimizer": "Adam",
        **protocol,
        "torch": torch.__version__,
        "runs": cells,
    }


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds, in percent."""
    return f"{100 * statistics.mean(values):5.1f} ± {100 * (statistics.stdev(values) if len(values) > 1 else 0.0):4.1f}"


def groups(found: dict[str, Any]) -> dict[tuple[str, float], list[list[list[float]]]]:
    """The matrices of all seeds, by method and strength."""
    grouped: dict[tuple[str, float], list[list[list[float]]]] = {}
    for cell in found["runs"]:
        grouped.setdefault((cell["method"], cell["strength"]), []).append(cell["accuracy"])
    return grouped


def table(found: dict[str, Any]) -> str:
    """Percent of the test part, mean and standard deviation over seeds; the last task as it was just learned."""
    lines = [f"{'method':<12}{'strength':>9}{'first task, just learned':>26}{'last task, just learned':>26}{'all tasks at the end':>24}"]
    for (name, strength), matrices in groups(found).items():
        parts = (
            spread([m[0][0] for m in matrices]),
            spread([m[-1][-1] for m in matrices]),
            spread([statistics.mean(m[-1]) for m in matrices]),
        )
        lines.append(f"{NAMES[name]:<12}{strength:>9g}{parts[0]:>26}{parts[1]:>26}{parts[2]:>24}")
    return "\n".join(lines)


def plot(found: dict[str, Any], path: Path) -> None:
    """The accuracy on each task just after it was learned: one panel a strength, the band one standard deviation."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ossification"  # the same file every time
    import matplotlib.pyplot as plt

    grouped = groups(found)
    strengths = sorted({strength for name, strength in grouped if name != "none"})
    figure, panels = plt.subplots(1, len(strengths), figsize=(4.2 * len(strengths), 3.6), sharey=True, squeeze=False, layout="constrained")
    for panel, strength in zip(panels[0], strengths, strict=True):
        for name, colour, style in (("none", "#8a8a8a", ":"), ("ewc", "#c0392b", "-"), ("online-ewc", "#1f6fb2", "--")):
            matrices = grouped[name, strength if name != "none" else 0.0]
            learned = torch.tensor([[100 * m[k][k] for k in range(len(m))] for m in matrices])
            mean, deviation, tasks = learned.mean(0), learned.std(0, unbiased=len(matrices) > 1), range(1, learned.shape[1] + 1)
            label = NAMES[name] + (f" (γ = {found['gamma']:g})" if name == "online-ewc" else "")
            panel.plot(tasks, mean, color=colour, linestyle=style, marker="o", markersize=3.5, label=label)
            panel.fill_between(tasks, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)
        panel.set_title(f"strength {strength:g}", fontsize=10)
        panel.set_xlabel("task")
        panel.set_xticks(tasks)
        panel.grid(alpha=0.25)
    panels[0][0].set_ylabel("accuracy on the task just learned, %")
    panels[0][0].legend(frameon=False, loc="lower left")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run (or read what was run), print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "results")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--strengths", type=float, nargs="+", default=[10.0, 100.0])
    parser.add_argument("--gamma", type=float, default=0.7)
    parser.add_argument("--plot-only", action="store_true", help="make table and figure again from ossification.json")
    arguments = parser.parse_args()
    file = arguments.out / "ossification.json"
    if arguments.plot_only:
        found = json.loads(file.read_text("utf-8"))
    else:
        torch.set_num_threads(1)
        found = measure(arguments.seeds, arguments.strengths, arguments.gamma)
        arguments.out.mkdir(parents=True, exist_ok=True)
        whole = raw.named(file, found, range(arguments.seeds))
        file.write_text(json.dumps(whole, indent=None).replace('{"method"', '\n{"method"') + "\n", "utf-8")
    print(table(found))
    plot(found, arguments.out / "ossification.svg")


if __name__ == "__main__":
    main()
