"""A protected Trainer in each of several processes. Usage: trainer_worker.py MODEL OUT KIND; KIND is ddp or fsdp."""

import json
import sys
from pathlib import Path

import torch
from trained import CASES, RESUMED, STOP, train

if __name__ == "__main__":
    torch.set_num_threads(1)
    model, out, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    found = {name: train(make(), model, out, kind, name) for name, make in CASES.items()}
    for name in RESUMED:
        saved = out / f"{'one' if kind == 'ddp' else kind}-{name}" / f"checkpoint-{STOP}"
        found[f"{name}, resumed"] = train(CASES[name](), model, out, kind, name, resume=saved)
    rank = torch.distributed.get_rank()
    torch.save({name: one.pop("weights") for name, one in found.items()}, out / f"{kind}-{rank}.pt")
    (out / f"{kind}-{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()
