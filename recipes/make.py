"""Write the recipes from one table: five models x four data sets, out of set and in set.

python recipes/make.py
"""

from __future__ import annotations

from pathlib import Path

MODELS = {
    "qwen2.5-1.5b": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen2.5-3b": "Qwen/Qwen2.5-3B-Instruct",
    "qwen2.5-7b": "Qwen/Qwen2.5-7B-Instruct",
    "llama3.2-1b": "meta-llama/Llama-3.2-1B-Instruct",
    "llama3.2-3b": "meta-llama/Llama-3.2-3B-Instruct",
}
DATA = {
    "MMLU": "cais/mmlu/all:test",
    "MedQA": "GBaker/MedQA-USMLE-4-options:test",
    "ARC-C": "allenai/ai2_arc/ARC-Challenge:test",
    "CSQA": "tau/commonsense_qa:validation",
}
SETTINGS = """\
method: cpl
method-arg: [cpl.refresh=epoch]
optimizer: sgd
lr: {rate}
epochs: 25
batch-size: 1
scorer: letter
dtype: float32
seed: 0
"""
OUT_OF_SET = "half of what is known is the reference, forgetting is measured on the other half too"
IN_SET = "all that is known is the reference, and forgetting is measured on it"


def recipes() -> dict[str, str]:
    """The text of every recipe by its file name."""
    found = {}
    for short, model in MODELS.items():
        for name, data in DATA.items():
            for setting in ("", "-in-set"):
                key = f"{short}-{name.lower()}{setting}"
                parts = f"parts/{key}"
                rate = "1.0e-7" if short == "qwen2.5-1.5b" else "1.0e-7  # of the 1.5B model: sweep it"
                lines = [
                    f"# {model} learns what it does not know of {name}, by CPL, with the settings of arXiv 2601.21577;",
                    f"# {IN_SET if setting else OUT_OF_SET}.",
                    f"# First: forgetless split --model {model} --data {data} --scorer letter \\",
                    f"#            --heldout {'none' if setting else 'retain'} --out {parts}",
                    f"# Then:  forgetless train --config recipes/{key}.yaml",
                    f"model: {model}",
                    f"inject: {parts}/inject.jsonl",
                    f"retain: {parts}/retain.jsonl",
                    *([] if setting else [f"retain-heldout: {parts}/retain-heldout.jsonl"]),
                    f"out: runs/{key}",
                ]
                found[f"{key}.yaml"] = "\n".join(lines) + "\n" + SETTINGS.format(rate=rate)
    return found


if __name__ == "__main__":
    for file, text in recipes().items():
        (Path(__file__).parent / file).write_text(text, encoding="utf-8")
