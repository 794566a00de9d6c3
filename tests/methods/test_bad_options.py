"""Nonsense for every option of every method, as on the command line: told by the option's name, never taken."""

from __future__ import annotations

import inspect

import pytest

from forgetless.errors import InputError
from forgetless.methods import METHODS
from forgetless.train.settings import build_method, parse_method_args

TABLE = """
cpl.level=weight cpl.level=1 cpl.mask=static cpl.refresh=0 cpl.refresh=-1 cpl.refresh=1.5 cpl.refresh=always cpl.refresh=true
cpl.confidence=-0.1 cpl.confidence=1.1 cpl.confidence=nan cpl.confidence=high cpl.retain_batches=0 cpl.retain_batches=1.5
cpl.decay=-0.1 cpl.decay=1 cpl.decay=nan cpl.compact_state=perhaps cpl.control=-1 cpl.control=0.5
l2sp.strength=-1 l2sp.strength=nan l2sp.strength=inf
l2sp.strength=strong l2sp.strength=true l2sp.anchor=end wise.alpha=-0.1 wise.alpha=1.1 wise.alpha=nan wise.alpha=half
wise.budget=-0.01 wise.budget=nan wise.budget=2 wise.enough=0 wise.enough=1.1
ewc.strength=-1 ewc.strength=nan ewc.strength=inf ewc.strength=strong
ewc.labels=true-ones ewc.labels=0 ewc.examples=0 ewc.examples=-5 ewc.examples=2.5 ewc.examples=many ewc.seed=-1 ewc.seed=0.5
online-ewc.strength=-1 online-ewc.gamma=-0.1 online-ewc.gamma=1.1 online-ewc.gamma=nan online-ewc.labels=x online-ewc.examples=0
online-ewc.seed=x si.strength=-1 si.strength=nan si.xi=0 si.xi=-1 si.xi=nan si.xi=small mas.strength=-1 mas.strength=inf
mas.examples=0 mas.examples=1.5 mas.seed=-1 lwf.strength=-1 lwf.strength=nan lwf.strength=even lwf.temperature=0
lwf.temperature=-2 lwf.temperature=nan lwf.temperature=hot kl.strength=-1 kl.strength=inf kl.direction=backward kl.first_tokens=-1
kl.first_tokens=1.5 kl.first_weight=-1 kl.first_weight=nan lora.rank=0 lora.rank=-4 lora.rank=1.5 lora.alpha=0 lora.alpha=nan
lora.dropout=-0.1 lora.dropout=1 lora.dropout=nan lora.adapter=each lora.seed=-1 osf.preserved=-0.1 osf.preserved=1.5
osf.preserved=nan osf.preserved=most progressive.adapter=magic progressive.seed=-1 packnet.prune=0 packnet.prune=1
packnet.prune=-0.5 packnet.prune=nan packnet.retrain=-0.1 packnet.retrain=1 packnet.retrain=nan supermask.kind=magic
supermask.share=0 supermask.share=1.5 supermask.share=nan supermask.threshold=nan supermask.threshold=x supermask.start=middle
supermask.seed=-1 joint.seed=-1 joint.seed=x replay.capacity=0 replay.capacity=-1 replay.capacity=1.5 replay.sampling=random
replay.ratio=0 replay.ratio=-1 replay.ratio=nan replay.ratio=inf replay.ratio=much replay.strength=-1 replay.strength=nan
replay.strength=even replay.seed=-1 der.alpha=-1 der.alpha=nan der.capacity=0 der.capacity=1.5 der.seed=-1 derpp.alpha=-1
derpp.beta=-1 derpp.beta=nan derpp.capacity=0 derpp.seed=x generative-replay.strength=-1 generative-replay.strength=x
generative-replay.ratio=0 generative-replay.ratio=nan generative-replay.targets=medium generative-replay.temperature=0
generative-replay.generator=gan generative-replay.count=0 generative-replay.count=1.5 generative-replay.length=0
generative-replay.sampling_temperature=0 generative-replay.sampling_temperature=nan generative-replay.top_k=0
generative-replay.prompts=some generative-replay.latent=0 generative-replay.generator_steps=0 generative-replay.generator_lr=0
generative-replay.generator_lr=nan generative-replay.seed=-1 gem.per_task=0 gem.per_task=1.5 gem.margin=-1 gem.margin=nan
gem.batch_size=0 gem.retain_batches=0 gem.seed=-1 agem.capacity=0 agem.capacity=x agem.batch_size=0 agem.batch_size=-1
agem.seed=-1 gradient-protection.statistic=mean gradient-protection.history=0 gradient-protection.history=1.5
gradient-protection.threshold=-0.1 gradient-protection.threshold=1.5 gradient-protection.threshold=nan
null-space.strength=-1 null-space.strength=nan null-space.strength=much null-space.texts=-1 null-space.texts=1.5
null-space.length=0 null-space.prompted=-1 null-space.prompted=x null-space.examples=0 null-space.examples=x null-space.seed=-1
auto.ratio=0 auto.ratio=nan auto.strength=-1 auto.strength=x auto.distillation=-1 auto.texts=-1 auto.length=0 auto.prompted=-1 auto.seed=-1
"""
BAD = TABLE.split()


@pytest.mark.parametrize("given", BAD)
def test_it_is_told_by_name(given):
    method, _, rest = given.partition(".")
    option = rest.partition("=")[0]
    with pytest.raises(InputError) as told:
        build_method([method], parse_method_args([given], [method]), METHODS)
    text = str(told.value)
    assert option in text and "\n" not in text and told.value.mend


def test_every_option_but_those_of_free_form_is_tried():
    free = {(name, "target") for name in ("lora", "osf", "null-space", "auto")}
    free |= {("generative-replay", "start"), ("generative-replay", "hidden")}
    tried = {tuple(given.partition("=")[0].split(".")) for given in BAD} | free
    options = {(name, option) for name, method in METHODS.items() for option in inspect.signature(method).parameters}
    assert options - tried == set() and len(BAD) == len(set(BAD))
