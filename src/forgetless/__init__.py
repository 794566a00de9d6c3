"""forgetless: fine-tune without catastrophic forgetting, and prove it.

    import forgetless as fl

    task = fl.Task("new", train=new_batches, retain=old_batches)
    with fl.attach(fl.CPL(refresh="epoch"), model, optimizer, task, loss_fn) as session:
        ...

Names are loaded when first used, so that importing the package is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forgetless.core.context import Context as Context
    from forgetless.core.freezing import thaw as thaw
    from forgetless.core.method import Chain as Chain
    from forgetless.core.method import Method as Method
    from forgetless.core.session import Session as Session
    from forgetless.core.session import attach as attach
    from forgetless.core.state import load_state as load_state
    from forgetless.core.state import save_state as save_state
    from forgetless.core.task import Task as Task
    from forgetless.data.model import load_model as load_model
    from forgetless.data.reading import read_questions as read_questions
    from forgetless.errors import ForgetlessError as ForgetlessError
    from forgetless.errors import InputError as InputError
    from forgetless.errors import ProtectionError as ProtectionError
    from forgetless.evaluation.paired import compare as compare
    from forgetless.evaluation.score import score as score
    from forgetless.guard.budget import Budget as Budget
    from forgetless.integrations.huggingface import protect as protect
    from forgetless.integrations.retention import RetentionCallback as RetentionCallback
    from forgetless.methods import METHODS as METHODS
    from forgetless.methods.agem import AGEM as AGEM
    from forgetless.methods.auto import Auto as Auto
    from forgetless.methods.cpl import CPL as CPL
    from forgetless.methods.der import DER as DER
    from forgetless.methods.derpp import DERpp as DERpp
    from forgetless.methods.ewc import EWC as EWC
    from forgetless.methods.gem import GEM as GEM
    from forgetless.methods.generative_replay import GenerativeReplay as GenerativeReplay
    from forgetless.methods.gradient_protection import GradientProtection as GradientProtection
    from forgetless.methods.joint import Joint as Joint
    from forgetless.methods.kl import KL as KL
    from forgetless.methods.l2sp import L2SP as L2SP
    from forgetless.methods.lora import LoRA as LoRA
    from forgetless.methods.lwf import LwF as LwF
    from forgetless.methods.mas import MAS as MAS
    from forgetless.methods.null_space import NullSpace as NullSpace
    from forgetless.methods.online_ewc import OnlineEWC as OnlineEWC
    from forgetless.methods.osf import OSF as OSF
    from forgetless.methods.packnet import PackNet as PackNet
    from forgetless.methods.plain import Plain as Plain
    from forgetless.methods.progressive import Progressive as Progressive
    from forgetless.methods.replay import Replay as Replay
    from forgetless.methods.si import SI as SI
    from forgetless.methods.supermask import Supermask as Supermask
    from forgetless.methods.wise import Wise as Wise
    from forgetless.report.page import write_report as write_report

_WHERE = {
    "AGEM": "methods.agem",
    "Auto": "methods.auto",
    "Budget": "guard.budget",
    "CPL": "methods.cpl",
    "Chain": "core.method",
    "Context": "core.context",
    "DER": "methods.der",
    "DERpp": "methods.derpp",
    "EWC": "methods.ewc",
    "ForgetlessError": "errors",
    "GEM": "methods.gem",
    "GenerativeReplay": "methods.generative_replay",
    "GradientProtection": "methods.gradient_protection",
    "InputError": "errors",
    "Joint": "methods.joint",
    "KL": "methods.kl",
    "L2SP": "methods.l2sp",
    "LoRA": "methods.lora",
    "LwF": "methods.lwf",
    "MAS": "methods.mas",
    "METHODS": "methods",
    "Method": "core.method",
    "NullSpace": "methods.null_space",
    "OSF": "methods.osf",
    "OnlineEWC": "methods.online_ewc",
    "PackNet": "methods.packnet",
    "Plain": "methods.plain",
    "Progressive": "methods.progressive",
    "ProtectionError": "errors",
    "Replay": "methods.replay",
    "RetentionCallback": "integrations.retention",
    "SI": "methods.si",
    "Session": "core.session",
    "Supermask": "methods.supermask",
    "Task": "core.task",
    "Wise": "methods.wise",
    "attach": "core.session",
    "compare": "evaluation.paired",
    "load_model": "data.model",
    "load_state": "core.state",
    "protect": "integrations.huggingface",
    "read_questions": "data.reading",
    "save_state": "core.state",
    "score": "evaluation.score",
    "thaw": "core.freezing",
    "write_report": "report.page",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'forgetless' has no attribute {name!r}")
    value = getattr(import_module(f"forgetless.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
