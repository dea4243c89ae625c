"""The checklist's answers follow from the records, and change with them."""

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rdp import data
from rdp.provenance import checklist, crate
from rdp.provenance.checklist import NA, NO, UNPROVABLE, YES, Answer
from rdp.report import contents, facts
from rdp.study import Plan
from rdp.tables import Tables, collect
from tests.browser.planted import save_claims

Answers = dict[str, Answer]
Ask = Callable[..., Answers]


@pytest.fixture
def ask(tabled: Tables) -> Ask:
    """Return the answers after a change of the records; with ``decide``, the verdicts follow the change."""
    save_claims(tabled)

    def given(change: Callable[[pd.DataFrame], None] = lambda table: None, *, decide: bool = False) -> Answers:
        table = tabled.records.copy()
        change(table)
        collect.save(tabled.plan.name, tabled.results, table, tabled.history, tabled.sweep)
        if decide:
            save_claims(replace(tabled, records=table))
        return checklist.answers(facts.gather(tabled.plan, tabled.results))

    return given


def said(answer: Answer) -> str:
    return " ".join(answer.because)


def test_the_sixteen_questions_are_in_order(ask: Ask) -> None:
    names = [row["name"] for row in contents.texts("checklist")]
    assert len(names) == len(ask()) == 16
    words = ("Claims", "Limitations", "Theory", "Reproducib", "Open access", "setting", "significance", "Compute")
    words += ("ethics", "impacts", "Safeguards", "Licences", "New assets", "Crowdsourcing", "board", "language models")
    assert all(word in name for word, name in zip(words, names, strict=True))


def test_numbers_come_from_the_records(ask: Ask) -> None:
    given = ask()
    # 2 datasets, 4 methods, 8 seeds; a run takes 2.5 s and a quarter more with each seed: 8 x 27 s.
    assert "64 runs took 4 min together, 3.4 s in the median and 4.2 s at most, each with 1 thread." in said(
        given["Compute resources"]
    )
    assert "2.5 GB of memory at most" in said(given["Compute resources"])
    assert "64 runs on a machine." in given["Compute resources"].because
    assert "over 8 seeds" in said(given["Statistical significance"])
    assert "commit abcdef123456" in said(given["Reproducibility of the experiments"])
    assert "digits 719 / 359 / 719; fashion_mnist_14 55,000 / 5,000 / 10,000" in said(given["Experimental setting"])
    assert "No network has more than 269,434 parameters, and no run took more than 132 steps." in said(
        given["Limitations"]
    )
    double = ask(lambda table: table.__setitem__("seconds", 2 * table["seconds"]))
    assert "64 runs took 7 min together" in said(double["Compute resources"])


def test_unprovable_answers_say_so(ask: Ask) -> None:
    unprovable = [name for name, answer in ask().items() if answer.word == UNPROVABLE]
    assert unprovable == [
        "Open access to data and code",
        "Code of ethics",
        "Broader impacts",
        "Safeguards",
        "Crowdsourcing and people as subjects",
        "Approval by a review board",
        "Use of language models",
    ]


def test_one_seed_gives_no_error_bars(ask: Ask) -> None:
    assert ask()["Statistical significance"].word == YES

    def one_seed(table: pd.DataFrame) -> None:
        table.loc[table["seed"] > 0, ["status", "accuracy"]] = ["missing", np.nan]

    answer = ask(one_seed)["Statistical significance"]
    assert answer.word == NO
    assert "8 of 8 cells have fewer than two runs with an accuracy" in said(answer)

    def one_cell_with_one_seed(table: pd.DataFrame) -> None:
        rest = (table["seed"] > 0) & (table["method"] == "plain") & (table["dataset"] == "digits")
        table.loc[rest, ["status", "accuracy"]] = ["missing", np.nan]

    answer = ask(one_cell_with_one_seed)["Statistical significance"]
    assert answer.word == NO
    assert "1 of 8 cells has fewer than two runs with an accuracy" in said(answer)
    assert "plain (resnet20 on digits)" in said(answer)


@pytest.mark.parametrize("status", ["missing", "failed"])
def test_runs_without_a_number_are_named(ask: Ask, status: str) -> None:
    assert ask()["Reproducibility of the experiments"].word == YES

    def lose(table: pd.DataFrame) -> None:
        table.loc[3, ["status", "accuracy", "reason"]] = [status, np.nan, "planted"]

    given = ask(lose)
    answer = given["Reproducibility of the experiments"]
    assert answer.word == NO
    assert f"1 of 64 runs left no number: resnet20/digits/vanilla, seed 3, {status}." in said(answer)
    assert f"resnet20/digits/vanilla, seed 3, {status}" in said(given["Limitations"])


def test_a_diverged_run_is_a_result(ask: Ask) -> None:
    def diverge(table: pd.DataFrame) -> None:
        table.loc[3, ["status", "accuracy"]] = ["diverged", 0.1]

    given = ask(diverge)
    assert given["Reproducibility of the experiments"].word == YES
    assert "1 run diverged and counts at chance." in said(given["Statistical significance"])


