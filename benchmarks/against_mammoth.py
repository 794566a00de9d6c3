"""Time of a training step of six methods, here and in Mammoth, the official code of DER and DER++, as ratios from one run.

    python benchmarks/against_mammoth.py measure CHECKOUT --out docs/results/against_mammoth.json [--repeats 5]
    python benchmarks/against_mammoth.py table docs/results/against_mammoth.json

Network, data, clock and turns are those of `against_avalanche.py`. CHECKOUT is a clone of https://github.com/aimagelab/mammoth whose
`models` can be imported (it asks for torchvision, kornia and more, of which these methods use nothing); it is no requirement of
forgetless. What ends a task is left out there as here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import raw
from against_avalanche import BATCH, EPOCHS, TASKS, Clock, Methods, in_turn, network, pictures, table

METHODS: Methods = {
    "none": ({}, "sgd.Sgd", {}),
    "online-ewc": ({"strength": 1.0}, "ewc_on.EwcOn", {"e_lambda": 1.0, "gamma": 1.0}),
    "si": ({"strength": 0.1}, "si.SI", {"c": 0.1, "xi": 0.1}),
    "agem": ({"capacity": 2000, "batch_size": BATCH}, "agem.AGem", {"buffer_size": 2000}),
    "der": ({"capacity": 500}, "der.Der", {"buffer_size": 500, "alpha": 0.5}),
    "derpp": ({"capacity": 500}, "derpp.Derpp", {"buffer_size": 500, "alpha": 0.5, "beta": 0.5}),
    "replay": ({"capacity": 500}, "er.Er", {"buffer_size": 500}),
}
COMMON = {"lr": 0.01, "optimizer": "sgd", "optim_wd": 0.0, "optim_mom": 0.0, "optim_nesterov": False, "label_perc": 1}


def theirs(name: str, options: dict[str, Any]) -> list[float]:
    """Seconds of each step of Mammoth's model of that module and class."""
    import importlib

    from backbone import MammothBackbone  # type: ignore[import-not-found]  # of the checkout

    class Backbone(MammothBackbone):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    module, _, kind = name.rpartition(".")
    dataset = SimpleNamespace(N_CLASSES=2 * TASKS, N_TASKS=TASKS, SETTING="class-il", N_CLASSES_PER_TASK=2)
    args = SimpleNamespace(**COMMON, minibatch_size=BATCH, batch_size=BATCH, **options)
    model = getattr(importlib.import_module(f"models.{module}"), kind)(Backbone(), nn.functional.cross_entropy, args, None, dataset)
    model.device = torch.device("cpu")
    clock, found = Clock(model.opt), []
    for index, (x, y) in enumerate(pictures()):
        loader = DataLoader(TensorDataset(x, y, x), batch_size=BATCH, shuffle=True)  # third: before augmentation, of which there is none
        dataset.train_loader = loader
        model.begin_task(dataset)
        for _ in range(EPOCHS):
            for batch in loader:
                model.observe(*batch)
        steps = clock.steps()
        found += steps if index > 1 else []
        model.end_task(dataset)
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("measure")
    one.add_argument("checkout", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--repeats", type=int, default=5)
    parts.add_parser("table").add_argument("file", type=Path)
    given = parser.parse_args()
    if given.part == "table":
        table(json.loads(given.file.read_text("utf-8")), "mammoth")
        return 0
    if not (given.checkout / "models" / "derpp.py").exists():
        print(f"{given.checkout} is no checkout of Mammoth: it has no models/derpp.py", file=sys.stderr)
        return 2
    sys.path.insert(0, str(given.checkout.resolve()))
    commit = subprocess.run(["git", "-C", str(given.checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    here = Path.cwd()
    found = {"mammoth": commit.strip()} | in_turn(given.repeats, METHODS, "mammoth", theirs)
    os.chdir(here)  # the checkout changes it as it is imported
    given.out.write_text(json.dumps(raw.named(given.out, found, [0]), indent=1) + "\n", encoding="utf-8")
    table(found, "mammoth")
    return 0


if __name__ == "__main__":
    sys.exit(main())
