"""What works with the core alone (no extra installed): methods around any PyTorch loop. `make wheel` runs it in an empty environment.

python examples/core_only.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import forgetless as fl

EXTRAS = ("transformers", "datasets", "peft", "trl", "sklearn", "matplotlib", "pyarrow", "PIL")


def loss_fn(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy of a batch."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def main() -> None:
    """Train a small classifier on one task after another by a chain of three methods; save the state and read it back."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    tasks = []
    for _ in range(2):
        centres = torch.randn(4, 8) * 2
        labels = [torch.randint(0, 4, (16,)) for _ in range(20)]
        tasks.append([(centres[label] + torch.randn(16, 8), label) for label in labels])
    method = fl.Replay() >> fl.EWC(strength=1.0) >> fl.CPL(refresh=4)
    for number, batches in enumerate(tasks):
        task = fl.Task(f"task {number}", train=batches, retain=tasks[0][:4])
        model = method.prepare(model, task)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        with fl.attach(method, model, optimizer, task, loss_fn) as session:
            for batch in batches * 4:
                outputs = model(batch[0])
                session.total(nn.functional.cross_entropy(outputs, batch[1]), batch, outputs).backward()
                optimizer.step()
                optimizer.zero_grad()
    right = [sum(int((model(x).argmax(1) == y).sum()) for x, y in batches) / 320 for batches in tasks]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.safetensors"
        fl.save_state(file, session.state_dict())
        fl.load_state(file)
    loaded = [name for name in EXTRAS if name in sys.modules]
    if loaded or session.constraint_violation != 0.0 or min(right) < 0.5:
        sys.exit(f"loaded {loaded}, violation {session.constraint_violation}, right {right}")
    versions = f"Python {sys.version.split()[0]}, torch {torch.__version__}"
    print(f"{versions}: {right[0]:.0%} and {right[1]:.0%} right, and none moved that was to stand still")


if __name__ == "__main__":
    main()
