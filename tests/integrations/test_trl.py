"""TRL's trainers: packed rows, completion-only loss, preference pairs, rollouts, adapters."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import forgetless as fl
from forgetless.data.encoding import taught
from forgetless.integrations.forms import PackedPredictions, PreferencePredictions
from trainers import apart, arguments, make_trainer, rows, weights

trl = pytest.importorskip("trl")
from datasets import Dataset  # noqa: E402

KINDS = {"sft": (trl.SFTTrainer, trl.SFTConfig), "dpo": (trl.DPOTrainer, trl.DPOConfig), "grpo": (trl.GRPOTrainer, trl.GRPOConfig)}


def questions(count, start=0):
    return Dataset.from_list(
        [{"prompt": f"what is {n}?", "completion": f" it is {n * 7}" + "!" * (n % 3)} for n in range(start, start + count)]
    )


def pairs(count, start=0):
    return Dataset.from_list(
        [{"prompt": f"is {n} odd?", "chosen": " " + "odd" * (1 + n % 2), "rejected": " no idea"} for n in range(start, start + count)]
    )


def make(kind, tiny, out, data=None, *, peft=None, **changes):
    trainer, config = KINDS[kind]
    plain = arguments(out, max_steps=3, **{"learning_rate": 5e-3})
    kept = ("per_device_train_batch_size", "gradient_accumulation_steps", "max_steps", "learning_rate", "optim", "report_to", "use_cpu")
    more = {name: getattr(plain, name) for name in (*kept, "logging_steps", "save_strategy", "disable_tqdm", "output_dir")}
    own = {"num_generations": 2, "max_completion_length": 8} if kind == "grpo" else {"train_sampling_strategy": "sequential"}
    options = {"bf16": False, "gradient_checkpointing": False} | more | own | changes
    data = (pairs(12) if kind == "dpo" else questions(12)) if data is None else data
    extra = {"reward_funcs": lambda completions, **_: [float(len(set(text))) for text in completions]} if kind == "grpo" else {}
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    torch.manual_seed(0)
    return trainer(model, args=config(**options), train_dataset=data, processing_class=tokenizer, peft_config=peft, **extra)


def retained(kind):
    return pairs(6, 50) if kind == "dpo" else questions(6, 50)


@pytest.mark.parametrize("kind", KINDS)
def test_method_none_leaves_the_trainer_as_it_was_to_the_bit(kind, tiny, tmp_path):
    plain, protected = make(kind, tiny, tmp_path), fl.protect(make(kind, tiny, tmp_path), fl.Plain(), retained(kind))
    for trainer in (plain, protected):
        torch.manual_seed(3)
        trainer.train()
    assert apart(weights(plain), weights(protected)) == 0.0


VARIANTS = [
    ("sft", {}),
    ("sft", {"packing": True, "max_length": 64, "completion_only_loss": True}),
    ("sft", {"gradient_checkpointing": True}),
    ("sft", {"bf16": True}),
    ("sft", {"max_grad_norm": 0.0, "lr_scheduler_type": "cosine", "optim": "adafactor"}),
    ("dpo", {}),
    ("dpo", {"precompute_ref_log_probs": True}),
    ("grpo", {}),
    ("grpo", {"loss_type": "grpo", "beta": 0.1}),
]


@pytest.mark.parametrize(("kind", "changes"), VARIANTS)
def test_cpl_and_replay_train_and_the_constraint_is_measured(kind, changes, tiny, tmp_path):
    trainer = fl.protect(make(kind, tiny, tmp_path, **changes), fl.Replay() >> fl.CPL(refresh=2), retained(kind))
    before = weights(trainer)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "forgetless/conflicting_fraction" in line]
    assert len(lines) == 3 and all(line["forgetless/memory_examples"] == 6 for line in lines)
    assert apart(before, weights(trainer)) > 1e-3
    assert trainer.forgetless.constraint_violation == 0.0
    assert [line for line in trainer.state.log_history if line.get("forgetless/constraint_violation") == 0.0 and "loss" not in line]


@pytest.mark.parametrize("packing", [False, True])
def test_the_retain_set_is_preprocessed_as_the_trainer_does_and_never_packed(packing, tiny, tmp_path):
    trainer = fl.protect(make("sft", tiny, tmp_path, packing=packing, max_length=64), fl.CPL(), questions(6, 50), retain_batch_size=4)
    first = next(iter(trainer.forgetless.task.retain))
    tokenizer = trainer.processing_class
    prompt, answer = tokenizer("what is 50?")["input_ids"], tokenizer(" it is 350!!")["input_ids"] + [tokenizer.eos_token_id]
    length = len(prompt) + len(answer)
    assert first["input_ids"].shape[0] == first["attention_mask"].shape[0] == 4 and "position_ids" not in first
    assert first["input_ids"][0, :length].tolist() == prompt + answer
    assert first["labels"][0].tolist() == [-100] * len(prompt) + answer + [-100] * (first["labels"].shape[1] - length)
    assert [batch["input_ids"].shape[0] for batch in trainer.forgetless.task.retain] == [4, 2]
    assert any("position_ids" in batch for batch in trainer.forgetless.task.train) == packing


def test_sft_with_methods_that_need_logits_equals_the_plain_trainer(tiny, tmp_path):
    """SFTTrainer's fused outputs hold no logits; the same tokens through Trainer, which has them, give the same weights."""
    data, retain = rows(12, 0), rows(4, 1)
    found = []
    for trainer in (
        make("sft", tiny, tmp_path, Dataset.from_list(data)),
        make_trainer(tiny, tmp_path, data=data, max_steps=3, weight_decay=0.0),
    ):
        trainer.args.learning_rate, trainer.args.max_grad_norm = 1e-3, 1.0
        trainer = fl.protect(trainer, fl.LwF(strength=0.5) >> fl.KL(strength=2.0) >> fl.DERpp(), retain)
        trainer.train()
        found.append(weights(trainer))
    assert apart(*found) < 1e-5


