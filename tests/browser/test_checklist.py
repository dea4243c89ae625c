"""Accessibility of the paper checklist."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from rdp.provenance import checklist
from tests.browser.conftest import Built
from tests.browser.test_access import PHONE, SERIOUS, violations

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def listed(built: Built) -> Path:
    """The checklist beside the page."""
    return checklist.write(built.plan, built.path.parents[2])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(scheme: str, visit, listed: Path) -> None:
    found = [rule for rule in violations(visit(listed, color_scheme=scheme)) if rule["impact"] in SERIOUS]
    assert {rule["id"]: rule["nodes"][0]["html"] for rule in found} == {}


def test_axe_would_find_one(visit, listed: Path) -> None:
    page = visit(listed)
    page.evaluate("document.querySelector('html').removeAttribute('lang')")
    assert "html-has-lang" in {rule["id"] for rule in violations(page)}


def test_a_phone_never_scrolls_it_sideways(visit, listed: Path) -> None:
    page = visit(listed, viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_page_leads_to_it_and_it_leads_to_the_evidence(visit, built: Built, listed: Path) -> None:
    page = visit(built.path)
    page.get_by_role("link", name="Paper checklist").click()
    expect(page.get_by_role("heading", level=2)).to_have_count(16)
    page.locator("#question-7").get_by_role("link", name="page: accuracy").click()
    expect(page.locator("#accuracy h2")).to_be_in_viewport()
