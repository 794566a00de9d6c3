"""Questions about images: what a model that takes images is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forgetless.data.encoding import Example, encode, encode_all
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.data.templates import wording
from forgetless.errors import InputError

_TEXT = ("input_ids", "attention_mask")


@dataclass(frozen=True, slots=True)
class Seen(Example):
    """An example with an image: ``prompt`` holds the image's places as the processor wrote them into ``text``.

    ``special``: whether it put its special tokens around the text (a chat template writes its own).
    """

    text: str = ""
    image: str = ""
    special: bool = True


def with_images(questions: Sequence[Question], folder: Path) -> list[Question]:
    """The questions with their images as paths that can be opened; every one is opened once.

    Raises:
        InputError: an image is missing, is none, or lies outside of ``folder`` once links are followed.
    """
    made = []
    checked: set[Path] = set()
    for question in questions:
        if question.image is None:
            made.append(question)
            continue
        path = folder / question.image
        if path not in checked:
            if not path.resolve().is_relative_to(folder.resolve()):
                what, mend = f"the image {path} lies outside of {folder}", "Keep the images in one folder"
                raise InputError(what, where=question.where or question.id, mend=mend)
            _check(path, question)
            checked.add(path)
        made.append(replace(question, image=str(path)))
    return made


def _check(path: Path, question: Question) -> None:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise InputError("the package pillow is missing, which reads images", mend="Run: pip install pillow") from error
    where = question.where or question.id
    if not path.is_file():
        raise InputError(f"the image {path} does not exist", where=where, mend="Check its path, which is relative to the folder of images")
    try:
        with Image.open(path) as image:
            image.verify()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is not an image that can be read", where=where, mend="Save it as PNG or JPEG") from error


def examples_of(language: Language, pairs: Sequence[tuple[Question, str]], template: str | None) -> list[Example]:
    """What `example` makes of each question and answer; those without images go to the tokenizer together."""
    plain = encode_all([pair for pair in pairs if pair[0].image is None], language.tokenizer, template, room=language.room)
    told = iter(plain)
    return [next(told) if pair[0].image is None else example(language, *pair, template) for pair in pairs]


def example(language: Language, question: Question, answer: str, template: str | None) -> Example:
    """The tokens of a question and an answer; of one with an image, as the model's processor writes both.

    The image stands at the beginning of the prompt (of the last user turn); under the template ``chat`` the processor's own
    chat template places it.

    Raises:
        InputError: the question has an image and the model takes none, or what `encode` refuses.
    """
    if question.image is None:
        return encode(question, answer, language.tokenizer, template, room=language.room)
    where = question.where or question.id
    if language.processor is None:
        raise InputError(f"it has an image, and {language.name} takes none", where=where, mend="Name a model of images and text")
    marked = _marked(language, question, where)
    plain = encode(marked, answer, language.tokenizer, template)
    words = wording(marked, language.tokenizer, template)
    text = _chat(language, question) if words.turns and not question.choices else words.before
    prompt = tuple(_inputs(language, [text], [question.image], special=not words.turns)["input_ids"][0].tolist())
    made = Seen(prompt, plain.answer, text, question.image, special=not words.turns)
    if language.room is not None and len(made) > language.room:
        raise InputError(f"it has {len(made)} tokens with its image, the model takes {language.room}", where=where, mend="Shorten the row")
    return made


def image_inputs(language: Language, examples: Sequence[Example], length: int, *, left: bool = False) -> dict[str, Any]:
    """What goes into the model beside the tokens: pixels, and marks of the tokens that an image takes.

    Args:
        language: the model.
        examples: all with images, or all without: then there is nothing.
        length: of the padded batch; marks are padded to it with 0.
        left: padding stands on the left.
    """
    seen = [one for one in examples if isinstance(one, Seen)]
    if not seen:
        return {}
    given = _inputs(language, [one.text for one in seen], [one.image for one in seen], special=seen[0].special)
    extra: dict[str, Any] = {}
    for name, value in given.items():
        if name in _TEXT:
            continue
        if isinstance(value, Tensor) and value.ndim == 2 and value.shape == given["input_ids"].shape and not value.is_floating_point():
            padded = torch.zeros(len(seen), length, dtype=value.dtype)
            for row, one in enumerate(seen):
                own = value[row, : len(one.prompt)]
                start = length - len(one.prompt) if left else 0
                padded[row, start : start + len(own)] = own
            value = padded
        extra[name] = value.to(language.model.device) if isinstance(value, Tensor) else value
    return extra


def _marked(language: Language, question: Question, where: str) -> Question:
    """The question with the token that stands for the image before its prompt."""
    token = getattr(language.processor, "image_token", None) or getattr(language.tokenizer, "image_token", None)
    if not isinstance(token, str):
        raise InputError(f"the processor of {language.name} names no image token", where=where, mend="Use another model")
    prompt = f"{token}\n{question.prompt}"
    if not question.messages:
        return replace(question, prompt=prompt)
    last = max(place for place, turn in enumerate(question.messages) if turn["role"] == "user")
    turns = list(question.messages)
    turns[last] = {"role": "user", "content": prompt}
    return replace(question, prompt=prompt, messages=tuple(turns))


def _chat(language: Language, question: Question) -> str:
    turns = question.messages or ({"role": "user", "content": question.prompt},)
    last = max(place for place, turn in enumerate(turns) if turn["role"] == "user")
    written = [
        {"role": turn["role"], "content": [*([{"type": "image"}] if place == last else []), {"type": "text", "text": turn["content"]}]}
        for place, turn in enumerate(turns)
    ]
    made: str = language.processor.apply_chat_template(written, tokenize=False, add_generation_prompt=True)
    return made


def _inputs(language: Language, texts: list[str], images: list[str], *, special: bool) -> Any:
    from PIL import Image

    opened = []
    for path in images:
        with Image.open(path) as image:
            opened.append([image.convert("RGB")])
    return language.processor(
        images=opened, text=texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=special
    )
