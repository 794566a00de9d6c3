"""Methods on PEFT's adapters: the base model is the teacher at no cost, CPL holds on their weights, merging changes no verdict."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import forgetless as fl
from forgetless.core.teacher import snapshot, teacher_logits
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.ops import packing
from trainers import apart, make_trainer, rows, weights


def adapted(tiny, **options):
    torch.manual_seed(0)
    config = LoraConfig(**({"r": 4, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | options))
    return get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), config)


def trainer_of(tiny, out, model, method, **changes):
    trainer = make_trainer(tiny, out, model=model, **({"learning_rate": 0.02, "weight_decay": 0.0} | changes))
    return fl.protect(trainer, method, rows(8, 1))


class AgainstACopy(fl.Method):
    """KL and LwF with the base model copied whole before there were adapters."""

    def __init__(self, base, kind):
        self.base, self.kind = base.eval(), kind

    def loss(self, ctx, batch, outputs):
        kept = batch["labels"][:, 1:] != -100
        with torch.no_grad():
            old = self.base(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1][kept]
        new = outputs.logits[:, :-1][kept]
        if self.kind == "kl":
            return 2.0 * (old.softmax(-1) * (old.log_softmax(-1) - new.log_softmax(-1))).sum(-1).mean()
        return 2.0 * 4.0 * -((old / 2.0).softmax(-1) * (new / 2.0).log_softmax(-1)).sum(-1).mean()


METHODS = {"kl": lambda: fl.KL(strength=2.0), "lwf": lambda: fl.LwF(strength=2.0, temperature=2.0)}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"init_lora_weights": "pissa"}], ids=["lora", "dora", "pissa"])
def test_the_base_model_is_the_teacher_and_no_weight_is_copied(name, options, tiny, tmp_path):
    method, base = METHODS[name](), AutoModelForCausalLM.from_pretrained(tiny)
    trainer = trainer_of(tiny, tmp_path, adapted(tiny, **options), method)
    trainer.train()
    twin = trainer_of(tiny, tmp_path, adapted(tiny, **options), AgainstACopy(base, name))
    twin.train()
    assert apart(weights(trainer), weights(twin)) < 1e-4
    unprotected = trainer_of(tiny, tmp_path, adapted(tiny, **options), fl.Plain())
    unprotected.train()
    assert apart(weights(trainer), weights(unprotected)) > 1e-3
    names = {key for key, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    held = {key: value.numel() for key, value in method.teacher.items() if key in names}
    if "init_lora_weights" in options:  # both factors begin as parts of the weights, so what they add must be kept
        assert sum(held.values()) == sum(dict(trainer.model.named_parameters())[key].numel() for key in names)
    else:
        assert all(not count for key, count in held.items() if "magnitude" not in key) and any("lora_B" in key for key in held)


def test_asking_the_teacher_equals_adapters_disabled_to_the_bit_while_they_train(tiny):
    model = adapted(tiny, lora_dropout=0.3)
    read, batch = fl.Task("one", []).predictions, {key: torch.tensor([value]) for key, value in rows(1, 3)[0].items()}
    teacher = snapshot(model)
    model.train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    state = torch.get_rng_state()
    asked = teacher_logits(model, teacher, batch, read)
    assert torch.equal(state, torch.get_rng_state()) and model.training
    model.eval()
    with torch.no_grad(), model.disable_adapter():
        want = read.logits(model(**batch), batch)
    assert torch.equal(asked, want) and not torch.equal(read.logits(model(**batch), batch), want)


def test_an_adapter_that_was_trained_before_is_kept_as_it_began(tiny):
    model = adapted(tiny)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    before, read = copy.deepcopy(model).eval(), fl.Task("one", []).predictions
    batch = {key: torch.tensor([value]) for key, value in rows(1, 3)[0].items()}
    teacher = snapshot(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
        assert torch.equal(teacher_logits(model, teacher, batch, read), read.logits(before(**batch), batch))


def test_a_training_against_the_base_resumes_to_the_bit_and_still_holds_no_copy(tiny, tmp_path):
    whole = trainer_of(tiny, tmp_path, adapted(tiny), fl.KL(strength=2.0), save_strategy="steps", save_steps=3)
    whole.train()
    method = fl.KL(strength=2.0)
    resumed = trainer_of(tiny, tmp_path, adapted(tiny), method)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert apart(weights(whole), weights(resumed)) == 0.0
    assert all(not value.numel() for name, value in method.teacher.items() if "lora_" in name)


def test_cpl_holds_conflicting_adapter_weights_and_only_those(tiny, tmp_path):
    """By hand: a first step of SGD with momentum, where the retain and inject gradients of the adapter's weights disagree."""
    model = adapted(tiny)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # else A has no gradient yet
                parameter.normal_(std=0.02)
    method = fl.CPL(refresh=2)
    trainer = trainer_of(tiny, tmp_path, model, method, optim="sgd", optim_args="momentum=0.9", max_steps=1, weight_decay=0.1)
    before = weights(trainer)
    task = trainer.forgetless.task

    def gradient(batches):
        found = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
        count = 0
        for batch in batches:
            model.eval().zero_grad()
            (model(**batch).loss * len(batch["input_ids"])).backward()
            count += len(batch["input_ids"])
            for name, total in found.items():
                total += dict(model.named_parameters())[name].grad
        model.zero_grad()
        return {name: total / count for name, total in found.items()}

    old = gradient(task.retain)
    window = [batch for batch, _ in zip(task.train, range(2), strict=False)]
    items = sum((batch["labels"][:, 1:] != -100).sum() for batch in window)
    model.train().zero_grad()
    for batch in window:
        model(**batch, num_items_in_batch=items).loss.backward()
    new = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    trainer.train()
    after, held, moved = weights(trainer), 0, 0
    for name, grad in new.items():
        sure = (old[name] * grad).abs() > 1e-10
        conflict = sure & (old[name] * grad < 0)
        assert torch.equal(before[name][conflict], after[name][conflict])
        held, moved = held + int(conflict.sum()), moved + int((before[name] != after[name])[sure & ~conflict].sum())
        assert torch.equal(
            packing.unpack(method.reference[name], 0, grad.numel()).view_as(grad)[sure].sign().float(), old[name][sure].sign()
        )
    assert held > 50 and moved > 50 and trainer.forgetless.constraint_violation == 0.0
    assert all(torch.equal(before[name], after[name]) for name in before if name not in new)


