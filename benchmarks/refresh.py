"""What a cheaper reference costs in protection: CPL with the whole retain set, with a part of it, and with a running mean.

    python benchmarks/refresh.py measure --questions QUESTIONS --out docs/results/refresh.json    # goes on where it stopped
    python benchmarks/refresh.py table docs/results/refresh.json

QUESTIONS is a folder that `forgetless demo` made (its ``questions``), or a new one. SmolLM2-135M learns 48 airport questions (AdamW, lr
1e-4, batches of 8, a fixed number of steps) while 48 known facts are the retain set (A) and 48 others are held out (B). Times are of the
processor (one thread), so other programs do not count.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import raw

ITEMS = 48
SETTINGS: dict[str, tuple[int, dict[str, Any] | None]] = {
    "plain": (24, None),
    "full: all of A, every 4 steps": (24, {"refresh": 4}),
    "sparse: 8 of A in turn, every 8 steps": (8, {"refresh": 8, "retain_batches": 1}),
    "streaming: 1 of A at every step, decay 0.98": (1, {"refresh": "streaming", "retain_batches": 1, "decay": 0.98}),
}
"""By name: the size of a retain batch, and the options of CPL (None: no method)."""


def run(name: str, seed: int, questions: Path, steps: int) -> dict[str, Any]:
    """Train once and say what was learned, what was forgotten, and where the time went."""
    import torch

    from forgetless.core.context import Context
    from forgetless.core.session import attach
    from forgetless.core.task import Task
    from forgetless.data.model import EMBEDDED, load_model
    from forgetless.demo.plan import FULL, make_questions
    from forgetless.evaluation.score import score
    from forgetless.methods import CPL, METHODS
    from forgetless.train.batches import Batches, answer_loss

    class Timed(CPL):
        """CPL that knows how long its references take."""

        spent = 0.0

        def _take_reference(self, ctx: Context) -> None:
            began = time.process_time()
            super()._take_reference(ctx)
            Timed.spent += time.process_time() - began

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    size, options = SETTINGS[name]
    made = make_questions(FULL, questions, show=False)
    draw = random.Random(seed)
    parts = {
        "inject": made["inject"][:ITEMS],
        "A": draw.sample(made["retain"], ITEMS),
        "B": draw.sample(made["retain-heldout"], ITEMS),
    }
    language = load_model(EMBEDDED)
    before = {part: [verdict.right for verdict in score(language, asked, batch_size=48)] for part, asked in parts.items()}
    train, retain = Batches(parts["inject"], language, None, 8, seed), Batches(parts["A"], language, None, size)
    model = language.model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    method = METHODS["none"]() if options is None else Timed(**options)
    curve = []
    seconds = at = 0.0
    began = time.process_time()
    with attach(method, model, optimizer, Task("inject", train, retain), answer_loss) as session:
        seconds += time.process_time() - began
        for epoch in range(steps // len(train)):
            train.epoch = epoch
            session.begin_epoch(epoch)
            model.train()
            began = time.process_time()
            for batch in train:
                session.total(model(**batch).loss, batch).backward()
                optimizer.step()
                optimizer.zero_grad()
            seconds += time.process_time() - began
            if (epoch + 1) % 5 == 0:
                after = {part: [verdict.right for verdict in score(language, asked, batch_size=48)] for part, asked in parts.items()}
                lost = {part: sum(b and not a for b, a in zip(before[part], after[part], strict=True)) for part in ("A", "B")}
                curve.append({"step": session.ctx.step, "learned": sum(after["inject"]), **lost})
        at = session.constraint_violation or 0.0
    return {
        "setting": name,
        "seed": seed,
        "steps": steps,
        "seconds": seconds,
        "refreshing": Timed.spent,
        "curve": curve,
        "items": {part: len(asked) for part, asked in parts.items()},
        "known": {part: sum(before[part]) for part in parts},
        "constraint_violation": at,
    }


def table(found: list[dict[str, Any]]) -> None:
    """Print the results as Markdown."""
    print("| setting | seeds | learned | forgotten A | forgotten B | time, plain = 1 | of it the references |")
    print("|---|---|---|---|---|---|---|")
    plain = [row["seconds"] for row in found if row["setting"] == "plain"]
    for name in SETTINGS:
        rows = sorted((row for row in found if row["setting"] == name), key=lambda row: row["seed"])
        if not rows:
            continue
        last = [row["curve"][-1] for row in rows]
        cells = [", ".join(str(one[key]) for one in last) for key in ("learned", "A", "B")]
        times = ", ".join(f"{row['seconds'] / (sum(plain) / len(plain)):.2f}" for row in rows) if plain else ""
        shares = ", ".join(f"{row['refreshing'] / row['seconds']:.0%}" for row in rows)
        print(f"| {name} | {len(rows)} | {cells[0]} of {rows[0]['items']['inject']} | {cells[1]} | {cells[2]} | {times} | {shares} |")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("measure")
    one.add_argument("--questions", type=Path, required=True)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    one.add_argument("--steps", type=int, default=60)
    one.add_argument("--only", nargs="+", default=list(SETTINGS))
    parts.add_parser("table").add_argument("file", type=Path)
    given = parser.parse_args()
    if given.part == "table":
        table(raw.read(given.file))
        return 0
    found = raw.read(given.out)
    for seed in given.seeds:
        for name in SETTINGS:
            if name in given.only and not any(row["setting"] == name and row["seed"] == seed for row in found):
                found.append(run(name, seed, given.questions, given.steps))
                raw.keep(given.out, found)
                print(json.dumps(found[-1]), flush=True)
    table(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
