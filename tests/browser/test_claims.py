"""The claims on the page, with verdicts and evidence, are those of claims.json."""

from itertools import chain

import pytest
from playwright.sync_api import Locator, Page, expect

from rdp.claims.model import KINDS
from rdp.report import formatting
from tests.browser.conftest import Built

pytestmark = pytest.mark.slow

HEADINGS = {
    "ResidualDroppath arXiv 2411.09475": "2411.09475",
    "Plain Neural Net Hypothesis arXiv 2402.08645": "2402.08645",
    "Claims of this project": None,
}


def text_of(place: Locator) -> str:
    return " ".join(place.inner_text().split())


def tables(page: Page, claim: str) -> list[list[Locator]]:
    """Of an open claim, the rows of each table of comparisons."""
    return [table.locator("tbody tr:not(.group)").all() for table in page.locator(f"#claim-{claim} table").all()]


def test_each_claim_shows_both_verdicts_and_the_stronger_evidence(visit, built: Built) -> None:
    page = visit(built.path)
    assert len(built.claims["claims"]) == 12
    page.locator(".untested > summary").click()
    for claim in built.claims["claims"]:
        summary = page.locator(f"#claim-{claim['name']} > summary")
        verdicts = {kind: claim["verdicts"][kind] for kind in KINDS}
        assert text_of(summary.locator(".title")) == claim["title"]
        badges = [text_of(badge).replace(" :", ":") for badge in summary.locator(".badge").all()]
        scale = {"supported": " at this scale", "refuted": " at this scale"}
        said = {kind: f"{kind}: {v['verdict']}{scale.get(v['verdict'], '')}" for kind, v in verdicts.items()}
        known = [text for kind, text in said.items() if verdicts[kind]["verdict"] != "not tested"]
        assert badges == (known or [*said.values()])
        tested = [kind for kind in KINDS if verdicts[kind]["verdict"] != "not tested"]
        compared = [kind for kind in KINDS if verdicts[kind]["comparisons"]]
        kind = (*tested, *compared, KINDS[1])[0]
        assert text_of(summary.locator(".line")) == f"{kind.capitalize()}. {verdicts[kind]['line']}"
    shown = {claim["verdicts"][kind]["verdict"] for claim in built.claims["claims"] for kind in KINDS}
    assert {"supported", "not tested"} < shown  # so that the two are told apart above


def test_claims_that_the_study_does_not_test_are_one_line(visit, built: Built) -> None:
    page = visit(built.path)
    names = [
        claim["name"]
        for claim in built.claims["claims"]
        if all(claim["verdicts"][kind]["verdict"] == "not tested" for kind in KINDS)
    ]
    by_paper = sorted(names, key=lambda name: name == "RDP-5")  # ours come last
    assert text_of(page.locator(".untested > summary")) == f"Not tested by this study: {', '.join(by_paper)}"
    assert [place.get_attribute("id") for place in page.locator(".untested .claim").all()] == [
        f"claim-{name}" for name in by_paper
    ]


def test_claims_are_grouped_by_paper_and_ours_are_separate(visit, built: Built) -> None:
    page = visit(built.path)
    papers = {
        claim["name"]: claim["source"]["paper"]
        for claim in built.claims["claims"]
        if any(claim["verdicts"][kind]["verdict"] != "not tested" for kind in KINDS)
    }
    found = {}
    for place in page.locator("#claims > h3, #claims > .claim").all():
        if place.evaluate("place => place.tagName") == "H3":
            paper = HEADINGS[text_of(place)]
        else:
            name = place.get_attribute("id").removeprefix("claim-")
            found[name] = paper
            assert place.locator("summary .mark", has_text="ours").count() == (paper is None)
    assert found == papers
    assert list(found) == sorted(found, key=lambda name: (papers[name] is None, [*papers].index(name)))
    assert None in papers.values()


