"""Comparison of two studies: every planted change is reported, and nothing else."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from rdp import cli, diffs, study, tables
from rdp.claims import verdict_json
from rdp.cli import diff_view
from rdp.errors import UserError
from rdp.report import figures
from rdp.store import Store
from rdp.tables import collect
from rdp.utils.console import console
from tests.claims.conftest import AS_CLAIMED as PLANTED
from tests.helpers import planting

SMALL = {
    "probes": [],
    "speed_rounds": None,
    "tune": None,
    "methods": {"vanilla": None, "pnnh": None},
    "grids": [{"datasets": ["digits"], "architectures": ["resnet56"]}],
}
CELL = "resnet56/digits/pnnh"


def finish(folder: Path) -> None:
    """Make all products that a comparison reads."""
    plan = study.load(str(folder / "planted.yaml"))
    collect.write(plan, folder)
    loaded = tables.load(plan, folder)
    verdict_json.write(loaded)
    figures.write(loaded, "accuracy", folder)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    planting.plant(planting.load(folder, **SMALL), folder, PLANTED)
    finish(folder)
    return folder


@pytest.fixture
def left(planted) -> str:
    return str(planted / "planted")


@pytest.fixture
def other(planted, tmp_path) -> Path:
    """A copy of the results, for changes."""
    return shutil.copytree(planted, tmp_path / "other")


def plant_again(folder: Path, label: str, seeds: list[int], **changes) -> None:
    """Replace the records of some runs of a method."""
    plan = study.load(str(folder / "planted.yaml"))
    for cell in plan.cells:
        for spec in cell.specs:
            if cell.label == label and spec.seed in seeds:
                shutil.rmtree(Store(folder).folder(spec.run))
                Store(folder).remove_receipt(spec.run)
                planting.plant_run(Store(folder), cell, spec, replace(PLANTED, **changes))
    finish(folder)


def compare(left: str, other: Path) -> dict:
    result = diffs.compare(diffs.load(left), diffs.load(str(other / "planted")))
    json.dumps(result, allow_nan=False)
    return result


def lines(result: dict) -> str:
    to = console()
    with to.capture() as captured:
        for table in diff_view.tables(result, 20):
            to.print(table)
    return captured.get()


def test_the_same_products_are_the_same(left, other):
    result = compare(left, other)
    assert result["same"]
    assert result["summary"] == "the same numbers, bit for bit"
    assert result["runs"]["in_both"] == result["runs"]["same"] == 2 * planting.SEEDS
    assert {row["status"] for row in result["figures"]} == {"same"}
    assert all(row["same"] for row in result["identity"])
    assert [row["change"] for row in result["settings"]] == [0.0, 0.0]


def test_a_changed_accuracy_is_reported_by_run_setting_and_figure(left, other):
    plant_again(other, "pnnh", [3], accuracy=PLANTED.accuracy | {"pnnh": 0.791})
    result = compare(left, other)
    assert not result["same"]
    assert result["summary"].startswith("other numbers in 1 of 12 runs")
    (row,) = result["runs"]["other"]
    assert (row["method"], row["seed"], row["same_specification"]) == ("pnnh", 3, True)
    assert row["points"] == pytest.approx(-1.0)
    assert set(row["changes"]) == {"test_accuracy"}
    changed = {row["method"]: row for row in result["settings"]}
    assert changed["vanilla"]["change"] == 0
    assert changed["pnnh"]["change"] == pytest.approx(-1.0 / planting.SEEDS)
    assert changed["pnnh"]["left"]["difference"]["mean"] == pytest.approx(0.1)
    assert changed["pnnh"]["right"]["difference"]["mean"] == pytest.approx(0.1 - 1 / planting.SEEDS)
    assert changed["pnnh"]["beyond_spread"] is (abs(changed["pnnh"]["change"]) > changed["pnnh"]["spread"])
    (figure,) = result["figures"]
    assert (figure["figure"], figure["status"]) == ("accuracy", "changed")
    assert "pnnh" in figure["largest"]["where"].values()
    output = lines(result)
    assert CELL in output
    assert "\u22121" in output


def test_the_largest_change_comes_first(left, other):
    plant_again(other, "pnnh", [1], accuracy=PLANTED.accuracy | {"pnnh": 0.811})
    plant_again(other, "pnnh", [4], accuracy=PLANTED.accuracy | {"pnnh": 0.751})
    assert [row["seed"] for row in compare(left, other)["runs"]["other"]] == [4, 1]


def test_a_changed_verdict_is_reported_with_both_lines(left, other):
    plant_again(other, "pnnh", list(range(planting.SEEDS)), accuracy=PLANTED.accuracy | {"pnnh": 0.70})
    result = compare(left, other)
    changed = {row["claim"]: row for row in result["claims"]["verdicts"]}
    row = changed["PNNH-5"]
    assert (row["kind"], row["left"][0], row["right"][0]) == ("exploratory", "supported", "refuted")
    assert "+0.1 points" in row["left"][1]
    assert "points" in row["right"][1]
    assert row["left"][1] != row["right"][1]
    assert "verdict" in result["summary"]
    shown = " ".join(lines(result).split())
    assert all(text in shown for text in ("PNNH-5", "pnnh minus vanilla in accuracy is"))
    (setting,) = (row for row in result["settings"] if row["method"] == "pnnh")
    assert setting["beyond_spread"]


def test_an_edited_figure_is_reported_with_the_number_and_its_row(left, other):
    path = other / "planted/figures/accuracy.csv"
    table = pd.read_csv(path)
    assert (table.loc[8, "method"], table.loc[8, "seed"]) == ("pnnh", 2)
    before = table.loc[8, "accuracy"]
    table.loc[8, "accuracy"] = 0.5
    table.to_csv(path, index=False)
    result = compare(left, other)
    assert result["summary"] == "the same numbers, bit for bit; 1 figure changed"
    assert not result["same"]
    largest = result["figures"][0]["largest"]
    assert (largest["column"], largest["left"], largest["right"]) == ("accuracy", before, 0.5)
    assert largest["where"]["method"] == "pnnh"


def test_a_missing_run_and_figure_are_reported(left, other):
    plant_again(other, "vanilla", [5], status={("vanilla", 5): "missing"})
    for path in (other / "planted/figures").glob("accuracy.*"):
        path.unlink()
    result = compare(left, other)
    assert result["runs"]["only_left"] == [
        {"dataset": "digits", "architecture": "resnet56", "method": "vanilla", "seeds": [5], "cell": False}
    ]
    assert result["runs"]["only_right"] == []
    assert "1 run only left" in result["summary"]
    assert "1 figure only left" in result["summary"]
    back = diffs.compare(diffs.load(str(other / "planted")), diffs.load(left))
    assert "1 run only right" in back["summary"]


def test_a_diverged_run_has_other_numbers(left, other):
    plant_again(other, "pnnh", [0], status={("pnnh", 0): "diverged"})
    (row,) = compare(left, other)["runs"]["other"]
    assert row["changes"]["status"] == ["completed", "diverged"]
    assert row["points"] == pytest.approx(100 * (0.1 - row["accuracy"][0]))


def test_a_changed_claim_text_is_reported(left, other):
    content = verdict_json.read("planted", other)
    content["claims"][2]["digest"] = "0" * 64
    name = content["claims"].pop(5)["name"]
    verdict_json.save("planted", other, content)
    result = compare(left, other)
    assert result["claims"]["texts"] == [content["claims"][2]["name"]]
    assert result["claims"]["only_left"] == [name]
    assert "the text of 1 claim changed; 1 claim only left" in result["summary"]
    (other / "planted/claims.json").unlink()
    assert "claims decided only left" in compare(left, other)["summary"]


def test_the_same_numbers_of_another_stack_are_the_same(left, other):
    """A record's digest covers its stack too."""
    made = collect.read("planted", other)
    made[0]["digest"], made[0]["stack_digest"] = "f" * 64, "e" * 64
    made[0]["stack"] = '{"device": "another machine", "torch": "9.9"}'
    collect.save("planted", other, *made)
    result = compare(left, other)
    assert result["same"]
    assert result["summary"] == "the same numbers, bit for bit"
    differ = {row["what"]: row["right"] for row in result["identity"] if not row["same"]}
    assert differ["device"] == ["another machine"]
    assert differ["torch"] == ["9.9"]
    assert result["runs"]["other_identity"] == {"code": 0, "stack": 12, "data": 0}
    assert "other stack in 12" in lines(result)