@pytest.mark.parametrize(
    ("commit", "reason"), [("abcdef123456+", "uncommitted changes (abcdef123456+)"), (None, "is not known")]
)
def test_unknown_or_uncommitted_code_is_not_reproducible(ask: Ask, commit: str | None, reason: str) -> None:
    answer = ask(lambda table: table.__setitem__("commit", commit))["Reproducibility of the experiments"]
    assert answer.word == NO
    assert reason in said(answer)


def test_the_command_that_retrains_depends_on_the_origin(ask: Ask, tabled: Tables) -> None:
    assert "(rdp audit planted --retrain 3)" in said(ask()["Reproducibility of the experiments"])
    recorded = facts.gather(tabled.plan, tabled.results) | {"recording": ["Recorded."]}
    answer = checklist.answers(recorded)["Reproducibility of the experiments"]
    assert "audit --config study=planted records=recorded retrain=3)" in said(answer)


def test_a_run_without_a_time_leaves_the_cost_open(ask: Ask) -> None:
    def forget(table: pd.DataFrame) -> None:
        table.loc[:1, "seconds"] = np.nan

    answer = ask(forget)["Compute resources"]
    assert answer.word == NO
    assert "2 runs with a record, but without its device or time." in said(answer)
    assert ask(lambda table: table.__setitem__("seconds", np.nan))["Compute resources"].because == [
        "No record gives its device and time."
    ]


@pytest.mark.parametrize("licence", ["none stated by its authors", "unknown", ""])
def test_a_dataset_without_a_licence_is_named(ask: Ask, licence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask()["Licences of what is used"].word == YES
    info = replace(data.info("digits"), licence=licence)
    monkeypatch.setitem(data.source("digits").DATASETS, "digits", info)
    answer = ask()["Licences of what is used"]
    assert answer.word == NO
    assert "The terms of digits are not known." in said(answer)


def test_a_dataset_that_needs_a_permission_is_not_open(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(data.source("digits"), "BUNDLED")
    monkeypatch.setitem(data.source("digits").DATASETS, "digits", replace(data.info("digits"), get="ask the authors"))
    answer = ask()["Open access to data and code"]
    assert answer.word == NO
    assert "No command downloads digits. To get it: ask the authors." in said(answer)


def test_claims_are_counted_by_kind_and_late_ones_named(ask: Ask) -> None:
    answer = ask()["Claims"]
    assert answer.word == YES
    assert "On confirmatory data (fashion_mnist_14): " in said(answer)
    assert "On exploratory data (digits): " in said(answer)
    assert re.search(r"The text of [A-Z0-9, -]+ and [A-Z]+-\d+ is newer than runs that decide it", said(answer))
    nothing = ask(lambda table: table.__setitem__("spec_digest", None))
    assert nothing["New assets"].word == NA

    def later(table: pd.DataFrame) -> None:
        table["started"] = "2999-01-01T00:00:00Z"

    assert "older than the first run" in said(ask(later, decide=True)["Claims"])


def test_without_tests_nothing_is_claimed(ask: Ask) -> None:
    def lose(table: pd.DataFrame) -> None:
        table["status"] = "missing"
        table[["accuracy", "parameters", "training_flops", "seconds", "steps"]] = np.nan
        table[["spec_digest", "commit", "device"]] = None

    given = ask(lose, decide=True)
    assert given["Claims"].word == NA
    assert given["Reproducibility of the experiments"].word == NO
    assert given["Compute resources"].word == NO


def links(page: Path) -> list[str]:
    return [unescape(href) for href in re.findall('href="([^"]*)"', page.read_text())]


def anchors(page: Path) -> set[str]:
    return set(re.findall(' id="([^"]*)"', page.read_text()))


def test_every_link_leads_to_evidence(plan: Plan, results: Path) -> None:
    packed = crate.write(plan, results).parent
    for page in (checklist.write(plan, results), packed / "report" / "checklist.html"):
        hrefs = links(page)
        assert len(hrefs) > 30
        for href in hrefs:
            file, _, section = href.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), href
            assert not section or section in anchors(target), href
        assert "index.html#accuracy" in hrefs
        assert "../claims.json" in hrefs
    assert "checklist.html" in links(results / plan.name / "report" / "index.html")
    inside = [
        (packed / "report" / href.partition("#")[0]).resolve() for href in links(packed / "report/checklist.html")
    ]
    assert all(path.is_relative_to(packed.resolve()) for path in inside)


def test_its_bytes_do_not_depend_on_the_location(plan: Plan, results: Path) -> None:
    original = plan.file.parent / plan.name / "report" / "checklist.html"
    assert checklist.write(plan, results).read_bytes() == original.read_bytes()


def test_outside_text_is_escaped(tabled: Tables, tmp_path: Path, ask: Ask) -> None:
    def lose(table: pd.DataFrame) -> None:
        table["commit"] = "<script>alert(1)</script>"

    ask(lose)
    text = checklist.write(tabled.plan, tmp_path).read_text()
    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text
