"""One task under a method, and what of a model stands still."""

from __future__ import annotations

import torch

from forgetless.core.session import attach
from language import language_model
from nets import loss_fn


def run(method, model, task, loss=loss_fn, make=torch.optim.SGD, steps=None, **options):
    optimizer = make(model.parameters(), **({"lr": 0.1} | options))
    with attach(method, model, optimizer, task, loss) as session:
        for batch in task.train[:steps]:
            session.total(loss(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    return session


def frozen(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def adapted(**options):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    return get_peft_model(language_model(), LoraConfig(**({"r": 2, "target_modules": ["down_proj"]} | options)))