def test_changes_without_a_column_are_reported(left, other):
    """A weight's checksum, for example."""
    made = collect.read("planted", other)
    made[0].loc[4, ["digest", "numbers_digest"]] = "f" * 64
    collect.save("planted", other, *made)
    result = compare(left, other)
    assert "other numbers in 1 of 12 runs" in result["summary"]
    assert result["runs"]["other"][0]["changes"] == {}
    assert "only weights or history" in lines(result)


def test_cells_with_another_recipe_are_paired(left, tmp_path):
    folder = tmp_path / "longer"
    folder.mkdir()
    recipe = planting.STUDY["recipe"] | {"epochs": 2}
    planting.plant(planting.load(folder, **SMALL | {"recipe": recipe}), folder, PLANTED)
    finish(folder)
    result = compare(left, folder)
    (row,) = result["specifications"]
    assert row["changes"] == {"epochs": [1, 2]}
    assert row["cells"] == ["digits/resnet56/vanilla", "digits/resnet56/pnnh"]
    assert result["runs"]["in_both"] == 12
    assert not result["same"]
    assert "epochs 1 | 2" in lines(result)


@pytest.mark.parametrize("name", ["records.parquet", "history.parquet", "claims.json", "figures/accuracy.svg"])
def test_damaged_files_are_named(left, other, name):
    path = other / "planted" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: damaged"):
        compare(left, other)


def test_a_renamed_folder_and_missing_data_are_named(left, other):
    (other / "planted/figures/accuracy.csv").unlink()
    with pytest.raises(UserError, match=r"figures/accuracy\.csv: no such file; run: rdp plot planted accuracy"):
        compare(left, other)
    (other / "planted").rename(other / "renamed")
    with pytest.raises(UserError, match="belongs elsewhere"):
        diffs.load(str(other / "renamed"))


@pytest.fixture
def rdp(planted, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Run the command on the planted results, and return status, output and errors."""
    monkeypatch.setenv("RDP_RESULTS", str(planted))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rdp", "diff", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_the_exit_status_is_that_of_diff(rdp, left, other, tmp_path):
    status, said, _ = rdp("planted", left)
    assert (status, said.splitlines()[0]) == (0, "the same numbers, bit for bit")
    for path in (other / "planted/figures").glob("accuracy.*"):
        path.unlink()
    status, said, _ = rdp("planted", f"{other}/planted/", "--json", str(tmp_path / "result.json"))
    result = json.loads((tmp_path / "result.json").read_text())
    assert (status, said.splitlines()[0]) == (1, result["summary"])
    status, said, _ = rdp("planted", f"{other}/planted", "--json", "-")
    assert (status, json.loads(said)["summary"]) == (1, result["summary"])
    status, said, errors = rdp("planter", left)
    assert (status, said) == (2, "")
    assert "planter: no such folder; did you mean 'planted'?" in errors
    status, said, errors = rdp("cifar", left)
    assert (status, said) == (2, "")
    assert "cifar: no products yet; first: snakemake --cores all --config study=cifar" in errors
