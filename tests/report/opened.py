"""A page open in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Opened:
    """A page open in a browser, with what it logged and asked for."""

    def __init__(self, browser: Any, report: Path, width: int = 1400, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.logged: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.logged.append(message.text))
        self.page.on("pageerror", lambda error: self.logged.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(report.as_uri())

    def shown(self) -> int:
        """How many items the status line counts."""
        text = self.page.inner_text("#item-status")
        return 0 if text == "No item matches." else int(text.split(" of ")[1].replace(",", ""))
