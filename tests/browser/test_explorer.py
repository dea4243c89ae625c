"""The runs explorer: filters, sorting, the panel of a run and its address."""

from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import OUTSIDE, Built

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table(built: Built) -> pd.DataFrame:
    return pd.read_parquet(built.path.parent.parent / "records.parquet")


def shown(page: Page, column: int) -> list[str]:
    return page.locator(f"#run-table tbody tr > :nth-child({column})").all_inner_texts()


def test_ten_runs_are_shown_then_a_hundred_more_and_then_the_others(visit, built: Built, table: pd.DataFrame) -> None:
    page = visit(built.path, "runs")
    rows = page.locator("#run-table tbody tr")
    expect(rows).to_have_count(10)
    expect(page.locator("#matches")).to_have_text("128 of 128 runs match; the first 10 are shown.")
    page.get_by_role("button", name="Show 100 more of 118").click()
    expect(rows).to_have_count(110)
    page.get_by_role("button", name="Show 18 more").click()
    expect(rows).to_have_count(len(table))
    expect(page.locator("#more")).to_be_hidden()
    assert shown(page, 2) == [str(seed) for seed in table["seed"]]


@pytest.mark.parametrize("name", ["architecture", "dataset", "method", "status"])
def test_a_select_keeps_the_runs_that_have_it(name: str, visit, built: Built, table: pd.DataFrame) -> None:
    page = visit(built.path, "runs")
    select = page.get_by_role("combobox", name=name, exact=True)
    values = select.locator("option").all_inner_texts()
    assert values == ["all", *table[name].unique()]
    select.select_option(values[-1])
    expect(page.locator("#matches")).to_contain_text(f"{(table[name] == values[-1]).sum()} of 128 runs match")
    place = {"method": 1, "architecture": 3, "dataset": 4, "status": 5}[name]
    assert {text.split(",")[0].strip() for text in shown(page, place)} == {values[-1]}


def test_filters_narrow_each_other_and_are_cleared_together(visit, built: Built) -> None:
    page = visit(built.path, "runs")
    page.get_by_label("dataset").select_option("digits")
    page.get_by_label("seed", exact=True).fill("3")
    expect(page.locator("#matches")).to_have_text("8 of 128 runs match.")
    page.get_by_label("text").fill("PLAIN-")
    expect(page.locator("#matches")).to_have_text("2 of 128 runs match.")
    page.get_by_label("seed", exact=True).fill("33")
    expect(page.locator("#matches")).to_have_text("0 of 128 runs match.")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#matches")).to_contain_text("128 of 128")


def test_a_column_sorts_both_ways_with_what_is_not_known_last(visit, built: Built, table: pd.DataFrame) -> None:
    page = visit(built.path, "runs")
    head = page.locator("#run-table th", has_text="test accuracy")
    for direction, ascending in (("ascending", True), ("descending", False)):
        head.get_by_role("button").click()
        expect(head).to_have_attribute("aria-sort", direction)
        while page.locator("#more").is_visible():
            page.locator("#more").click()
        found = shown(page, 6)
        known = table["accuracy"].dropna().sort_values(ascending=ascending)
        assert found == [*(f"{100 * value:.2f} %" for value in known), "\u2013"]
    assert page.locator("#run-table th[aria-sort]").count() == 1


def test_a_run_shows_its_curve_its_specification_and_its_record(visit, built: Built, table: pd.DataFrame) -> None:
    row, spec = table.iloc[5], next(cell for cell in built.plan.cells if cell.id == table["cell"][5]).specs[5]
    page = visit(built.path, f"run={row.run}")
    panel = page.get_by_role("article", name=f"{row.method}, seed {row.seed}: {row.architecture} on {row.dataset}")
    expect(panel).to_be_focused()
    words = dict(zip(panel.locator("dt").all_inner_texts(), panel.locator("dd").all_inner_texts(), strict=True))
    assert words["test accuracy"] == f"{100 * row.accuracy:.2f} %"
    assert words["record digest"] == row.digest[:12]
    assert words["data digest"] == row.data_digest[:12]
    assert words["recipe.batch_size"] == str(spec.recipe.batch_size)
    assert words["seed"] == "5"
    expect(panel).to_contain_text(f"results/store/{row.run}/")
    loss = panel.get_by_role("img", name="training loss")
    first, last = (2.3456789 / epoch + 0.05 for epoch in (1, 12))
    expect(loss).to_have_accessible_name(
        f"training loss training loss of {row.run}: {first:.4g} in epoch 1, "
        f"{last:.4g} in epoch 12; between {last:.4g} and {first:.4g}."
    )
    assert loss.locator("circle").count() == 12
    assert panel.get_by_role("img", name="validation accuracy").locator("circle").count() == 3


def test_a_run_opens_by_keyboard_and_closes_to_where_it_was(visit, built: Built) -> None:
    page = visit(built.path, "runs")
    link = page.locator("#run-table tbody a").nth(2)
    link.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#run")).to_be_focused()
    page.locator("#run").get_by_role("link", name="Close").press("Enter")
    expect(page.locator("#run")).to_be_hidden()
    expect(link).to_be_focused()
    page.go_back()
    expect(page.locator("#run")).to_be_visible()


def test_a_run_without_numbers_says_so(visit, built: Built, table: pd.DataFrame) -> None:
    page = visit(built.path, f"run={table['run'][1]}")
    expect(page.locator("#run")).to_contain_text("This run has no curves.")
    expect(page.locator("#run dd").nth(1)).to_have_text(OUTSIDE)
    page.goto(built.path.as_uri() + "#run=nothing/seed-0000")
    expect(page.locator("#run")).to_contain_text("no run nothing/seed-0000")


def test_what_comes_from_outside_stays_text(visit, built: Built) -> None:
    page = visit(built.path)
    expect(page.locator("h1")).to_have_text(OUTSIDE)
    assert page.title().startswith(OUTSIDE)
    page.get_by_label("text").fill("window.entered")
    expect(page.locator("#matches")).to_have_text("2 of 128 runs match.")
    page.locator("#run-table tbody a").first.click()
    expect(page.locator("#run dd").nth(1)).to_have_text(OUTSIDE)
    assert page.evaluate("window.entered") is None


def test_the_policy_lets_no_other_script_or_image_in(browser: Browser, built: Built, tmp_path: Path) -> None:
    marked = tmp_path / "marked.html"
    added = '<script>window.entered = 1</script><img src="https://example.invalid/image.png" alt="">'
    marked.write_text(built.path.read_text().replace("</main>", f"{added}</main>"))
    with browser.new_context() as context:
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.goto(marked.as_uri())
        expect(page.locator("#matches")).to_contain_text("128 of 128")  # its own script runs
        assert page.evaluate("window.entered") is None
    assert len(said) == 2
    assert all("Content Security Policy" in message for message in said)
