"""What the examples share: their options, and a tiny model that knows a few facts, so that they run anywhere in seconds.

With ``--model`` (a folder, a hub id, or smollm2-135m) and your own question files nothing of this model is made.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

COLOURS = ("red", "blue", "green", "white", "black", "pink", "grey", "gold")
KNOWN, NEW = 12, 6


def arguments(about: str | None, *, pairs: bool = False, rate: float = 1e-3) -> argparse.Namespace:
    """The command line of an example.

    Args:
        about: its docstring, for ``--help``.
        pairs: the questions have two choices, the right one to be preferred, in place of a prompt and an answer.
        rate: the learning rate for the tiny model.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder, a hub id, or smollm2-135m; left out: a tiny model made on the spot")
    parser.add_argument("--inject", help="question file to learn; needed with --model")
    parser.add_argument("--retain", help="question file of what must stay known; needed with --model")
    parser.add_argument("--plain", action="store_true", help="without protection, to see what that forgets")
    parser.add_argument("--lr", type=float, help=f"left out: 1e-5, for the tiny model {rate:g}")
    parser.add_argument("--epochs", type=int, help="left out: 3, for the tiny model 40")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--out", help="folder for the trained model; left out: it is not saved")
    args = parser.parse_args()
    if args.model and not (args.inject and args.retain):
        parser.error("--model needs --inject and --retain, such as `forgetless split` writes")
    tiny = not args.model
    args.lr = args.lr or (rate if tiny else 1e-5)
    args.epochs = args.epochs or (40 if tiny else 3)
    if tiny:
        folder = Path(tempfile.mkdtemp(prefix="forgetless-"))
        atexit.register(shutil.rmtree, folder)
        args.model = str(make_tiny_model(folder / "model"))
        args.inject = args.inject or write(folder / "new.jsonl", facts("new", NEW, pairs=pairs))
        args.retain = args.retain or write(folder / "known.jsonl", facts("known", KNOWN, pairs=pairs))
    return args


def facts(name: str, count: int, *, pairs: bool = False) -> list[dict[str, Any]]:
    """Invented facts: of box number n of a kind, its colour; with ``pairs`` a right one and a wrong one to choose from."""
    found = []
    for n in range(count):
        right, wrong = (COLOURS[(3 * n + len(name) + shift) % len(COLOURS)] for shift in (0, 1))
        prompt = f"{name} box {n} is"
        found.append({"question": prompt, "choices": [right, wrong], "answer": 0} if pairs else {"prompt": prompt, "answer": right})
    return found


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    """Write a question file."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def make_tiny_model(folder: Path, known: list[dict[str, Any]] | None = None, *, rate: float = 1e-2, steps: int = 400) -> Path:
    """Write a Llama of two layers with a byte-level tokenizer, and teach it the known facts."""
    known = known or facts("known", KNOWN)
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = {letter: n for n, letter in enumerate(["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    inner = Tokenizer(models.BPE(vocab=letters, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<end>")
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(letters), pad_token_id=0, eos_token_id=0, bos_token_id=None, **size))
    texts = [tokenizer(f"{fact['prompt']} {fact['answer']}<end>")["input_ids"] for fact in known]
    width = max(map(len, texts))
    ids = torch.tensor([text + [0] * (width - len(text)) for text in texts])
    prompts = torch.tensor([len(tokenizer(fact["prompt"])["input_ids"]) for fact in known])
    ends = torch.tensor([len(text) for text in texts])
    place = torch.arange(width)
    labels = ids.masked_fill((place < prompts[:, None]) | (place >= ends[:, None]), -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(steps):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.01:
            break
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tell(outcome: dict[str, Any], violation: float | None) -> None:
    """Print what was learned and forgotten (as `RetentionCallback.history` has it), and the measured constraint."""
    if int(os.environ.get("RANK", 0)):  # of several processes the first one speaks
        return
    promise = "nothing was promised" if violation is None else f"largest movement of a weight that was to stand still: {violation}"
    counts = "learned {learned} of {inject_total}, forgot {forgotten} of {retain_total}".format(**outcome)
    print(f"{counts}; {promise}")
