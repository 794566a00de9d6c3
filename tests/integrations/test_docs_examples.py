"""The examples in the docs on trainers run on a tiny model; TRL's, which want a GPU unless told otherwise, with ``use_cpu``."""

import json
import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainers import rows

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/trainers.md").read_text("utf-8"), flags=re.S)
README = (ROOT / "README.md").read_text("utf-8").split("## In a Hugging Face or TRL trainer", 1)[1]
BLOCKS.append(re.findall(r"```python\n(.*?)```", README, flags=re.S)[0])


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_example_runs_and_trains(block, tiny, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)
    for name in ("known", "new"):
        lines = [{"prompt": f"{name} {n} is", "answer": "yes"} for n in range(4)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    answers = [{"prompt": f"what is {n}?", "completion": f" it is {n * 7}"} for n in range(20)]
    names = {
        "model": AutoModelForCausalLM.from_pretrained(tiny),
        "tokenizer": AutoTokenizer.from_pretrained(tiny),
        "new_tokens": rows(12, 0),
        "old_tokens": rows(6, 1),
        "new_answers": datasets.Dataset.from_list(answers[:12]),
        "old_answers": datasets.Dataset.from_list(answers[12:]),
    }
    before = {name: weight.detach().clone() for name, weight in names["model"].named_parameters()}
    exec(compile(block.replace("max_steps=4", "max_steps=4, use_cpu=True"), "docs", "exec"), names)
    assert names["trainer"].state.global_step == 4
    trained = dict(names["model"].named_parameters())
    assert any(not weight.equal(trained[name].to("cpu")) for name, weight in before.items())
