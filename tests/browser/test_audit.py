"""The audit's page is accessible, fits a phone, and escapes external text."""

from pathlib import Path

import pytest

from rdp.audit import findings
from rdp.audit.findings import Audit, Check
from tests.browser.conftest import OUTSIDE
from tests.browser.test_access import PHONE, SERIOUS, violations

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with findings and notes."""
    check = Check("records", "Every record is whole.", "run", checked=2)
    check.find(f"results/store/{'a-long-cell-' * 8}/seed-0000/record.json", OUTSIDE)
    check.notes.append(OUTSIDE)
    about = {"study": "planted", "title": OUTSIDE, "audited": "2020-01-01T00:00:00Z", "recorded": True, "retrain": 2}
    about |= {
        "sample": OUTSIDE,
        "checkout": "0123456789ab+",
        "system": "a system",
        "versions": {"residual-droppath": "1", "torch": "2"},
    }
    path = tmp_path_factory.mktemp("audit") / "index.html"
    path.write_text(findings.render(Audit(about, [check, Check("data", "Every dataset is whole.", "dataset")])))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(scheme: str, visit, written: Path) -> None:
    found = [rule for rule in violations(visit(written, color_scheme=scheme)) if rule["impact"] in SERIOUS]
    assert {rule["id"]: rule["nodes"][0]["html"] for rule in found} == {}


def test_findings_are_shown_as_text(visit, written: Path) -> None:
    shown = visit(written)
    assert shown.locator("h1").inner_text() == "1 finding"
    assert OUTSIDE in shown.locator("#findings").inner_text()
    assert OUTSIDE in shown.locator("#notes").inner_text()
    assert shown.evaluate("window.entered") is None


def test_a_phone_never_scrolls_the_page(visit, written: Path) -> None:
    assert visit(written, viewport=PHONE).evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
