"""The three settings of split MNIST for every method, beside the figures published for 60,000 images.

    python benchmarks/split_mnist.py run [--jobs 2] [--seeds 5] [--only task/ewc,class/replay] [--data FOLDER]
    python benchmarks/split_mnist.py tune [--jobs 2]      # strengths, on a seed that is not reported
    python benchmarks/split_mnist.py why [--jobs 2]       # two figures that are off, with the published number of steps
    python benchmarks/split_mnist.py auto [--seeds 3] [--only ewc]   # strength="auto" against seven strengths, the task known
    python benchmarks/split_mnist.py table                # from docs/results/split_mnist.json, writes docs/results/split-mnist.md

Protocol of van de Ven & Tolias (2019, arXiv 1904.07734): five tasks of two digits, an MLP of two hidden layers of 400, Adam at 1e-3,
batches of 128. They train 2,000 steps a task on 60,000 images, which is 21 passes; here are 8,000 images for training and 2,000
for testing, so 250 steps a task are 20 passes.

Every finished run is kept in docs/results/split_mnist.json at once: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import raw

RAW = Path(__file__).parents[1] / "docs" / "results" / "split_mnist.json"
TABLE = RAW.with_name("split-mnist.md")
TUNED = RAW.with_name("split_mnist_tuning.json")
STEPS, BATCH, LR = 250, 128, 1e-3
SETTINGS = ("task", "domain", "class")
TUNING_SEED = 100

PUBLISHED = {
    "none": (87.2, 59.2, 19.9),
    "ewc": (98.6, 64.0, 20.0),
    "online-ewc": (99.1, 64.3, 20.0),
    "si": (99.1, 65.4, 20.0),
    "lwf": (99.6, 71.5, 23.9),
    "generative-replay": (99.5, 95.7, 90.8),
    "joint": (99.7, 98.4, 97.9),
}

OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "joint": {},
    "l2sp": {"anchor": "task"},
    "ewc": {},
    "online-ewc": {"gamma": 1.0},
    "si": {},
    "mas": {},
    "lwf": {"strength": "balanced"},
    "kl": {},
    "replay": {"capacity": 2000, "strength": "balanced"},
    "generative-replay": {"strength": "balanced"},
    "gem": {"per_task": 128, "batch_size": 128},
    "agem": {"capacity": 2000, "batch_size": 128},
    "der": {"capacity": 2000},
    "derpp": {"capacity": 2000},
    "gradient-protection": {},
    "cpl": {"refresh": 10, "retain_batches": 1},
    "osf": {},
    "null-space": {},
    "packnet": {"prune": 0.75},
    "progressive": {},
    "supermask": {},
    "lora": {},
}
"""Every method with its options; the strengths of `GRID` are chosen by ``tune``, per setting."""
GRID = {
    "l2sp": [1e-4, 1e-3, 1e-2, 1e-1],
    "ewc": [10.0, 1e3, 1e5, 1e7],
    "online-ewc": [10.0, 1e3, 1e5, 1e7],
    "si": [0.1, 1.0, 10.0, 100.0],
    "mas": [0.01, 0.1, 1.0, 10.0],
    "kl": [0.1, 1.0, 10.0],
}
LONGER = RAW.with_name("split_mnist_2000_steps.json")
WHY: list[dict[str, Any]] = [
    *({"setting": "task", "method": "none", "options": {}, "seed": seed, "steps": 2000} for seed in range(1)),
    {"setting": "class", "method": "generative-replay", "options": OPTIONS["generative-replay"], "seed": 0, "steps": 2000},
]
AUTO_RAW = RAW.with_name("strength-auto.json")
AUTO_GRID = {
    "ewc": [1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8],
    "si": [0.1, 1.0, 10.0, 1e2, 1e3, 1e4, 1e5],
    "mas": [1e-3, 1e-2, 0.1, 1.0, 10.0, 1e2, 1e3],
    "l2sp": [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 1e2],
}
"""What ``auto`` is compared with: seven strengths in steps of ten, about the best ones that ``tune`` found."""
FIRST = {*PUBLISHED, "replay", "derpp", "mas", "cpl"}
"""Run before the others: what there are published figures for, and what they are judged by."""
NAMES = {"generative-replay": "generative-replay (DGR)"}


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "tune", "why", "table", "auto"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="setting/method, joined by commas")
    parser.add_argument("--data", default=None, help="folder with the data; else as the stream finds it")
    arguments = parser.parse_args()
    if arguments.what == "table":
        text = table(raw.read(RAW))
        TABLE.write_text(text, encoding="utf-8")
        print(text)
        return
    if arguments.what == "auto":
        methods = arguments.only.split(",") if arguments.only else list(AUTO_GRID)
        work(auto_cells(methods, arguments.seeds), AUTO_RAW, arguments.jobs, arguments.data)
        print(auto_table(raw.read(AUTO_RAW)))
        return
    if arguments.what == "why":
        work(WHY, LONGER, arguments.jobs, arguments.data)
        return
    cells = _cells(tuning=arguments.what == "tune", seeds=arguments.seeds)
    wanted = {name for name in arguments.only.split(",") if name}
    cells = [cell for cell in cells if not wanted or f"{cell['setting']}/{cell['method']}" in wanted]
    work(cells, TUNED if arguments.what == "tune" else RAW, arguments.jobs, arguments.data)


def _cells(*, tuning: bool, seeds: int) -> list[dict[str, Any]]:
    """What is to be run, seed by seed, so that a stopped benchmark has whole seeds; `FIRST` before the rest."""
    from forgetless.methods import METHODS

    tuned = _tuned() if not tuning else {}
    cells = []
    for seed in [TUNING_SEED] if tuning else range(seeds):
        for setting in SETTINGS:
            for method, options in OPTIONS.items():
                if METHODS[method].needs_task_id and setting != "task":
                    continue
                if tuning and method not in GRID:
                    continue
                for strength in GRID[method] if tuning else [tuned.get(f"{setting}/{method}")]:
                    own = dict(options) if strength is None else options | {"strength": strength}
                    cells.append({"setting": setting, "method": method, "options": own, "seed": seed})
    return sorted(cells, key=lambda cell: cell["method"] not in FIRST)


def work(cells: list[dict[str, Any]], file: Path, jobs: int, data: str | None) -> None:
    """Run what is not yet in ``file``; each result is written at once."""
    done = raw.read(file)
    key = ("setting", "method", "options", "seed")  # each file has one number of steps
    left = [cell for cell in cells if not any(all(row[k] == cell[k] for k in key) for row in done)]
    print(f"{len(cells) - len(left)} of {len(cells)} are there; {len(left)} to go", flush=True)
    began = time.perf_counter()
    with ProcessPoolExecutor(jobs) as pool:
        waiting = {pool.submit(one, cell, data): cell for cell in left}
        for count, future in enumerate(as_completed(waiting), 1):
            row = future.result()
            done.append(row)
            raw.keep(file, sorted(done, key=_order))
            eta = (time.perf_counter() - began) / count * (len(left) - count) / 60
            print(
                f"{count}/{len(left)} {row['setting']}/{row['method']} {row['options']} seed {row['seed']}: "
                f"{100 * row['acc']:.1f}% in {row['seconds']:.0f} s; {eta:.0f} min left",
                flush=True,
            )


def one(cell: dict[str, Any], data: str | None) -> dict[str, Any]:
    """One run through the five tasks."""
    import torch

    from forgetless.evaluation.matrix import Matrix
    from forgetless.methods import METHODS
    from forgetless.streams.builders import make_stream
    from forgetless.streams.classify import run_classes

    torch.set_num_threads(1)
    stream = make_stream("split-mnist", {"data": data} if data else {"download": True})
    method = METHODS[cell["method"]](**cell["options"])
    searches: list[dict[str, Any]] = []
    end_task, began = method.end_task, time.process_time()

    def end(ctx: Any) -> None:
        if getattr(method, "searched", None) is not None:
            searches.append(method.searched)  # the next task's takes its place
        end_task(ctx)

    method.end_task = end
    record = run_classes(stream, cell["setting"], method, seed=cell["seed"], steps=cell.get("steps", STEPS), batch_size=BATCH, lr=LR)
    found = Matrix(record.accuracy, record.baseline)
    return cell | {
        "acc": round(found.acc, 5),
        "forgetting": round(found.forgetting or 0.0, 5),
        "accuracy": [[None if value is None else round(value, 5) for value in row] for row in record.accuracy],
        "seconds": round(sum(record.seconds), 1),
        "state_bytes": max(record.state_bytes),
        **({"cpu_seconds": round(time.process_time() - began, 1), "searches": searches} if "searched" in cell else {}),
    }


def auto_cells(methods: list[str], seeds: int) -> list[dict[str, Any]]:
    """In the task setting, seed by seed: the seven strengths of each method, and the one found."""
    return [
        {"setting": "task", "method": method, "options": OPTIONS[method] | {"strength": strength}, "seed": seed, "searched": True}
        for seed in range(seeds)
        for method in methods
        for strength in [*AUTO_GRID[method], "auto"]
    ]


def auto_table(rows: list[dict[str, Any]]) -> str:
    """The grid, what was found, and what finding it cost: mean ± standard error over seeds."""
    lines = []
    for method, grid in AUTO_GRID.items():
        there = {(row["options"]["strength"], row["seed"]): row for row in rows if row["method"] == method}
        seeds = [seed for strength, seed in there if strength == "auto" and all((one, seed) in there for one in grid)]  # whole ones
        if not seeds:
            continue
        own = {strength: [there[strength, seed] for seed in seeds] for strength in [*grid, "auto"]}
        lines += [f"### {method}, n = {len(own['auto'])} seeds", "", "| strength | accuracy, % | forgetting, points |", "|---|---|---|"]
        for strength, cells in own.items():
            name = strength if isinstance(strength, str) else f"{strength:g}"
            lines.append(f"| {name} | {_told([100 * row['acc'] for row in cells])} | {_told([100 * row['forgetting'] for row in cells])} |")
        mean = {strength: sum(row["acc"] for row in cells) / len(cells) for strength, cells in own.items()}
        best = max(grid, key=lambda strength: mean[strength])
        tops = {
            row["seed"]: max(one["acc"] for strength in grid for one in own[strength] if one["seed"] == row["seed"]) for row in own["auto"]
        }
        behind = [100 * (tops[row["seed"]] - row["acc"]) for row in own["auto"]]
        searches = [found for row in own["auto"] for found in row["searches"]]
        passed = [found["steps"] * BATCH * len(found["trials"]) + 2 * found["examples"] * (len(found["trials"]) + 1) for found in searches]
        chosen = [found["chosen"] for found in searches]
        spent = {strength: sum(row["cpu_seconds"] for row in cells) / len(cells) for strength, cells in own.items()}
        ratio = spent["auto"] / (sum(spent[strength] for strength in grid) / len(grid))
        lines += [
            "",
            f"Behind the best of the seven ({best:g}) by {100 * (mean[best] - mean['auto']):.2f} points; behind the best of each seed",
            f"by {_told(behind)}, at most {max(behind):.2f}. {len(searches)} searches chose {min(chosen):.2g} to {max(chosen):.2g}.",
            f"A search passed at most {max(passed) / (STEPS * BATCH):.2f} times the examples of the training of its task; the whole",
            f"stream took {ratio:.2f} times the processor time that it takes with a strength given.",
            "",
        ]
    return "\n".join(lines)


def _told(values: list[float]) -> str:
    from forgetless.evaluation.matrix import mean_and_error

    mean, error = mean_and_error(values)
    return f"{mean:.2f}" + ("" if error is None else f" ± {error:.2f}")


def _tuned() -> dict[str, float]:
    """The strength with the best accuracy, for each setting and method of the grid."""
    best: dict[str, dict[str, Any]] = {}
    for row in raw.read(TUNED):
        name = f"{row['setting']}/{row['method']}"
        if name not in best or row["acc"] > best[name]["acc"]:
            best[name] = row
    return {name: row["options"]["strength"] for name, row in best.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """The page: our figures beside the published ones."""
    from forgetless.evaluation.matrix import mean_and_error

    lines = [
        "# Split MNIST in three settings",
        "",
        f"Accuracy in % over all ten digits after the last of five tasks: mean ± standard error over n seeds. {STEPS} steps a",
        f"task, batches of {BATCH}, Adam at {LR:g}, an MLP of 2 × 400; 8,000 images to train on, 2,000 to test on. In brackets what",
        "van de Ven & Tolias (2019, arXiv 1904.07734, Table 4) publish for 60,000 images. Bold: more than 4 points off.",
        "",
        "| method | task | domain | class | seconds (class, or task) | n |",
        "|---|---|---|---|---|---|",
    ]
    for method in OPTIONS:
        cells, seconds, counts = [], None, set()
        for place, setting in enumerate(SETTINGS):
            own = [row for row in rows if row["method"] == method and row["setting"] == setting]
            mean, error = mean_and_error([row["acc"] for row in own])
            if mean is None:
                cells.append("–")
                continue
            counts.add(len(own))
            seconds = mean_and_error([row["seconds"] for row in own])[0]
            text = f"{100 * mean:.1f}" + ("" if error is None else f" ± {100 * error:.1f}")
            published = PUBLISHED.get(method)
            if published is not None:
                off = abs(100 * mean - published[place]) > 4
                text = f"{'**' if off else ''}{text}{'**' if off else ''} ({published[place]})"
            cells.append(text)
        if seconds is not None:
            told = ", ".join(str(count) for count in sorted(counts))
            lines.append(f"| {NAMES.get(method, method)} | {' | '.join(cells)} | {seconds:.0f} | {told} |")
    chosen = [f"{name} {value:g}" for name, value in sorted(_tuned().items())]
    lines += ["", f"Strengths, chosen on seed {TUNING_SEED}, which is not in the table: {'; '.join(chosen)}."]
    for row in raw.read(LONGER):
        lines += ["", f"With {row['steps']} steps a task: {row['setting']} {row['method']}, seed {row['seed']}: {100 * row['acc']:.1f}."]
    lines += ["", NOTES.strip(), ""]
    return "\n".join(lines)


NOTES = """
## What is off, and why

