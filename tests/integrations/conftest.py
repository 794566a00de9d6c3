import gc

import pytest

from tiny import make_tiny_model

pytest.importorskip("transformers")
pytest.importorskip("accelerate")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


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
