"""A page in a real browser: the system's Chromium, driven by Playwright, with nothing from outside."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from rdp.report import page
from rdp.study import Plan

from . import planted

NAME = "<script>window.entered = 1<!--"
OUTSIDE = "</script><script>window.entered = 1</script><!-- & 'quoted'"


class Built(NamedTuple):
    """A page, the study it is of, and the claims that it shows."""

    path: Path
    plan: Plan
    claims: dict[str, Any]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The page of a planted study, with text from outside that would be markup, were it not escaped."""
    folder = tmp_path_factory.mktemp("page")
    # Study files refuse such a name already; the page does not rely on it.
    plan = replace(planted.make_plan(folder, title=OUTSIDE), name=NAME)
    table = planted.make_records(plan, folder)
    table.loc[0, ["status", "accuracy", "test_accuracy", "reason"]] = ["diverged", 0.1, 0.1, OUTSIDE]
    table.loc[1, ["status", "accuracy", "test_accuracy", "reason"]] = ["missing", float("nan"), float("nan"), OUTSIDE]
    history = planted.make_history(table)
    loaded = planted.save(plan, folder, table, history[history["run"] != table["run"][1]])
    claims = planted.save_claims(loaded)
    return Built(page.write(plan, folder), plan, claims)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
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