- **The order of the methods** is the published one in the domain setting. With the task known all but plain training lie within a point
  of each other, and `generative-replay` stands lower in that row than published. In the class setting it is the published one but for
  `lwf`, which is at chance.
- **`none` with the task known** keeps more here than published. The number of steps is not why (above, with 2,000). What differs besides:
  1,600 images a task instead of 12,000, which a network of this size fits soon, after which there is no gradient left to overwrite
  anything; and an optimizer that begins anew with every task. The first was not tested, for there are only 10,000 images.
- **`generative-replay`** depends on its generator, and the autoencoder learns from the same few steps and images as the network: 250
  steps on 1,600 images a task where the publication has 2,000 steps on 12,000.
- **`lwf` in the class setting** stays at chance, as penalties do; published is hardly more.
- `joint` and the replay methods are a little lower than with 60,000 images, as they should be.

What else the table says: with the classes to be told apart, only what keeps old examples or their gradients, or makes examples up, works.
`cpl`, with 2,000 stored examples as its reference, is above chance there by little: it keeps weights from moving against old examples, but
nothing in it makes new classes compete with old ones. `kl` holds to the network before the first task, which here knows nothing; it is
meant for pretrained models.
Seconds are of training on a machine that did other things at the same time, and say no more than the order of magnitude.

Made by `python benchmarks/split_mnist.py tune`, `run`, `why` and `table`, from the raw results in `split_mnist.json`,
`split_mnist_tuning.json` and `split_mnist_2000_steps.json`.
"""


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    return SETTINGS.index(row["setting"]), list(OPTIONS).index(row["method"]), row["seed"], json.dumps(row["options"])


if __name__ == "__main__":
    main()
