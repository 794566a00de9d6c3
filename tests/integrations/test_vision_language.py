"""A SmolVLM made from its configuration learns answers about images through Trainer; what is kept are images with their answers."""

import pytest
import torch
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration, Trainer

import forgetless as fl
from trainers import apart, arguments, weights

IMAGE, WORDS, SIDE = 63, 64, 16
TOKENS = 4  # of an image: its 16 patches, four in one


def smolvlm():
    vision = {"image_size": SIDE, "patch_size": 4, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    text = {"model_type": "llama", "vocab_size": WORDS, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}
    config = SmolVLMConfig(
        vision_config=vision | {"num_hidden_layers": 1},
        text_config=text | {"pad_token_id": 0},
        image_token_id=IMAGE,
        scale_factor=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return SmolVLMForConditionalGeneration(config)


def asked(count, seed, shift=0):
    """A plain image of one of four shades, a question of two to four tokens, and the shade's name as the answer."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for n in range(count):
        shade = n % 4
        image = (0.2 + 0.2 * shade) + 0.02 * torch.rand(3, SIDE, SIDE, generator=draw)
        question = torch.randint(3, 40, (2 + n % 3,), generator=draw).tolist()
        found.append({"image": image, "question": question, "answer": [50 + (shade + shift) % 4, 2]})
    return found


def processed(rows):
    """As a processor does: the image's tokens before the question, padding on the right, pixels of shape (rows, 1, 3, side, side)."""
    before = [[1, *[IMAGE] * TOKENS, *row["question"]] for row in rows]
    length = max(len(one) + len(row["answer"]) for one, row in zip(before, rows, strict=True))
    ids, labels = torch.zeros(len(rows), length, dtype=torch.int64), torch.full((len(rows), length), -100)
    for n, (one, row) in enumerate(zip(before, rows, strict=True)):
        ids[n, : len(one) + 2] = torch.tensor(one + row["answer"])
        labels[n, len(one) : len(one) + 2] = torch.tensor(row["answer"])
    pixels = torch.stack([row["image"] for row in rows])[:, None]
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "pixel_values": pixels, "labels": labels}


def trainer_of(out, **changes):
    options = {"learning_rate": 5e-3, "max_steps": 8, "remove_unused_columns": False} | changes
    return Trainer(smolvlm(), arguments(out, **options), train_dataset=asked(16, 0), data_collator=processed)


METHODS = {
    "cpl": lambda: fl.CPL(refresh=2),
    "replay": lambda: fl.Replay(ratio=0.5),
    "diverse replay and cpl": lambda: fl.Replay(capacity=4, sampling="diversity") >> fl.CPL(refresh=2),
    "others": lambda: fl.DERpp() >> fl.LwF() >> fl.EWC(strength=10.0) >> fl.GEM(),
}


@pytest.mark.parametrize("name", METHODS)
def test_it_trains_as_by_hand_and_the_constraint_is_measured(name, tmp_path):
    trainer = fl.protect(trainer_of(tmp_path), METHODS[name](), asked(6, 1, shift=1))
    before = weights(trainer)
    trainer.train()
    assert any("vision" in key and not torch.equal(value, before[key]) for key, value in weights(trainer).items())
    assert apart(weights(trainer), by_hand(trainer_of(tmp_path), METHODS[name]())) < 1e-6
    promises = "cpl" in name
    assert trainer.forgetless.constraint_violation == (0.0 if promises else None)
    logged = [line for line in trainer.state.log_history if "forgetless/constraint_violation" in line]
    assert bool(logged) == promises and all(line["forgetless/constraint_violation"] == 0.0 for line in logged)


def by_hand(twin, method):
    """The same steps around `attach`: of Trainer only the optimizer's settings."""
    model = twin.model
    train = [processed(asked(16, 0)[start : start + 2]) for start in range(0, 16, 2)]
    retain = [processed(asked(6, 1, shift=1)[start : start + 2]) for start in range(0, 6, 2)]
    optimizer = twin.create_optimizer()
    task = fl.Task("train", train, retain, last=True)
    with fl.attach(method, model, optimizer, task, lambda model, batch: model(**batch).loss) as session:
        for step in range(8):
            session.begin_epoch(step // 4)
            window = train[2 * (step % 4) : 2 * (step % 4) + 2]
            items = sum((batch["labels"][:, 1:] != -100).sum() for batch in window)
            for batch in window:
                model.train()
                outputs = model(**batch, num_items_in_batch=items)
                session.total(outputs.loss, batch, outputs, share=0.5).backward()
            session.edit_gradients()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = 5e-3 * (8 - step) / 8
            optimizer.step()
            optimizer.zero_grad()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def test_replayed_batches_carry_each_image_with_its_own_question(tmp_path):
    """Taken apart and joined in another order, padded anew: row for row what the processor makes of those examples."""
    task = fl.protect(trainer_of(tmp_path), fl.Replay(), asked(6, 1), retain_batch_size=3).forgetless.task
    examples = [example for batch in task.retain for example in task.predictions.examples(batch)]
    order = [4, 0, 5]
    joined, wanted = task.predictions.collate([examples[n] for n in order]), processed([asked(6, 1)[n] for n in order])
    assert joined.keys() == wanted.keys() and all(torch.equal(joined[key], wanted[key]) for key in wanted)


def test_the_image_counts_in_what_is_kept(tmp_path):
    """A reference gradient on other images is another: pixels reach the model in the method's own passes."""
    signs = []
    for shift in (0.0, 0.5):
        rows = [row | {"image": row["image"] + shift} for row in asked(6, 1)]
        method = fl.CPL(refresh="task")
        trainer = fl.protect(trainer_of(tmp_path, max_steps=1), method, rows)
        trainer.train()
        signs.append(method.state_dict()["reference"])
    vision = [name for name in signs[0] if "vision_model.encoder" in name]
    assert vision and any(not torch.equal(signs[0][name], signs[1][name]) for name in vision)


@pytest.mark.parametrize("name", ["cpl", "replay"])
def test_it_resumes_to_the_bit(name, tmp_path):
    whole = fl.protect(trainer_of(tmp_path, save_strategy="steps", save_steps=3), METHODS[name](), asked(6, 1, shift=1))
    whole.train()
    resumed = fl.protect(trainer_of(tmp_path), METHODS[name](), asked(6, 1, shift=1))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert apart(weights(whole), weights(resumed)) == 0.0
