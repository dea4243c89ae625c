"""The checklist says what the records say, and another thing where they say another."""

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rdp import data
from rdp.provenance import answers, checklist, crate, evidence, experiments
from rdp.provenance.answer import NA, NO, UNPROVABLE, YES, Answer
from rdp.study import Plan
from rdp.tables import Tables, collect
from tests.browser.planted import save_claims

Answers = dict[str, Answer]
Ask = Callable[..., Answers]


@pytest.fixture
def ask(tabled: Tables) -> Ask:
    """The answers by the questions' names, after something was done to the records; verdicts follow where asked to."""
    save_claims(tabled)

    def given(change: Callable[[pd.DataFrame], None] = lambda table: None, *, decide: bool = False) -> Answers:
        table = tabled.records.copy()
        change(table)
        collect.save(tabled.plan.name, tabled.results, table, tabled.history, tabled.sweep)
        if decide:
            save_claims(replace(tabled, records=table))
        found = answers.answers(evidence.gather(tabled.plan, tabled.results))
        return {row["name"]: answer for row, answer in zip(checklist.questions(), found, strict=True)}

    return given


def said(answer: Answer) -> str:
    return " ".join(answer.because)


def test_there_are_the_sixteen_questions_in_their_order(ask: Ask) -> None:
    names = [row["name"] for row in checklist.questions()]
    assert len(names) == len(ask()) == 16
    words = ("Claims", "Limitations", "Theory", "Reproducib", "Open access", "setting", "significance", "Compute")
    words += ("ethics", "impacts", "Safeguards", "Licences", "New assets", "Crowdsourcing", "board", "language models")
    assert all(word in name for word, name in zip(words, names, strict=True))


def test_numbers_come_from_the_records(ask: Ask) -> None:
    given = ask()
    # 2 datasets, 4 methods, 8 seeds; a run takes 2.5 s and a quarter more with each seed: 8 x 27 s.
    assert "64 runs took 4 minutes together, 3.4 s in the median and 4.2 s at most, each with 1 thread." in said(
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
    assert "64 runs took 7 minutes together" in said(double["Compute resources"])


def test_what_records_cannot_prove_is_said_to_be_so(ask: Ask) -> None:
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

    def alone(table: pd.DataFrame) -> None:
        table.loc[table["seed"] > 0, ["status", "accuracy"]] = ["missing", np.nan]

    answer = ask(alone)["Statistical significance"]
    assert answer.word == NO
    assert "No cell has two runs with an accuracy" in said(answer)

    def one_cell_alone(table: pd.DataFrame) -> None:
        rest = (table["seed"] > 0) & (table["method"] == "plain") & (table["dataset"] == "digits")
        table.loc[rest, ["status", "accuracy"]] = ["missing", np.nan]

    answer = ask(one_cell_alone)["Statistical significance"]
    assert answer.word == NO
    assert "1 of 8 cells has no two runs with an accuracy" in said(answer)
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
    ("commit", "told"), [("abcdef123456+", "changes that are in no commit (abcdef123456+)"), (None, "is not known")]
)
def test_code_that_nobody_can_get_is_not_reproducible(ask: Ask, commit: str | None, told: str) -> None:
    answer = ask(lambda table: table.__setitem__("commit", commit))["Reproducibility of the experiments"]
    assert answer.word == NO
    assert told in said(answer)


def test_it_says_how_to_train_again_what_is_recorded(ask: Ask, tabled: Tables) -> None:
    assert "(rdp audit planted --retrain 3)" in said(ask()["Reproducibility of the experiments"])
    found = replace(evidence.gather(tabled.plan, tabled.results), recording=["Recorded."])
    told = said(experiments.reproducibility(found))
    assert "audit --config study=planted records=recorded retrain=3)" in told


def test_a_run_that_told_no_time_leaves_the_cost_open(ask: Ask) -> None:
    def forget(table: pd.DataFrame) -> None:
        table.loc[:1, "seconds"] = np.nan

    answer = ask(forget)["Compute resources"]
    assert answer.word == NO
    assert "2 runs with a record told no device or no time." in said(answer)
    assert ask(lambda table: table.__setitem__("seconds", np.nan))["Compute resources"].because == [
        "No run has told its device and its time."
    ]


@pytest.mark.parametrize("licence", ["none stated by its authors", "unknown", ""])
def test_a_dataset_without_a_licence_is_named(ask: Ask, licence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask()["Licences of what is used"].word == YES
    info = replace(data.info("digits"), licence=licence)
    monkeypatch.setitem(data.source("digits").DATASETS, "digits", info)
    answer = ask()["Licences of what is used"]
    assert answer.word == NO
    assert "The terms of digits are not known." in said(answer)


def test_a_dataset_that_takes_a_permission_is_not_open(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(data.source("digits"), "BUNDLED")
    monkeypatch.setitem(data.source("digits").DATASETS, "digits", replace(data.info("digits"), get="ask the authors"))
    answer = ask()["Open access to data and code"]
    assert answer.word == NO
    assert "digits is fetched by no command. To get it: ask the authors." in said(answer)


def test_claims_and_their_kinds_are_counted_and_the_late_ones_named(ask: Ask) -> None:
    answer = ask()["Claims"]
    assert answer.word == YES
    assert "On confirmatory data (fashion_mnist_14): " in said(answer)
    assert "On exploratory data (digits): " in said(answer)
    assert re.search(r"The text of [A-Z0-9, -]+ and [A-Z]+-\d+ is younger than runs that decide it", said(answer))
    nothing = ask(lambda table: table.__setitem__("spec_digest", None))
    assert nothing["New assets"].word == NA

    def later(table: pd.DataFrame) -> None:
        table["started"] = "2999-01-01T00:00:00Z"

    assert "seen before the first run" in said(ask(later, decide=True)["Claims"])


def test_nothing_tested_is_nothing_claimed(ask: Ask) -> None:
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


def test_every_link_leads_to_evidence_that_is_there(plan: Plan, results: Path) -> None:
    packed = crate.write(plan, results).parent
    for page in (checklist.write(plan, results), packed / "report" / "checklist.html"):
        found = links(page)
        assert len(found) > 30
        for href in found:
            file, _, section = href.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), href
            assert not section or section in anchors(target), href
        assert "index.html#accuracy" in found
        assert "../claims.json" in found
    assert "checklist.html" in links(results / plan.name / "report" / "index.html")
    inside = [
        (packed / "report" / href.partition("#")[0]).resolve() for href in links(packed / "report/checklist.html")
    ]
    assert all(path.is_relative_to(packed.resolve()) for path in inside)


def test_it_is_the_same_wherever_results_lie(plan: Plan, results: Path) -> None:
    there = plan.file.parent / plan.name / "report" / "checklist.html"
    assert checklist.write(plan, results).read_bytes() == there.read_bytes()


def test_what_comes_from_outside_is_escaped(tabled: Tables, tmp_path: Path, ask: Ask) -> None:
    def lose(table: pd.DataFrame) -> None:
        table["commit"] = "<script>alert(1)</script>"

    ask(lose)
    text = checklist.write(tabled.plan, tmp_path).read_text()
    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text