def test_reference_passes_leave_no_trace_in_the_trainers_metrics(tiny, tmp_path):
    plain, protected = make("sft", tiny, tmp_path), fl.protect(make("sft", tiny, tmp_path), fl.Replay(), questions(6, 50))
    for trainer in (plain, protected):
        trainer.train()
    one, other = ([line for line in t.state.log_history if "num_tokens" in line] for t in (plain, protected))
    assert [line["num_tokens"] for line in one] == [line["num_tokens"] for line in other]
    assert one[0]["entropy"] == other[0]["entropy"]  # later ones differ, as the weights do
    assert not protected._metrics["eval"]


def test_dpo_reference_loss_is_dpos_own_evaluation_loss(tiny, tmp_path):
    trainer = fl.protect(make("dpo", tiny, tmp_path, per_device_eval_batch_size=2), fl.CPL(), pairs(6, 50))
    trainer.train()
    trainer.model.eval()
    with torch.no_grad():
        ours = sum(float(trainer.forgetless.loss(trainer.model, batch)) for batch in trainer.forgetless.task.retain) / 3
    assert ours == pytest.approx(trainer.evaluate(pairs(6, 50))["eval_loss"], rel=1e-5)
    assert ours != pytest.approx(0.6931, abs=1e-3)


def test_preference_pairs_stay_together_when_a_memory_takes_them_apart(tiny, tmp_path):
    task = fl.protect(make("dpo", tiny, tmp_path), fl.CPL(), pairs(5, 50), retain_batch_size=3).forgetless.task
    first, second = task.retain
    forms = PreferencePredictions()
    examples = forms.examples(first) + forms.examples(second)
    assert [forms.size(batch) for batch in (first, second)] == [3, 2] and len(examples) == 5
    again = forms.collate([examples[0], examples[4]])
    assert forms.size(again) == 2
    length = again["input_ids"].shape[1]
    for row, (batch, place) in enumerate([(first, 0), (second, 1), (first, 3), (second, 3)]):  # both chosen, both rejected
        size = min(length, batch["input_ids"].shape[1])
        assert torch.equal(again["input_ids"][row, :size], batch["input_ids"][place, :size])
        assert torch.equal(again["completion_mask"][row, :size], batch["completion_mask"][place, :size])
    rows_of = torch.bincount(forms.owners(first), minlength=3)
    assert rows_of.tolist() == [int(first["completion_mask"][[i, 3 + i]].sum()) for i in range(3)]


