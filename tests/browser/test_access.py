"""Accessibility of the page: keyboard, screen reader, dark mode, phone, print, no scripts."""

from io import BytesIO
from typing import Any

import pypdf
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Built

pytestmark = pytest.mark.slow

PHONE = {"width": 360, "height": 740}
SERIOUS = {"serious", "critical"}


def open_all(page: Page) -> None:
    """Open one of each: a claim of a paper and one of ours, the runs behind them, a run among a few, and all else."""
    for place in ("#claim-PNNH-5", "#claim-RDP-5", ".behind", "#claims ~ section details"):
        page.locator(place).evaluate_all("found => found.forEach((details) => (details.open = true))")
    page.get_by_label("seed", exact=True).fill("3")
    page.locator("#run-table tbody a").first.click()
    expect(page.locator("#run")).to_be_visible()


def violations(page: Page, context: str | None = None) -> list[dict[str, Any]]:
    return Axe().run(page, context=context, options={"resultTypes": ["violations"]}).response["violations"]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(scheme: str, visit, built: Built) -> None:
    page = visit(built.path, color_scheme=scheme)
    open_all(page)
    found = [rule for rule in violations(page) if rule["impact"] in SERIOUS]
    assert {rule["id"]: rule["nodes"][0]["html"] for rule in found} == {}


@pytest.mark.slow
def test_axe_would_find_one(visit, built: Built) -> None:
    page = visit(built.path)
    page.evaluate("document.querySelector('#figures img').removeAttribute('alt')")
    assert "image-alt" in {rule["id"] for rule in violations(page, "#figures")}


def test_light_and_dark_follow_the_reader_and_figures_stay_on_white(visit, built: Built) -> None:
    def lightness(page: Page, place: str) -> float:
        colour = page.locator(place).first.evaluate("place => getComputedStyle(place).backgroundColor")
        return sum(int(part) for part in colour.strip("rgb()").split(",")) / 3

    light, dark = (visit(built.path, color_scheme=scheme) for scheme in ("light", "dark"))
    assert lightness(light, "body") > 250 > 40 > lightness(dark, "body")
    assert lightness(dark, "#figures .sheet") == 255


def test_a_phone_scrolls_tables_and_figures_and_never_the_page(visit, built: Built) -> None:
    page = visit(built.path, viewport=PHONE)
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    table = page.locator(".wide", has=page.locator("#run-table"))
    assert table.evaluate("place => place.scrollWidth > place.clientWidth && place.tabIndex === 0")


def test_the_first_screen_says_what_was_found_and_shows_it(visit, built: Built) -> None:
    page = visit(built.path)
    assert 3 <= len(page.locator("#found li").all()) <= 7
    for place in ("#found ul", "#found img"):
        box = page.locator(place).bounding_box()
        assert box["y"] + box["height"] < 900


def test_a_claim_and_a_column_can_be_used_by_keyboard(visit, built: Built) -> None:
    page = visit(built.path)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the claims")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#claims .claim").first).to_have_attribute("open", "")
    head = page.locator("#run-table th").nth(1)
    head.get_by_role("button").press("Space")
    expect(head).to_have_attribute("aria-sort", "ascending")


@pytest.mark.slow
def test_on_paper_claims_are_open_and_runs_are_left_to_the_files(visit, built: Built) -> None:
    page = visit(built.path)
    printed = "".join(sheet.extract_text() for sheet in pypdf.PdfReader(BytesIO(page.pdf())).pages)
    words = " ".join(printed.split())
    for claim in built.claims["claims"]:
        assert claim["tests"].split(",")[0][:40].rstrip() in words
    assert "128 runs: see records.parquet" in words
    assert "runs match" not in words
    expect(page.locator("details.claim[open]")).to_have_count(0)  # as it was before


def test_without_scripts_claims_open_and_the_runs_are_said_to_be_elsewhere(browser: Browser, built: Built) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(built.path.as_uri())
        said = page.locator("noscript p")
        assert "records.parquet" in said.text_content()
        assert said.bounding_box()["height"] > 0
        expect(page.locator("#explorer")).to_be_hidden()
        page.locator("#claim-PNNH-5 > summary").click()
        expect(page.locator("#claim-PNNH-5 table").first).to_be_visible()
