"""No damage to a table, a verdict or a figure turns into another number in the report."""

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rdp import tables
from rdp.claims import model, preregistration, verdict_json
from rdp.report import contents, page
from rdp.study import Plan
from rdp.tables import collect, measurements
from rdp.utils import paths, sealed
from tests.damage.conftest import HARMLESS, NAMED, refusal
from tests.damage.damages import damages

Read = Callable[[Plan, Path], Any]


def first_seen(plan: Plan, results: Path) -> str:
    return preregistration.first_seen(next(iter(verdict_json.read(plan.name, results)["claims"]))["digest"], results)


def ledger_file(plan: Plan, results: Path) -> Path:
    digest = model.load().digest(next(iter(model.load().claims)))
    return results / "logs" / "claims" / digest[:32]


# By file: how many cases, and what is read of it.
READ: dict[str, tuple[int, Read]] = {
    "records.parquet": (60, lambda plan, results: collect.read(plan.name, results)),
    "history.parquet": (40, lambda plan, results: collect.read(plan.name, results)),
    "sweep.parquet": (40, lambda plan, results: collect.read(plan.name, results)),
    "speed.parquet": (40, lambda plan, results: [tables.load(plan, results).speed()]),
    "probes/feature_reuse.parquet": (
        40,
        lambda plan, results: [measurements.read(plan.name, "feature_reuse", results)],
    ),
    "claims.json": (60, lambda plan, results: verdict_json.read(plan.name, results)),
    "figures/accuracy.svg": (
        30,
        lambda plan, results: contents.drawing(plan, "accuracy", results / plan.name / "figures"),
    ),
    "../logs/claims": (20, first_seen),
}


def same(found: Any, expected: Any) -> bool:
    """Whether two things that were read are alike to the last bit."""
    if isinstance(expected, tuple | list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, pd.DataFrame):
        return found.equals(expected) and list(found.dtypes) == list(expected.dtypes)
    return repr(found) == repr(expected)


@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_is_named_or_read_unchanged(name: str, plan: Plan, results: Path, try_damages: Any) -> None:
    cases, read = READ[name]
    path = results / plan.name / name
    path = ledger_file(plan, results) if path.is_dir() else path
    expected = read(plan, results)

    def look() -> str:
        said = refusal(read, plan, results)
        if said is None:
            assert same(read(plan, results), expected)
            return HARMLESS
        assert str(path) in said
        return NAMED

    try_damages(path, cases, look)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["records.parquet", "history.parquet", "claims.json", "figures/accuracy.svg"])
def test_a_page_is_unchanged_or_rejected(name: str, plan: Plan, results: Path) -> None:
    path, written = results / plan.name / name, page.write(plan, results)
    whole, before = path.read_bytes(), written.read_bytes()
    for _, damaged in damages(whole, 32, "a page"):
        path.write_bytes(damaged)
        assert str(path) in refusal(page.write, plan, results)
        assert written.read_bytes() == before
    path.write_bytes(whole)


def test_the_same_tables_have_the_same_bytes(plan: Plan, results: Path, tmp_path: Path) -> None:
    read = collect.read(plan.name, results)
    collect.save(plan.name, tmp_path, *read)
    verdict_json.save(plan.name, tmp_path, verdict_json.read(plan.name, results))
    for name in (*(f"{table}.parquet" for table in collect.TABLES), "claims.json"):
        assert (tmp_path / plan.name / name).read_bytes() == (results / plan.name / name).read_bytes()


def test_a_table_of_another_writer_is_named(plan: Plan, results: Path, tmp_path: Path) -> None:
    collect.save(plan.name, tmp_path, *collect.read(plan.name, results))
    path = tmp_path / plan.name / "history.parquet"
    pd.read_parquet(path).to_parquet(path)
    said = refusal(collect.read, plan.name, tmp_path)
    assert said == f"{path}: damaged (no seal, or not written by rdp); run: rdp collect {plan.name}"


def test_swapped_files_are_named(plan: Plan, results: Path, tmp_path: Path) -> None:
    read = collect.read(plan.name, results)
    collect.save(plan.name, tmp_path, *read)
    collect.save("other", tmp_path, *read)
    here, there = tmp_path / plan.name, tmp_path / "other"
    for first, second in (
        (here / "records.parquet", there / "records.parquet"),
        (here / "sweep.parquet", here / "history.parquet"),
    ):
        kept = second.read_bytes()
        second.write_bytes(first.read_bytes())
        assert str(second) in refusal(collect.read, second.parent.name, tmp_path)
        second.write_bytes(kept)
    assert refusal(collect.read, "other", tmp_path) is None