def test_a_packed_row_is_read_as_the_sequences_in_it():
    packed = {
        "input_ids": torch.tensor([[5, 6, 7, 8, 9]]),
        "labels": torch.tensor([[-100, 6, -100, 8, 9]]),
        "position_ids": torch.tensor([[0, 1, 0, 1, 2]]),
    }
    forms = PackedPredictions()
    examples = forms.examples(packed)
    assert forms.size(packed) == 2 and [e["input_ids"].tolist() for e in examples] == [[[5, 6]], [[7, 8, 9]]]
    assert forms.owners(packed).tolist() == [0, 1, 1]
    joined = forms.collate(examples)
    assert joined["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert joined["labels"].tolist() == [[-100, 6, -100], [-100, 8, 9]]


def test_grpo_keeps_texts_by_cross_entropy(tiny, tmp_path):
    trainer = fl.protect(make("grpo", tiny, tmp_path), fl.CPL(), questions(2, 50))
    (batch,) = trainer.forgetless.task.retain
    want = trainer.model.eval()(**batch).loss.detach()
    assert float(trainer.forgetless.loss(trainer.model, batch).detach()) == float(want)
    tokenizer = trainer.processing_class
    answer = tokenizer(" it is 357")["input_ids"] + [tokenizer.eos_token_id]
    assert batch["labels"][1][batch["labels"][1] != -100].tolist() == answer
    chat = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}]
    (batch,) = fl.protect(make("grpo", tiny, tmp_path), fl.CPL(), chat).forgetless.task.retain
    assert tokenizer.decode(batch["labels"][0][batch["labels"][0] != -100]) == "ho\n"


def test_grpo_refuses_prompts_without_answers_and_methods_that_walk_the_inject_set(tiny, tmp_path):
    with pytest.raises(fl.InputError, match="no answer to keep"):
        fl.protect(make("grpo", tiny, tmp_path), fl.CPL(), questions(4).remove_columns("completion"))
    with pytest.raises(fl.InputError, match="written by the model as it trains"):
        fl.protect(make("grpo", tiny, tmp_path), fl.CPL(mask="fixed"), questions(4)).train()


@pytest.mark.parametrize(("kind", "old"), [("sft", True), ("sft", False), ("dpo", True), ("dpo", False), ("grpo", True)])
def test_by_the_recipe_only_the_mlps_second_layers_move_and_the_old_is_what_the_model_says(kind, old, tiny, tmp_path):
    method = fl.Auto(texts=4, length=4, prompted=3)
    trainer = fl.protect(make(kind, tiny, tmp_path), method, retained(kind) if old else None)
    before = weights(trainer)
    trainer.train()
    moved = {name for name, now in weights(trainer).items() if not torch.equal(now, before[name])}
    assert moved and moved == {name for name in before if name.endswith("mlp.down_proj.weight")}
    space = method.methods[1]
    assert space.made_up != old and space.covariance and bool(len(method.methods[0].retained)) == old
    spoken = 4 * 4 if old else 4 * 4 + 3 * 4  # tokens that it added; beside them stand what it began with and the retain set
    assert min(space.counts.values()) >= spoken


