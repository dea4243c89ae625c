"""Numbers of the documentation are those of the recorded archives, to the digit.

After new records, write the tables again: RDP_RENEW_NUMBERS=1 pytest tests/docs/test_recorded_numbers.py
"""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import astuple
from functools import cache

import pytest

from rdp import cli, study, tables
from rdp.report.formatting import number
from rdp.stats import paired_difference
from rdp.tables import Tables
from tests.docs.blocks import PAGES, ROOT
from tests.docs.recorded_tables import MAP, SMALL, TABLES, differences, plain

pytestmark = pytest.mark.slow

Rebuild = Callable[[str], Tables]
_TABLE = re.compile(r"<!-- (\w+): (\w+) -->\n((?:\|.*\n)+)")  # a comment that names study and table, then the table
WITH_TABLES = [page for page in PAGES if _TABLE.search((ROOT / page).read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Rebuild:
    """The tables of a recorded study, by its name."""

    @cache
    def rebuild(name: str) -> Tables:
        results = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            file = str(results / f"{name}.yaml")
            for words in (["unpack", name, "--recorded", "--to", str(results)], ["collect", file], ["claims", file]):
                patch.setenv("RDP_RESULTS", str(results))
                patch.setattr(sys, "argv", ["rdp", *words])
                with pytest.raises(SystemExit) as end:
                    cli.main()
                assert not end.value.code
        return tables.load(study.load(str(results / f"{name}.yaml")), results)

    return rebuild


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", WITH_TABLES)
def test_tables_are_those_of_the_archives(page: str, rebuilt: Rebuild) -> None:
    def renew(found: re.Match[str]) -> str:
        return f"<!-- {found[1]}: {found[2]} -->\n" + "\n".join(TABLES[found[2]](rebuilt(found[1]))) + "\n"

    before = text(page)
    renewed = _TABLE.sub(renew, before)
    if os.environ.get("RDP_RENEW_NUMBERS"):
        (ROOT / page).write_text(renewed, encoding="utf-8")
    assert before == renewed


def test_every_recorded_study_has_its_verdicts_among_the_results() -> None:
    shown = {study for study, table, _ in _TABLE.findall(text("docs/results.md")) if table == "claims"}
    assert shown == {path.stem for path in (ROOT / "results/recorded").glob("*.tar")}


def test_sentences_on_residual_droppath(rebuilt: Rebuild) -> None:
    made = rebuilt("rdp_map")
    small = next(setting for setting, _ in made.panels(made.records) if MAP[astuple(setting)].endswith(f"{SMALL}, 50"))
    gain = plain(differences(made, small)["rdp_5"], " points")
    assert f"by {gain} on 5,000 of the images, five seeds" in text("README.md")


def test_sentences_on_pnnh(rebuilt: Rebuild) -> None:
    made = rebuilt("pnnh_screen")
    records = made.records.assign(validation=made.records["validation_accuracy"] * 100).set_index("seed")
    default, residual, narrowed = (
        dict(records[records["method"] == name]["validation"])
        for name in ("window_bottleneck_after", "vanilla", "same_parameters")
    )
    above = plain(paired_difference(default, residual), " points")
    over_narrowed = plain(paired_difference(default, narrowed))
    assert f"{above} above the residual network and {over_narrowed}" in text("docs/pnnh.md")
    (setting,) = (setting for setting, _ in made.panels(made.records))
    tested = differences(made, setting)
    gain = tested["window_bottleneck_after"]
    assert f"the default is {plain(gain, ' points')} above the residual network" in text("docs/pnnh.md")
    assert f"by {plain(gain, ' points of test accuracy')}, three seeds" in text("README.md")
    below = number(-tested["plain"].mean, "{:.0f}")
    assert f"a plain network of 44 layers is {below} points of test accuracy below the residual" in text("README.md")
