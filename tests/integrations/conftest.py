import gc
from dataclasses import replace

import pytest

from tiny import make_tiny_model

pytest.importorskip("transformers")
pytest.importorskip("accelerate")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def known(tiny):
    """40 questions whose right option is the one that the tiny model takes."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import forgetless as fl
    from forgetless.data.model import Language
    from forgetless.data.question import Question

    language = Language(AutoModelForCausalLM.from_pretrained(tiny).eval(), AutoTokenizer.from_pretrained(tiny), "tiny")
    choices = ("odd", "even", "neither")
    asked = [Question(id=f"{n}", kind="choice", prompt=f"{n} is?", choices=choices, label=0, answers=("odd",)) for n in range(40)]
    said = [choices.index(verdict.said) for verdict in fl.score(language, asked, scorer="likelihood")]
    return [replace(question, label=label, answers=(choices[label],)) for question, label in zip(asked, said, strict=True)]


@pytest.fixture(scope="session", autouse=True)
def quick_collections():
    """accelerate collects garbage at the start of every training, which walks through all that was imported: most of a tiny run."""
    import peft  # noqa: F401
    import transformers.trainer  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_telemetry(monkeypatch):
    monkeypatch.setenv("CI", "1")  # TRL tells its makers about every trainer otherwise
