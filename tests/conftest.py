"""The order of all tests, and a browser for those that look at pages."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run the workflow come first: begun last, the longest of them would leave a worker waiting."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, driven by Playwright, which starts once a process."""
    found = os.environ.get("RDP_CHROMIUM") or shutil.which("chromium")
    if not found:
        pytest.skip("no Chromium: install Debian's package chromium, or name one in RDP_CHROMIUM")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page, by its file and what follows ``#``. At the end of the test its console must be clean."""
    contexts, said = [], []

    def open_it(path: Path, address: str = "", **options: Any) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        shown = context.new_page()
        shown.set_default_timeout(5000)
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
        shown.goto(path.as_uri() + (f"#{address}" if address else ""))
        return shown

    yield open_it
    for context in contexts:
        context.close()
    assert said == []