def test_swapped_probe_tables_are_named(plan: Plan, results: Path, tmp_path: Path) -> None:
    reuse = measurements.read(plan.name, "feature_reuse", results)
    path = measurements.save(plan.name, "feature_reuse", tmp_path, reuse)
    path.rename(path.with_name("coders.parquet"))
    assert "coders.parquet: damaged" in refusal(measurements.read, plan.name, "coders", tmp_path)


def test_tables_of_different_writes_are_not_read_together(plan: Plan, results: Path, tmp_path: Path) -> None:
    """As a writing that was killed between two of its tables leaves them."""
    table, history, sweep = collect.read(plan.name, results)
    collect.save(plan.name, tmp_path, table, history, sweep)
    old = (tmp_path / plan.name / "history.parquet").read_bytes()
    collect.save(plan.name, tmp_path, table.assign(seconds=1.0), history, sweep)
    (tmp_path / plan.name / "history.parquet").write_bytes(old)
    assert str(tmp_path / plan.name / "history.parquet") in refusal(collect.read, plan.name, tmp_path)


def test_the_partial_output_of_a_killed_writer_is_not_read(plan: Plan, results: Path, tmp_path: Path) -> None:
    read = collect.read(plan.name, results)
    collect.save(plan.name, tmp_path, *read)
    for path in list((tmp_path / plan.name).iterdir()):
        path.with_name(f".{path.name}.{os.getpid()}.part").write_bytes(path.read_bytes()[:-20])
    assert same(collect.read(plan.name, tmp_path), read)
    collect.save(plan.name, tmp_path, *read)  # by a process of the same number
    assert same(collect.read(plan.name, tmp_path), read)


@pytest.mark.parametrize(("old", "new"), [('"seeds": 2', '"seeds": 3'), ('"pnnh": null', '"plain": null')])
def test_tables_of_an_older_study_file_are_named(old: str, new: str, plan: Plan, results: Path, tmp_path: Path) -> None:
    from rdp import study

    collect.save(plan.name, tmp_path, *collect.read(plan.name, results))
    file = tmp_path / plan.file.name
    file.write_text(plan.file.read_text().replace(old, new))
    said = refusal(tables.load, study.load(str(file)), tmp_path)
    assert said.endswith(f"its runs are not those of {file}; run: rdp collect {plan.name}")


@pytest.mark.parametrize(("place", "column"), [(0, "numbers_digest"), (2, "seconds")])
def test_tables_of_an_earlier_version_are_named(
    place: int, column: str, plan: Plan, results: Path, tmp_path: Path
) -> None:
    read = list(collect.read(plan.name, results))
    read[place] = read[place].drop(columns=column)
    collect.save(plan.name, tmp_path, *read)
    said = refusal(tables.load, plan, tmp_path)
    assert said.endswith(f"written by another version of rdp, without {column}; run: rdp collect {plan.name}")


def test_a_text_that_looks_like_a_seal_is_read_as_text(tmp_path: Path) -> None:
    table = pd.DataFrame({"reason": [sealed.BLANK, "rdp-seal:", None], sealed.BLANK: [1.5, float("nan"), -0.0]})
    sealed.write_table(tmp_path / "t.parquet", table, "s")
    assert same(sealed.read_table(tmp_path / "t.parquet", "s", "")[0], table)
    value = {"title": f"{sealed.BLANK} \u00e9", "n": [0.1, None]}
    sealed.write_json(tmp_path / "t.json", value, "s")
    assert sealed.read_json(tmp_path / "t.json", "s", "") == value


def test_only_one_module_reads_sealed_files() -> None:
    """No other module reads or writes Parquet; so no table is read without its seal."""
    for file in sorted((paths.ROOT / "rdp").rglob("*.py")):
        names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        parquet = names & {"read_parquet", "to_parquet", "write_table", "read_table", "ParquetFile"}
        assert parquet <= {"write_table", "read_table"} or file.name == "sealed.py", file
        assert "pyarrow" not in file.read_text() or file.name == "sealed.py", file