@pytest.mark.parametrize("method", ["cpl", "replay", "lora >> cpl"])
def test_merged_and_unmerged_evaluation_agree(method, tiny, tmp_path):
    made = {"cpl": lambda: fl.CPL(refresh=2), "replay": fl.Replay, "lora >> cpl": lambda: fl.LoRA(rank=4) >> fl.CPL(refresh=2)}[method]()
    model = AutoModelForCausalLM.from_pretrained(tiny) if "lora" in method else adapted(tiny)
    trainer = trainer_of(tiny, tmp_path, model, made, learning_rate=0.05)
    trainer.train()
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    choices = ("odd", "even", "neither")
    questions = [Question(str(n), "choice", f"{n} is?", (choices[n % 3],), choices, n % 3) for n in range(18)]
    found = []
    for merged in (False, True):
        shown = copy.deepcopy(trainer.model).eval()
        if merged:
            shown = made.export(shown) if "lora" in method else shown.merge_and_unload()
            assert not any("lora" in name for name, _ in shown.named_parameters())
        language = Language(shown, tokenizer, "tiny")
        verdicts = fl.score(language, questions, scorer="likelihood")
        batch = {key: torch.tensor([value]) for key, value in rows(1, 3)[0].items()}
        with torch.no_grad():
            found.append(([verdict.right for verdict in verdicts], shown(**batch).logits))
    assert found[0][0] == found[1][0] and 0 < sum(found[0][0]) < 18
    assert float((found[0][1] - found[1][1]).abs().max()) < 1e-5


def test_the_recipe_keeps_what_a_plain_adapter_loses(tiny, tmp_path):
    """Old inputs are answered as before, by an adapter that begins where they do not lie; new ones are answered otherwise."""
    start, trained = adapted(tiny).eval(), {}
    for name, method in (("auto", fl.Auto(texts=4, length=4, strength=1e4)), ("plain", fl.Plain())):
        trained[name] = trainer_of(tiny, tmp_path / name, adapted(tiny), method, max_steps=20)
        trained[name].train()
    before, after = dict(start.named_parameters()), weights(trained["auto"])
    changed = {name for name, now in after.items() if not torch.equal(now, before[name])}
    assert changed == {name for name in after if ".lora_" in name}

    def moved(model, seed=1):  # on the rows of the retain set; seed 0: on those that are learned
        total = 0.0
        for row in rows(8, seed):
            batch = {key: torch.tensor([value]) for key, value in row.items()}
            with torch.no_grad():
                total += float((model.eval()(**batch).logits - start(**batch).logits).square().mean())
        return total

    assert moved(trained["auto"].model) < 0.2 * moved(trained["plain"].model)
    assert moved(trained["auto"].model, seed=0) > 3 * moved(trained["auto"].model)
