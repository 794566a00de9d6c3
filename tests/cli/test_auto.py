"""strength="auto" through the command line and in a trainer, with a language model."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
import torch

import forgetless as fl
from cli.world import read_lines, result, rows, train_arguments, write_rows


def arguments(out, *more, method="ewc", option="ewc.strength"):
    return train_arguments(out, "--method-arg", f"{option}=auto", *more, method=method, epochs=6)


def test_train_finds_a_strength_tells_it_and_goes_on_from_a_kill_to_the_same_bits(warm, place):
    whole = warm.run(*arguments("whole"), cwd=place)
    assert whole.code == 0, whole.err
    steps = [line["method"] for line in read_lines(place / "whole/metrics.jsonl") if line["kind"] == "step"]
    found = steps[0]["ewc.strength.search"]
    assert {step["ewc.strength"] for step in steps} == {found["chosen"]} and found["chosen"] > 0
    assert not any("ewc.strength.search" in step for step in steps[1:])
    assert found["trials"][0]["value"] == 0.0 and len(found["trials"]) >= 3
    given = [one.replace("auto", repr(found["chosen"])) for one in arguments("given")]
    assert warm.run(*given, cwd=place).code == 0
    assert result(place / "whole")[0] == result(place / "given")[0], "the same weights as with the number given"
    pid = warm.start(*arguments("killed"), cwd=place)
    while not (place / "killed/checkpoint").exists():  # it writes one after every second step
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    assert warm.wait(pid).code == -signal.SIGKILL
    assert warm.run(*arguments("killed", "--resume"), cwd=place).code == 0
    assert result(place / "killed")[:2] == result(place / "whole")[:2]


def test_train_without_old_data_says_what_to_give_and_writes_nothing(warm, place):
    before = sorted(path.name for path in place.iterdir())
    command = [
        "train",
        "--model",
        "model",
        "--inject",
        "inject.jsonl",
        "--method",
        "kl",
        "--method-arg",
        "kl.strength=auto",
        "--out",
        "run",
    ]
    done = warm.run(*command, cwd=place)
    assert done.code == 2 and "kl.strength: auto is found by what stays known" in done.err and len(done.lines) == 1
    assert sorted(path.name for path in place.iterdir()) == before


@pytest.mark.parametrize(("method", "option"), [("online-ewc", "strength"), ("replay", "ratio")])
def test_stream_of_question_files(warm, place, method, option):
    for name in ("first", "second"):
        write_rows(place / f"{name}.jsonl", rows(name, 12))
    stream = [
        "stream",
        "--stream",
        "first.jsonl,second.jsonl",
        "--model",
        "model",
        "--method",
        method,
        "--method-arg",
        f"{method}.{option}=auto",
    ]
    done = warm.run(*stream, "--seeds", "1", "--epochs", "6", "--batch-size", "4", "--lr", "3e-3", "--out", "s", "--json", cwd=place)
    assert done.code == 0, done.err
    assert json.loads(done.out)["n_seeds"] == 1


def test_a_stream_in_half_precision(warm, place):
    for name in ("first", "second"):
        write_rows(place / f"{name}.jsonl", rows(name, 4))
    stream = ["stream", "--stream", "first.jsonl,second.jsonl", "--model", "model", "--device", "cpu", "--dtype", "bfloat16"]
    done = warm.run(*stream, "--seeds", "1", "--epochs", "1", "--lr", "1e-3", "--out", "s", "--json", cwd=place)
    assert done.code == 0, done.err
    wide = warm.run(*stream[:-1], "float32", "--seeds", "1", "--epochs", "1", "--lr", "1e-3", "--out", "w", "--json", cwd=place)
    assert 2 * json.loads(done.out)["model_bytes"] <= json.loads(wide.out)["model_bytes"] + 4096


def test_a_trainer_searches_before_its_first_step(base, tmp_path):
    from transformers import Trainer, TrainingArguments

    language = fl.load_model(str(base / "model"))

    def encoded(name, count):
        found = []
        for row in rows(name, count):
            ids = language.tokenizer(f"{row['prompt']} {row['answer']}")["input_ids"]
            found.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids})
        return found

    def collate(examples):
        length = max(len(example["input_ids"]) for example in examples)
        pads = {"input_ids": 0, "attention_mask": 0, "labels": -100}
        return {
            key: torch.tensor([example[key] + [pad] * (length - len(example[key])) for example in examples]) for key, pad in pads.items()
        }

    def run(strength):
        model = fl.load_model(str(base / "model")).model
        settings = TrainingArguments(
            output_dir=str(tmp_path / "out"), max_steps=12, per_device_train_batch_size=2, gradient_accumulation_steps=2, warmup_steps=3,
            learning_rate=1e-3, report_to=[], save_strategy="no", logging_steps=1, use_cpu=True, seed=1,
        )  # fmt: skip
        trainer = Trainer(model, settings, train_dataset=encoded("inject", 10), data_collator=collate)
        method = fl.L2SP(strength=strength)
        fl.protect(trainer, method, retain=encoded("retain", 8)).train()
        told = [line["forgetless/l2sp.strength"] for line in trainer.state.log_history if "forgetless/l2sp.strength" in line]
        return method, told, [parameter.detach().clone() for parameter in model.parameters()]

    method, told, weights = run("auto")
    assert method.found > 0 and set(told) == {method.found} and len(told) == 12
    assert all(torch.equal(a, b) for a, b in zip(weights, run(method.found)[2], strict=True))
