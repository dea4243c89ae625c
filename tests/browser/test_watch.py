"""The page of `rdp watch` in a browser: curves, reloading in place, and the note of a page that nobody writes."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from rdp import study
from rdp.jobs.progress import RunProgress
from rdp.report import watch_page
from rdp.store import Store
from rdp.study import Plan
from rdp.study.states import Snapshot
from tests.browser.test_access import PHONE, SERIOUS, violations

pytestmark = pytest.mark.slow


@pytest.fixture
def plan(study_content, write_study) -> Plan:
    recipe = study_content["recipe"] | {"epochs": 12}
    return study.load(write_study(study_content | {"recipe": recipe, "seeds": 4}))


@pytest.fixture
def report(plan: Plan, tmp_path: Path):
    """Report this many epochs of each run, and write the page."""
    attempts = {spec.run: Store(tmp_path).new_attempt(spec.run) for spec in plan.specs}

    def write(epochs: int, seconds: float = 0.5) -> Path:
        history = [
            {"epoch": i, "step": 10 * i, "train_loss": 2 / i, "validation_accuracy": 1 - 1 / (i + 1) if i % 2 else None}
            for i in range(1, epochs + 1)
        ]
        for run, attempt in attempts.items():
            RunProgress(run, attempt, None).update(10 * epochs + 1, 120, history)
        return watch_page.write(Snapshot(plan, tmp_path), seconds)

    return write


def test_a_run_in_training_has_two_curves_on_an_axis_of_the_whole_training(visit, report) -> None:
    page = visit(report(5, 60))
    article = page.get_by_role("article", name="vanilla, seed 0: mlp8 on spiral")
    expect(article.locator(".curve .heading")).to_have_text(["training loss", "validation accuracy"])
    expect(article.locator(".curve").first.locator(".dot")).to_have_count(5)
    expect(article.locator(".curve").last.locator(".dot")).to_have_count(3)
    assert article.locator(".curve").first.locator("text").all_text_contents()[-2:] == ["10", "epoch"]
    expect(article.get_by_role("progressbar")).to_have_js_property("value", 51)
    expect(article.locator("desc").first).to_have_text(re.compile(r"/seed-0000: 2 in epoch 1, 0.4 in epoch 5; between"))


def test_the_page_reloads_itself_in_place(visit, report) -> None:
    page = visit(report(5), viewport={"width": 1280, "height": 500})
    page.evaluate("window.scrollTo(0, 300)")
    report(6)
    expect(page.locator(".curve").first.locator(".dot")).to_have_count(6)
    assert page.evaluate("scrollY") == 300


def test_a_page_that_nobody_writes_says_so(visit, report, monkeypatch) -> None:
    expect(visit(report(5, 60)).locator("#late")).to_be_hidden()
    now = watch_page.time.time
    monkeypatch.setattr(watch_page.time, "time", lambda: now() - 300)
    note = visit(report(5, 60)).locator("#late")
    expect(note).to_be_visible()
    expect(note).to_contain_text("rdp watch small")


def test_without_scripts_it_reloads_too(browser, report) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(report(5, 1).as_uri())
        expect(page.locator("noscript p")).to_be_visible()
        report(6, 1)
        expect(page.get_by_text("step 61 of 120").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(scheme: str, visit, report) -> None:
    page = visit(report(5, 60), color_scheme=scheme)
    found = [rule for rule in violations(page) if rule["impact"] in SERIOUS]
    assert {rule["id"]: rule["nodes"][0]["html"] for rule in found} == {}


def test_on_a_phone_the_page_is_no_wider_than_the_screen(visit, report) -> None:
    page = visit(report(5, 60), viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
