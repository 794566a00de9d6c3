"""Small tokenizers of every habit."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The capital of France is Paris. The capital of Peru is Lima.",
    "A: Paris B: Lima ( Oslo ) Question: Answer:",
    "is Paris is Lima\n\n\n",
]
STYLES = ("none", "bos", "eos", "bos+eos")


def make_tokenizer(kind: str, style: str) -> PreTrainedTokenizerFast:
    """A trained BPE tokenizer, byte-level or in the manner of sentencepiece, that opens and closes texts as ``style`` says."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if kind == "bytes":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    elif kind == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    else:  # as Llama 2 does: a mark before every text
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    marks = ["<unk>", "<s>", "</s>"]
    alphabet = sorted({*"".join(CORPUS), "▁", *(pre_tokenizers.ByteLevel.alphabet() if kind == "bytes" else ())})
    tokenizer.train_from_iterator(CORPUS * 5, trainers.BpeTrainer(vocab_size=400, special_tokens=marks, initial_alphabet=alphabet))
    single = ("<s> " if "bos" in style else "") + "$A" + (" </s>" if "eos" in style else "")
    if style != "none":
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