def test_grpo_without_a_retain_set_has_nothing_that_the_recipe_could_begin_texts_with(tiny, tmp_path):
    with pytest.raises(fl.InputError, match="give auto and null-space a retain set"):
        fl.protect(make("grpo", tiny, tmp_path), fl.Auto(texts=4, length=4)).train()


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_a_budget_deals_out_questions_where_the_retain_set_is_texts(kind, tiny, tmp_path, known):
    trainer = fl.protect(make(kind, tiny, tmp_path), fl.Replay(), retain=known, budget=fl.Budget(0.1, every=2, scorer="likelihood"))
    parts, batches = trainer.forgetless.keeping.parts, list(trainer.forgetless.task.retain)
    examples = taught(parts.reference, trainer.processing_class)
    assert sum(len(batch["input_ids"]) for batch in batches) == len(parts.reference) == 16
    assert [ids[ids != -100].tolist() for batch in batches for ids in batch["labels"]] == [list(example.answer) for example in examples]
    trainer.train()
    assert trainer.forgetless.keeping.verdict["total"] == 12


def test_questions_are_no_preference_pairs(tiny, tmp_path, known):
    with pytest.raises(fl.InputError, match="retain: it holds questions, and DPOTrainer's are preference pairs"):
        fl.protect(make("dpo", tiny, tmp_path), fl.Replay(), retain=known, budget=fl.Budget(0.1, scorer="likelihood"))


def test_other_trainers_of_trl_are_refused():
    with pytest.raises(fl.InputError, match=r"KTOTrainer is not supported\. Supported of TRL are SFTTrainer, DPOTrainer, GRPOTrainer"):
        fl.protect(object.__new__(trl.KTOTrainer), fl.Plain())


def test_with_peft_only_adapter_weights_move_and_those_that_conflict_do_not(tiny, tmp_path):
    from peft import LoraConfig

    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = fl.protect(make("sft", tiny, tmp_path, peft=config, max_steps=4), fl.CPL(refresh=2), questions(6, 50))
    before = weights(trainer)
    trainer.train()
    after = weights(trainer)
    assert trainer.forgetless.session.ctx.parameters.keys() == {name for name in before if "lora_" in name}
    assert all(torch.equal(before[name], after[name]) for name in before if "lora_" not in name)
    assert any(not torch.equal(before[name], after[name]) for name in before if "lora_B" in name)
    assert trainer.forgetless.constraint_violation == 0.0


def test_the_lora_method_puts_its_adapter_in_before_the_optimizer_exists(tiny, tmp_path):
    trainer = fl.protect(make_trainer(tiny, tmp_path), fl.LoRA(rank=4) >> fl.CPL(refresh=2), rows(4, 1))
    before = weights(trainer)
    trainer.train()
    after = weights(trainer)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("lora_" in name for name in moved)


RESUMED = {
    "sft with adapters": ("sft", True, {}),
    "sft packed": ("sft", False, {"packing": True, "max_length": 64, "completion_only_loss": True, "gradient_accumulation_steps": 1}),
    "dpo": ("dpo", False, {}),
    "grpo": ("grpo", False, {}),
    "grpo between two generations": ("grpo", False, {"steps_per_generation": 4, "num_iterations": 2}),
}


@pytest.mark.parametrize("case", RESUMED)
def test_resumed_equals_uninterrupted_to_the_bit(case, tiny, tmp_path):
    from peft import LoraConfig

    kind, adapters, changes = RESUMED[case]

    def build(out, **more):
        peft = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM") if adapters else None
        trainer = make(kind, tiny, out, peft=peft, max_steps=5, **changes, **more)
        return fl.protect(trainer, fl.Replay() >> fl.CPL(refresh=3), retained(kind))

    whole, resumed = build(tmp_path / "whole", save_strategy="steps", save_steps=3), build(tmp_path / "resumed")
    before = weights(whole)
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert apart(weights(whole), weights(resumed)) == 0.0
    assert apart(before, weights(whole)) > 1e-3
    assert [line["loss"] for line in whole.state.log_history if line["step"] > 3 and "loss" in line] == [
        line["loss"] for line in resumed.state.log_history if line["step"] > 3 and "loss" in line
    ]
