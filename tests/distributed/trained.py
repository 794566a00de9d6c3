"""A protected Trainer whose processes together see the batches that one process sees."""

from __future__ import annotations

import os
from pathlib import Path

import forgetless as fl
from forgetless.core.sharding import full, is_sharded
from trainers import make_trainer, rows

CASES = {
    "cpl": lambda: fl.CPL(refresh=2),
    "ewc": lambda: fl.EWC(strength=1000.0, examples=6),
    "agem": lambda: fl.AGEM(batch_size=6),
    "gem": lambda: fl.GEM(retain_batches=2),
    "si": lambda: fl.SI() >> fl.L2SP(strength=1.0),
    "replay": lambda: fl.Replay(ratio=0.5),
    "packnet": lambda: fl.PackNet(),
    "lwf": lambda: fl.LwF() >> fl.KL(),
}
RESUMED = ("cpl", "agem", "si")
STOP = 3


def as_if_on_accelerators() -> None:
    """Let Accelerate shard on processors: it looks at its FSDP settings only where its processes have accelerators, else it takes DDP."""
    from accelerate import DistributedType
    from accelerate.state import AcceleratorState, PartialState

    own = AcceleratorState.__init__

    def init(self, *args, **options):
        if PartialState._shared_state.get("distributed_type") == DistributedType.MULTI_CPU:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        own(self, *args, **options)

    AcceleratorState.__init__ = init


def train(method, model: Path, out: Path, kind: str, name: str, *, resume: Path | None = None, callbacks: tuple = ()) -> dict:
    """Six steps of eight rows each, a checkpoint after the third; gives weights and what was logged."""
    size = 4 // int(os.environ.get("WORLD_SIZE", "1"))
    options = {"per_device_train_batch_size": size, "save_strategy": "steps", "save_steps": STOP}
    if "WORLD_SIZE" in os.environ:
        options["ddp_backend"] = "gloo"
    if kind == "fsdp":
        as_if_on_accelerators()
        options |= {
            "fsdp": True,
            "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"], "state_dict_type": "FULL_STATE_DICT"},
        }
    trainer = make_trainer(model, out / f"{kind}-{name}{'-again' if resume else ''}", data=rows(16, 0, longest=5), **options)
    fl.protect(trainer, method, rows(10, 1, longest=5), retain_batch_size=4)
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    lines = [{k: v for k, v in line.items() if k.startswith("forgetless")} for line in trainer.state.log_history]
    weights = {key: full(parameter.detach()).clone() for key, parameter in trainer.model.named_parameters()}
    sharded = all(is_sharded(parameter) for parameter in trainer.model.parameters())
    return {
        "weights": weights,
        "sharded": sharded,
        "log": [line for line in lines if line],
        "violation": trainer.forgetless.constraint_violation,
    }
