"""A small model of images and text (LLaVA's architecture, built from a config), trained on the spot on easy-VQA.

It first learns colours and yes-or-no questions, then is fine-tuned on shapes alone: what does it then still know? Both are whole
folders of `save_pretrained` with a processor, so that ``forgetless eval --suite multimodal --model A --after B`` reads them as any other.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

import forgetless as fl
from forgetless.data.encoding import collate
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.evaluation.packaged import _easy_vqa
from forgetless.evaluation.vision import Seen, example

IMAGE, PATCH, BATCH = 64, 16, 32
Batch = dict[str, torch.Tensor]


def first(folder: Path, steps: int = 600) -> Path:
    """The model that has learned colours and yes-or-no questions."""
    if not (folder / "config.json").is_file():
        questions, images = _easy_vqa("train")
        language = build(questions)
        learn(language, [q for q in questions if q.subject != "shape"], images, steps, 1e-3, seed=0)
        save(language, folder)
    return folder


def second(before: Path, folder: Path, steps: int = 100) -> Path:
    """The same, fine-tuned on shapes alone, plainly."""
    if not (folder / "config.json").is_file():
        questions, images = _easy_vqa("train")
        language = fl.load_model(str(before), images=True)
        learn(language, [q for q in questions if q.subject == "shape"], images, steps, 3e-4, seed=1)
        save(language, folder)
    return folder


def build(questions: list[Question]) -> Language:
    """A random model whose words are those of the questions."""
    text = " ".join([*(q.prompt for q in questions), *(q.answers[0] for q in questions)])
    words = ["<pad>", "<unk>", "<image>", "Question", "Answer", ":", *sorted(set(text.replace("?", " ? ").split()))]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<pad>", additional_special_tokens=["<image>"]
    )
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=96, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4, image_size=IMAGE, patch_size=PATCH
    )
    text_config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=0,
        bos_token_id=None,
    )
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision, text_config=text_config, image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_seq_length=16
        )
    )
    pixels = CLIPImageProcessorPil(size={"height": IMAGE, "width": IMAGE}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor = LlavaProcessor(
        image_processor=pixels,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    return Language(model, tokenizer, "vision", processor)


def learn(language: Language, questions: list[Question], images: Path, steps: int, rate: float, seed: int) -> None:
    """Plain AdamW on the answers, through a session, as ``fl.attach`` has it in anybody's loop."""
    draw = random.Random(seed)
    chosen = draw.sample(questions, min(len(questions), 3000))
    pixels: dict[str, torch.Tensor] = {}
    examples: list[Seen] = []
    for question in chosen:
        path = str(images / str(question.image))
        if path not in pixels:
            with Image.open(path) as image:
                pixels[path] = language.processor.image_processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
        examples.append(as_example(language, question, path))
    model = language.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    batches: list[Batch] = [batch(draw.sample(examples, BATCH), pixels) for _ in range(8)]
    task = fl.Task("easy-vqa", train=batches)
    began = time.perf_counter()
    with fl.attach(fl.METHODS["none"](), model, optimizer, task, lambda m, b: m(**b).loss) as session:
        for step in range(steps):
            one = batch(draw.sample(examples, BATCH), pixels)
            out = model(**one)
            session.total(out.loss, one, out).backward()
            optimizer.step()
            optimizer.zero_grad()
            if step % 100 == 99:
                print(f"step {step + 1} of {steps}: loss {float(out.loss):.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    model.eval()


def as_example(language: Language, question: Question, path: str) -> Seen:
    """The question as it is asked under the template ``qa``."""
    made = example(language, replace(question, image=path), question.answers[0], "qa")
    assert isinstance(made, Seen)
    return made


def batch(examples: list[Seen], pixels: dict[str, torch.Tensor]) -> Batch:
    """Tokens, labels and pixels."""
    return collate(examples, 0) | {"pixel_values": torch.cat([pixels[one.image] for one in examples])}


def save(language: Language, folder: Path) -> None:
    """As `save_pretrained` writes it, model and processor."""
    language.model.save_pretrained(folder)
    language.processor.save_pretrained(folder)
