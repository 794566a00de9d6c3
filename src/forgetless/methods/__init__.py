"""Every method, by the name that the command line, the docs and the tests use.

Other packages add theirs through the entry point group ``forgetless.methods``.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from forgetless.core.method import Method
from forgetless.methods.agem import AGEM
from forgetless.methods.auto import Auto
from forgetless.methods.cpl import CPL
from forgetless.methods.der import DER
from forgetless.methods.derpp import DERpp
from forgetless.methods.ewc import EWC
from forgetless.methods.gem import GEM
from forgetless.methods.generative_replay import GenerativeReplay
from forgetless.methods.gradient_protection import GradientProtection
from forgetless.methods.joint import Joint
from forgetless.methods.kl import KL
from forgetless.methods.l2sp import L2SP
from forgetless.methods.lora import LoRA
from forgetless.methods.lwf import LwF
from forgetless.methods.mas import MAS
from forgetless.methods.null_space import NullSpace
from forgetless.methods.online_ewc import OnlineEWC
from forgetless.methods.osf import OSF
from forgetless.methods.packnet import PackNet
from forgetless.methods.plain import Plain
from forgetless.methods.progressive import Progressive
from forgetless.methods.replay import Replay
from forgetless.methods.si import SI
from forgetless.methods.supermask import Supermask
from forgetless.methods.wise import Wise

METHODS: dict[str, type[Method]] = {
    "auto": Auto,
    "none": Plain,
    "cpl": CPL,
    "l2sp": L2SP,
    "wise": Wise,
    "ewc": EWC,
    "online-ewc": OnlineEWC,
    "si": SI,
    "mas": MAS,
    "lwf": LwF,
    "kl": KL,
    "lora": LoRA,
    "osf": OSF,
    "progressive": Progressive,
    "packnet": PackNet,
    "supermask": Supermask,
    "joint": Joint,
    "replay": Replay,
    "der": DER,
    "derpp": DERpp,
    "generative-replay": GenerativeReplay,
    "gem": GEM,
    "agem": AGEM,
    "null-space": NullSpace,
    "gradient-protection": GradientProtection,
}

for _point in entry_points(group="forgetless.methods"):
    METHODS.setdefault(_point.name, _point.load())
