"""Other architectures than a Llama, with dropout where they have it: Trainer equals a loop of one's own, and resumes bit for bit."""

import pytest
import torch
from torch.nn.utils import clip_grad_norm_
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

import forgetless as fl
from trainers import apart, arguments, weights

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def gpt2(drop):
    dropout = {"resid_pdrop": drop, "embd_pdrop": drop, "attn_pdrop": drop}
    return GPT2LMHeadModel(
        GPT2Config(**dropout, vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    )


def qwen2(drop):
    return Qwen2ForCausalLM(Qwen2Config(attention_dropout=drop, vocab_size=50, num_key_value_heads=1, max_position_embeddings=16, **SMALL))


def t5(drop):
    config = T5Config(dropout_rate=drop, vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0)
    return T5ForConditionalGeneration(config)


def vit(drop):
    return ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_labels=4, hidden_dropout_prob=drop, **SMALL))


def data(make, count, seed):
    generator = torch.Generator().manual_seed(seed)
    if make is vit:
        images = torch.rand(count, 3, 8, 8, generator=generator)
        return [{"pixel_values": image, "labels": n % 4} for n, image in enumerate(images)]
    ids = torch.randint(1, 50, (count, 9), generator=generator)
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row.clone()} for row in ids]


def collate(part):
    return {key: torch.stack([torch.as_tensor(row[key]) for row in part]) for key in part[0]}


def build(make, drop):
    torch.manual_seed(1)
    return make(drop)


def trainer_of(make, out, *, drop=0.0, **changes):
    kind, form = (Seq2SeqTrainer, Seq2SeqTrainingArguments) if make is t5 else (Trainer, TrainingArguments)
    return kind(build(make, drop), arguments(out, form=form, **changes), train_dataset=data(make, 16, 0), data_collator=collate)


def method():
    return fl.LwF(strength=0.5) >> fl.EWC(strength=1e3) >> fl.Replay() >> fl.GEM() >> fl.CPL(refresh=3)


def by_hand(make, out):
    twin = trainer_of(make, out)  # for its optimizer and its arguments; it does not train
    model, size = twin.model, 2
    parts = {
        name: [collate(rows[i : i + size]) for i in range(0, len(rows), size)]
        for name, rows in {"train": data(make, 16, 0), "retain": data(make, 6, 1)}.items()
    }
    predictions = fl.protect(trainer_of(make, out), fl.Plain()).forgetless.task.predictions
    task = fl.Task("train", parts["train"], parts["retain"], last=True, predictions=predictions)
    optimizer, last = twin.create_optimizer(), twin.args.max_steps
    with fl.attach(method(), model, optimizer, task, lambda model, batch: model(**batch).loss) as session:
        for step in range(last):
            session.begin_epoch(step // 4)
            window = parts["train"][2 * (step % 4) : 2 * (step % 4) + 2]
            items = twin._get_num_items_in_batch(window, "cpu") if twin.model_accepts_loss_kwargs else None
            for batch in window:
                model.train()
                if items is None:
                    outputs = model(**batch)
                    total = session.total(outputs.loss, batch, outputs) / 2
                else:
                    outputs = model(**batch, num_items_in_batch=items)
                    total = session.total(outputs.loss, batch, outputs, share=0.5)
                total.backward()
            session.edit_gradients()
            clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (last - step) / last
            optimizer.step()
            optimizer.zero_grad()
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("make", [gpt2, qwen2, t5, vit])
def test_trainer_equals_a_loop_on_every_architecture(make, tmp_path):
    trainer = fl.protect(trainer_of(make, tmp_path), method(), data(make, 6, 1))
    before = weights(trainer)
    trainer.train()
    assert apart(before, weights(trainer)) > 1e-3
    assert apart(weights(trainer), by_hand(make, tmp_path)) < 1e-6
    assert trainer.forgetless.constraint_violation == 0.0


@pytest.mark.parametrize("make", [gpt2, qwen2, t5])
def test_resumes_to_the_bit_with_dropout(make, tmp_path):
    whole = fl.protect(trainer_of(make, tmp_path, drop=0.2, save_strategy="steps", save_steps=3), method(), data(make, 6, 1))
    whole.train()
    resumed = fl.protect(trainer_of(make, tmp_path, drop=0.2), method(), data(make, 6, 1))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert apart(weights(whole), weights(resumed)) == 0.0