def test_an_open_claim_shows_the_numbers_of_claims_json(visit, built: Built) -> None:
    page = visit(built.path)
    page.locator(".untested > summary").click()
    for claim in built.claims["claims"]:
        page.locator(f"#claim-{claim['name']} > summary").click()
        parts = [claim["verdicts"][kind][part] for kind in KINDS for part in ("comparisons", "beside")]
        expected = [known for rows in parts if (known := [c for c in rows if c["outcome"] != "absent"])]
        absent = {(c["what"], c["reason"]) for c in chain(*parts) if c["outcome"] == "absent"}
        said = page.locator(f"#claim-{claim['name']} .without").all_inner_texts()
        assert all(any(what in text and reason in text for text in said) for what, reason in absent)
        found = tables(page, claim["name"])
        assert [len(rows) for rows in found] == [len(rows) for rows in expected]
        for row, c in zip(chain(*found), chain(*expected), strict=True):
            texts = [" ".join(text.split()) for text in row.locator("th, td").all_inner_texts()]
            above = "xpath=preceding-sibling::tr[@class='group']"
            assert text_of(row.locator(above).last) == c["setting"]
            assert texts[:3] == [c["what"], c["outcome"], c["effect"]]
            assert texts[4] == str(c["n"])
            shares = [c[name] for name in ("p_holm", "p_contrary_holm", "p_sign_flip")] if not c["reason"] else []
            exact = [number for number in (*shares, c["size"], c["detectable"]) if number is not None]
            shown = [data.get_attribute("value") for data in row.locator("data").all()]
            assert [float(value) for value in shown] == exact
            assert texts[5] == formatting.p(c, "p_holm")


def test_confirmatory_and_exploratory_are_never_in_one_table(visit, built: Built) -> None:
    page = visit(built.path, "claim-PNNH-5")
    for kind, dataset in zip(KINDS, ("fashion_mnist_14", "digits"), strict=True):
        part = page.locator(f"section[aria-label='PNNH-5, {kind}']")
        settings = part.locator("table .group th").all_inner_texts()
        assert len(settings) == 2
        assert all(setting.endswith(f"on {dataset}") for setting in settings)


def test_runs_that_began_before_the_claim_was_worded_are_counted(visit, built: Built) -> None:
    page = visit(built.path)
    late = {claim["name"]: claim["runs_before_it"] for claim in built.claims["claims"]}
    assert late["PNNH-5"] == 2 * 2 * 8 - 1 - 1  # on digits: two networks, two methods, eight seeds; one has no pair
    assert late["PNNH-1"] == 0
    expect(page.locator("#claim-PNNH-5 summary .late")).to_have_text(f"{late['PNNH-5']} runs began before this wording")
    page.locator("#claim-PNNH-5 > summary").click()
    expect(page.locator("#claim-PNNH-5 .about .late")).to_contain_text(f"{late['PNNH-5']} runs of this claim began")
    expect(page.locator("#claim-PNNH-1 .late")).to_have_count(0)


def test_a_claim_opens_to_its_figure_which_the_file_holds_once(visit, built: Built) -> None:
    page = visit(built.path)
    figure = page.locator("#claim-PNNH-5 .of-claim img")
    expect(figure).to_have_count(0)
    page.locator("#claim-PNNH-5 > summary").click()
    expect(figure).to_be_visible()
    assert figure.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert figure.get_attribute("src") == page.locator("#figure-differences img").get_attribute("src")
    links = page.locator("#claim-PNNH-5 .of-claim a").evaluate_all("links => links.map(link => link.hash)")
    assert links == ["#figure-differences", "#figure-accuracy_by_depth", "#figure-accuracy"]
    assert all(page.locator(link).count() == 1 for link in links)


def test_a_run_of_a_claim_leads_into_the_explorer_and_back(visit, built: Built) -> None:
    page = visit(built.path, "claim-PNNH-5")
    page.locator("#claim-PNNH-5 .behind > summary").first.click()
    link = page.locator("#claim-PNNH-5 .behind a").first
    run = built.claims["claims"][9]["verdicts"]["confirmatory"]["comparisons"][0]["runs"][0][0]
    assert link.get_attribute("href") == f"#run={run}"
    link.click()
    expect(page.locator("#run")).to_contain_text(f"results/store/{run}/")
    page.go_back()
    expect(page.locator("#run")).to_be_hidden()
