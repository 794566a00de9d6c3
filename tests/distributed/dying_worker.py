"""A protected Trainer whose last process dies after the checkpoint. Usage: dying_worker.py MODEL OUT KIND [again: goes on from there]."""

import os
import signal
import sys
from pathlib import Path

import torch
from trained import CASES, STOP, train
from transformers import TrainerCallback


class Dies(TrainerCallback):
    """Kills its process as it begins the second step after the checkpoint."""

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == STOP + 1 and torch.distributed.get_rank() == torch.distributed.get_world_size() - 1:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    model, out, kind, again = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], len(sys.argv) > 4
    saved = out / f"{kind}-dies" / f"checkpoint-{STOP}"
    found = train(CASES["cpl"](), model, out, kind, "dies", resume=saved if again else None, callbacks=() if again else (Dies(),))
    torch.save(found["weights"], out / f"{kind}-dies-{torch.distributed.get_rank()}.pt")
    torch.distributed.destroy_process_group()
