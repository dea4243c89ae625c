"""The first lines of a report say what was found, in words."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rdp.report import summary
from rdp.report.findings import findings
from rdp.report.formatting import number, points, within_sentence
from rdp.stats import Estimate, mean_interval
from rdp.study import Plan
from tests.report.conftest import make_tables


def claim(name: str, title: str, confirmatory: str, exploratory: str) -> dict[str, Any]:
    words = {"confirmatory": confirmatory, "exploratory": exploratory}
    return {"name": name, "title": title, "verdicts": {kind: {"verdict": word} for kind, word in words.items()}}


CLAIMS = [
    claim("A-1", "Deep plain networks do not converge", "not tested", "supported"),
    claim("A-2", "PNNH needs half the parameters", "not tested", "refuted"),
    claim("A-3", "The recover iteration makes the difference", "not tested", "refuted"),
]


def test_claims_are_said_in_words_with_their_scale(planted: Plan, tmp_path: Path) -> None:
    cells = summary.cells(planted, make_tables(planted, tmp_path).records)
    found = findings(planted, cells, {"confirmatory": [], "claims": CLAIMS}, "vanilla")
    assert found == [
        "18 runs of resnet20 and resnet56, 3 seeds a cell: networks of up to 269,434 parameters, trained for up to 100 "
        "steps.",
        "On data on which settings were chosen (exploratory: digits), 1 of 3 claims is supported at this scale: A-1 "
        "(deep plain networks do not converge).",
        "2 are refuted at this scale: A-2 (PNNH needs half the parameters) and A-3 (the recover iteration makes the "
        "difference).",
        "Test accuracy differs from vanilla's by +1.0 points with droppath (2 settings).",
    ]


def test_of_many_methods_above_the_baseline_the_best_two_are_said(planted: Plan, tmp_path: Path) -> None:
    cells = summary.cells(planted, make_tables(planted, tmp_path).records)
    like = next(cell for cell in cells if cell.method == "droppath")
    gains = {"small": 0.5, "large": 3.0, "middle": 2.0}
    more = [replace(like, method=name, difference=Estimate(gain, 0.1, 9.0, 3)) for name, gain in gains.items()]
    found = findings(planted, more, {"confirmatory": [], "claims": CLAIMS}, "vanilla")
    assert [name in found[-1] for name in gains] == [False, True, True]


def test_further_data_are_said_by_name(tuned: Plan, tmp_path: Path) -> None:
    cells = summary.cells(tuned, make_tables(tuned, tmp_path).records)
    tested = [claim("A-1", "One", "inconclusive", "supported"), claim("A-2", "Two", "not tested", "refuted")]
    found = findings(tuned, cells, {"confirmatory": ["digits"], "claims": tested}, "vanilla")
    assert found[1].endswith("(confirmatory: digits), 1 of 2 claims is inconclusive: A-1 (one); 1 is not tested: A-2.")
    assert found[2].startswith("On data on which settings were chosen (exploratory: spiral), ")
    assert found[2].endswith(", 1 of 2 claims is supported at this scale (A-1) and 1 is refuted at this scale (A-2).")


def test_before_any_verdict_it_says_so(planted: Plan, tmp_path: Path) -> None:
    cells = summary.cells(planted, make_tables(planted, tmp_path).records)
    found = findings(planted, cells, {"confirmatory": [], "claims": []}, "vanilla")
    assert found[1] == "The records so far test no claim."


def test_a_mean_reads_alike_whatever_the_order_of_its_sum() -> None:
    pairs = [(0.7697, 0.7628), (0.7689, 0.7632), (0.7676, 0.7577)]
    values = [100 * mine - 100 * other for mine, other in pairs]
    assert sum(values) / 3 < 0.75
    assert number(sum(values) / 3, "{:+.1f}") == number(0.75, "{:+.1f}") == "+0.8"
    assert points(mean_interval(values)).startswith("+0.8 points [")


@pytest.mark.parametrize(
    ("title", "within"),
    [
        ("A coder lets plain networks train", "a coder lets plain networks train"),
        ("PNNH is on par", "PNNH is on par"),
        ("ResidualDroppath costs no more", "ResidualDroppath costs no more"),
        ("Why", "why"),
    ],
)
def test_a_title_within_a_sentence_keeps_the_capitals_of_names(title: str, within: str) -> None:
    assert within_sentence(title) == within
