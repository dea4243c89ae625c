"""LaTeX tables show the numbers of their tables, and escape all text."""

import re

import pandas as pd
import pytest

from rdp.report import table_files

TABLE = pd.DataFrame(
    {
        "method": ["no_50%_&", "[x] #1", r"{x} \input{y} ~ z^2"],
        "mean": [96.25, float("nan"), float("inf")],
        "runs_in_mean": [3, 0, 269434],
        "difference_mean": [-0.51234, float("nan"), 12345.678],
        "learning_rate": ["0.1", "0.1 0.2", "1e5"],
    }
)


@pytest.fixture
def text() -> str:
    return table_files.tabular(TABLE)


def test_it_is_a_table_with_the_rules_of_booktabs(text: str) -> None:
    assert re.search(r"\\toprule\n.*\\\\\n\\midrule\n(.*\\\\\n){3}\\bottomrule\n\\end\{tabular\}\n$", text)
    assert r"\begin{tabular}{lrrrl}" in text


def test_every_row_has_the_columns_that_the_head_declares(text: str) -> None:
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(TABLE.columns)}


def test_numbers_are_rounded_and_what_is_not_known_is_a_dash(text: str) -> None:
    assert r"& 96.25 & 3 & $-0.5123$ & 0.1 \\" in text
    assert r"& -- & 0 & -- & 0.1 0.2 \\" in text
    assert r"& $\infty$ & 269434 & 12346 & 1e5 \\" in text


def test_what_is_written_is_escaped(text: str) -> None:
    assert r"no\_50\%\_\& &" in text
    assert "\n{[}x] \\#1 &" in text
    assert r"runs\_in\_mean" in text
    assert r"\{x\} \textbackslash{}input\{y\} \textasciitilde{} z\textasciicircum{}2" in text


def test_a_table_without_rows_is_its_head(text: str) -> None:
    empty = table_files.tabular(TABLE.iloc[:0])
    assert "\\midrule\n\\bottomrule" in empty
