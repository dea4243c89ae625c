"""The report of Snakemake lists the study's products by category, with captions and labels."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rdp.report import contents
from tests.workflow.conftest import Project


def variable(text: str, name: str) -> Any:
    """What the report's script gives to one of its variables."""
    start = re.search(rf'var {name} =\s*(?={{")', text).end()
    return json.JSONDecoder().raw_decode(text[start:])[0]


@pytest.mark.slow
def test_the_report_of_snakemake_has_every_figure_and_table(finished: Project) -> None:
    path = finished.root / "own.html"
    done = finished.run("snakemake", "--report", str(path), "--config", "study=mini")
    assert done.returncode == 0, done.stdout + done.stderr
    text = path.read_text(encoding="utf-8")
    captions = {}
    for product, result in variable(text, "results").items():
        assert result["labels"]
        assert "<p>" in result["caption"]
        captions[Path(product).name] = result["caption"]
    found = {
        category: {name.rpartition("/")[2] for names in groups.values() for name in names}
        for category, groups in variable(text, "categories").items()
    }
    figures = {figure.stem for figure in (finished.root / "results/mini/figures").glob("*.svg")}
    tables = {table.name for table in (finished.root / "results/mini/tables").glob("*.csv")}
    assert len(figures) >= 5
    for figure in figures:
        assert contents.caption(figure)["caption"][:40] in captions[f"{figure}.svg"], figure
    assert found == {
        "Figures": {f"{figure}.svg" for figure in figures},
        "Data behind the figures": {f"{figure}.csv" for figure in figures},
        "Report": {"index.html", "paper.pdf", "checklist.html"},
        "Claims": {"claims.json"},
        "Tables": tables,
    }
