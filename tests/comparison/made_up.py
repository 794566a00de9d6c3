"""Rows of a comparison that never ran, for tests and for ``example.json``."""

from __future__ import annotations

import random
from typing import Any

from forgetless.comparison.result import kind_of, validation_marks

SIZES = {"inject": 40, "inject-heldout": 16, "retain": 30, "retain-heldout": 30, "opposites": 20, "plurals": 12}
TOLL = {"none": 0.5, "replay": 0.2, "cpl": 0.1, "<script>alert(1)</script>": 0.3}
LEVELS = [0.5, 0.8, 0.9]


def items(seed: int = 0, share: float = 0.4) -> dict[str, Any]:
    draw = random.Random(seed)
    found = {}
    for name, size in SIZES.items():
        ids = [f"{name}-{index}" for index in range(size)]
        learn = name.startswith("inject")
        before = "".join(str(int(draw.random() < (0.1 if learn else 0.9))) for _ in ids)
        marks = "0" * size if learn else validation_marks(ids, share)
        found[name] = {"kind": kind_of(name), "ids": ids, "before": before, "validation": marks}
    return found


def row(
    data: str, label: str, lr: float, seed: int, trial: int, known: dict[str, Any], *, epochs: int = 6, status: str = "finished"
) -> dict[str, Any]:
    draw = random.Random(f"{data} {label} {lr} {seed}")
    top = min(1.0, 0.55 + 3e3 * lr + 0.1 * draw.random())
    trajectory, now = [], {name: part["before"] for name, part in known.items()}
    order = {name: draw.sample(range(len(part["ids"])), len(part["ids"])) for name, part in known.items()}
    for epoch in range(epochs + 1):
        for name, part in known.items():
            learn, verdicts = name.startswith("inject"), list(part["before"])
            share = top * epoch / epochs if learn else TOLL[label] * (0.5 + 5e3 * lr) * epoch / epochs
            for index in order[name][: round(share * len(verdicts))]:
                verdicts[index] = "1" if learn else "0"
            now[name] = "".join(verdicts)
        trajectory.append({"epoch": epoch, "step": 5 * epoch, **counts(known, now)})
    first = {"cell": f"{data}-{label}-{lr:g}-s{seed}", "data": data, "label": label, "method": label, "options": {}, "optimizer": "adamw"}
    first |= {
        "lr": lr,
        "trial": trial,
        "seed": seed,
        "status": status,
        "reason": None if status == "finished" else "the loss is nan at step 3",
    }
    if status != "finished":
        return first | {"steps": None, "epochs": None, "stopped_because": None, "trajectory": [], "right": {}}
    return first | {"steps": 5 * epochs, "epochs": epochs, "stopped_because": "epoch limit", "trajectory": trajectory, "right": dict(now)}


def counts(known: dict[str, Any], now: dict[str, str]) -> dict[str, Any]:
    splits, chosen = {}, {}
    for name, part in known.items():
        pairs = list(zip(part["before"], now[name], part["validation"], strict=True))
        splits[name] = {
            "total": len(pairs),
            "right": sum(after == "1" for _, after, _ in pairs),
            "right_before": sum(before == "1" for before, _, _ in pairs),
            "learned": sum(before == "0" and after == "1" for before, after, _ in pairs),
            "forgotten": sum(before == "1" and after == "0" for before, after, _ in pairs),
        }
        if part["kind"] in "ABC":
            marked = [(before, after) for before, after, mark in pairs if mark == "1"]
            chosen[name] = {"right_before": sum(b == "1" for b, _ in marked), "forgotten": sum(b == "1" and a == "0" for b, a in marked)}
    return {"splits": splits, "validation": chosen}


def cost(one: dict[str, Any]) -> dict[str, Any]:
    draw = random.Random(one["cell"])
    times = [point["step"] * (0.1 + 0.02 * draw.random()) for point in one["trajectory"]]
    return {
        "cell": one["cell"],
        "seconds": times[-1],
        "eval_seconds": 2.0,
        "peak_memory_bytes": 10**9 + draw.randrange(10**8),
        "seconds_at": times,
    }


def study(
    labels: tuple[str, ...] = tuple(TOLL), rates: tuple[float, ...] = (3e-5, 1e-4), seeds: tuple[int, ...] = (0, 1, 2)
) -> tuple[Any, ...]:
    """Head, rows, costs and items of a comparison: what `summarize` takes."""
    known = {"air": items(0), "icd": items(1)}
    rows = [
        row(
            data, label, lr, seed, trial, known[data], status="failed" if (data, label, lr, seed) == ("icd", "cpl", 1e-4, 2) else "finished"
        )
        for data in known
        for label in labels
        for trial, lr in enumerate(rates)
        for seed in seeds
    ]
    head = {
        "format": 1,
        "title": "Made up, never ran",
        "command": "forgetless compare --config plan.yaml --out study",
        "commit": None,
        "versions": {"forgetless": "0.1.0"},
        "model": "smollm2-135m",
        "scorer": "exact",
        "template": None,
        "budget": {"epochs": 6, "steps": None, "seconds": None, "until_learned": None},
        "levels": LEVELS,
        "seeds": list(seeds),
        "validation": 0.4,
        "baselines": [name for name in ("none", "replay") if name in labels],
        "splits": {"A": "retain", "B": "retain-heldout", "C": ["opposites", "plurals"]},
    }
    return head, rows, [cost(one) for one in rows if one["status"] == "finished"], known
