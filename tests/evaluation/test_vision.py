"""Questions about images on a tiny LLaVA, made on the spot: every scorer through the model's own processor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from forgetless.data.model import Language, load_model
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation import vision
from forgetless.evaluation.drift import kl_drift
from forgetless.evaluation.packaged import packaged
from forgetless.evaluation.score import score
from forgetless.evaluation.vision import Seen, example, image_inputs, with_images
from seeing import make_seeing_model


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Language:
    return load_model(str(make_seeing_model(tmp_path_factory.mktemp("seeing") / "model")), images=True)


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    questions, folder = packaged("easy-vqa", 12)
    return with_images(questions, folder)


def inputs(language: Language, question: Question) -> dict[str, torch.Tensor]:
    """What the model is given, straight from its processor."""
    from PIL import Image

    with Image.open(str(question.image)) as image:
        text = f"Question: <image>\n{question.prompt}\nAnswer:"
        return dict(language.processor(images=image.convert("RGB"), text=text, return_tensors="pt"))


def test_exact_is_greedy_decoding_with_the_image(seeing: Language, asked: list[Question]) -> None:
    said = []
    for question in asked:
        given = inputs(seeing, question)
        with torch.no_grad():
            said.append(seeing.tokenizer.decode([int(seeing.model(**given).logits[0, -1].argmax())]).strip())
    words = [text if n % 2 and "<" not in text else "red" for n, text in enumerate(said)]
    own = [replace(question, answers=(word,)) for question, word in zip(asked, words, strict=True)]
    expected = [text == q.answers[0] for q, text in zip(own, said, strict=True)]
    for size in (1, 5):
        verdicts = score(seeing, own, scorer="exact", template="qa", batch_size=size)
        assert [verdict.right for verdict in verdicts] == expected
    assert any(expected) and len(set(said)) > 1


def test_likelihood_and_generation_see_the_image(seeing: Language, asked: list[Question]) -> None:
    question = asked[0]
    other = next(q.image for q in asked if q.image != question.image)
    choice = replace(question, kind="choice", choices=("red", "blue", "yes"), label=0, answers=("red",))
    for scorer, one in (("likelihood", choice), ("perplexity", question)):
        values = [score(seeing, [replace(one, image=image)], scorer=scorer, template="qa")[0].value for image in (question.image, other)]
        assert values[0] != pytest.approx(values[1], abs=1e-5)
    given = inputs(seeing, question)
    with torch.no_grad():
        whole = seeing.model.generate(**given, max_new_tokens=13, do_sample=False)[0, given["input_ids"].shape[1] :]
    said = score(seeing, [question, *asked[1:4]], scorer="free-text", template="qa", batch_size=4)[0].said
    assert said == seeing.tokenizer.decode(whole, skip_special_tokens=True)  # one token of the answer and 12 more


def test_questions_with_and_without_images_go_together(seeing: Language, asked: list[Question]) -> None:
    bare = [replace(question, image=None) for question in asked[:3]]
    mixed = [asked[0], bare[0], asked[1], bare[1], bare[2]]
    together = score(seeing, mixed, scorer="perplexity", template="qa", batch_size=8)
    alone = [score(seeing, [question], scorer="perplexity", template="qa")[0] for question in mixed]
    assert [v.value for v in together] == pytest.approx([v.value for v in alone], rel=1e-3)


def test_the_prompt_holds_the_places_of_the_image(seeing: Language, asked: list[Question]) -> None:
    made = example(seeing, asked[0], "red", "qa")
    assert isinstance(made, Seen) and list(made.prompt) == inputs(seeing, asked[0])["input_ids"][0].tolist()
    with pytest.raises(InputError, match="with its image, the model takes 256"):
        example(seeing, replace(asked[0], prompt="red " * 300), "red", "qa")


@pytest.mark.parametrize("template", ["qa", "chat"])
def test_the_marks_of_an_image_are_of_the_text_as_it_was_tokenized(
    seeing: Language, asked: list[Question], monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    turns = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    turns += "{{ '<image> ' if c.type == 'image' else c.text }}{% endfor %}{% endif %}{% endfor %} Answer :"
    for holder in (seeing.processor, seeing.tokenizer):
        monkeypatch.setattr(holder, "chat_template", turns)
    used: list[bool] = []
    monkeypatch.setattr(vision, "_inputs", lambda *a, real=vision._inputs, **k: (used.append(k["special"]), real(*a, **k))[1])
    one = example(seeing, asked[0], "red", template)
    given = image_inputs(seeing, [one], len(one))
    assert isinstance(one, Seen) and used == [template == "qa"] * 2 == [one.special] * 2 and "pixel_values" in given


def test_drift_of_a_model_to_itself_is_none(seeing: Language, asked: list[Question]) -> None:
    assert kl_drift(seeing, seeing, asked[:4], "qa") == [0.0] * 4


def test_a_model_of_text_alone_refuses_images(tiny: Language, asked: list[Question]) -> None:
    with pytest.raises(InputError, match="it has an image"):
        score(tiny, asked[:1], template="qa")


def test_a_model_of_text_alone_is_not_loaded_for_images(tiny: Language) -> None:
    with pytest.raises(InputError, match=r"takes no images|cannot be loaded"):
        load_model(tiny.name, images=True)


@pytest.mark.parametrize("content", [None, b"", b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    question = Question("1", "open", "p", ("a",), image="a.png", where="f.jsonl:7")
    with pytest.raises(InputError, match=r"f.jsonl:7: .*a.png (does not exist|is not an image)"):
        with_images([question], tmp_path)
