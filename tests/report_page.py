"""What tests of the report's page use: a page that is watched, and what is selected on it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

# A loaded machine may take its time; no test asserts how long anything took.
PATIENCE = 60_000


class Watched:
    """A page whose requests, errors and warnings are recorded."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1300, "height": 950}, **options)
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def open(self, path: Path) -> Page:
        self.context.set_offline(True)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#chart .point")
        return self.page


def selected(page: Page) -> str:
    """Id of the architecture that is shown."""
    return page.locator("#architecture-body h3").first.inner_text()


def index_of(page: Page, arch: str) -> int:
    return int(page.evaluate("id => report.ids.indexOf(id)", arch))


def until(page: Page, condition: str) -> None:
    """Wait for a condition; the page's policy forbids the browser to evaluate one by itself."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"never: {condition}"
        page.wait_for_timeout(100)


def click_point(page: Page, index: int) -> None:
    """Click at the position of a point."""
    x, y = page.evaluate("index => frontier.pixel(index)", index)
    page.locator("#plot").click(position={"x": x, "y": y})
