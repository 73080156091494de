"""Fixtures of the report: a browser, and the page of a run with evaluations of every kind."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from nas.engine.search import Outcome
from nas.report.contents import ReportSource
from nas.report.page import page as whole_page
from nas.run.folder import Run
from report_page import Watched

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is here (apt-get install chromium)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def contents(scored: Outcome) -> dict[str, Any]:
    return ReportSource.of(Run(scored.run.folder)).contents()


@pytest.fixture(scope="module")
def report(contents: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(whole_page(contents, title="run"), encoding="utf-8")
    return path


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    opened = Watched(browser)
    yield opened
    opened.context.close()
    assert opened.problems == []
    remote = [url for url in opened.requests if not re.match(r"(file|data|blob):", url)]
    assert [url for url in remote if not url.startswith("http://127.0.0.1:")] == []


@pytest.fixture
def opened(watched: Watched, report: Path) -> Page:
    page = watched.open(report)
    assert [url for url in watched.requests if url.startswith("http")] == []
    return page
