"""Two studies side by side: every planted change is found and named, and nothing else is."""

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
from rdp.diffs import shown
from rdp.errors import UserError
from rdp.report import figures
from rdp.store import Store
from rdp.tables import collect
from rdp.utils.console import console
from tests.claims.conftest import AS_CLAIMED as WORLD
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
    """All products that a comparison reads, from the records there are."""
    plan = study.load(str(folder / "planted.yaml"))
    collect.write(plan, folder)
    loaded = tables.load(plan, folder)
    verdict_json.write(loaded)
    figures.write(loaded, "accuracy", folder)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    planting.plant(planting.load(folder, **SMALL), folder, WORLD)
    finish(folder)
    return folder


@pytest.fixture
def left(planted) -> str:
    return str(planted / "planted")


@pytest.fixture
def other(planted, tmp_path) -> Path:
    """The same results once more, to be changed."""
    return shutil.copytree(planted, tmp_path / "other")


def plant_again(folder: Path, label: str, seeds: list[int], **changes) -> None:
    """Other records of some runs of a method."""
    plan = study.load(str(folder / "planted.yaml"))
    for cell in plan.cells:
        for spec in cell.specs:
            if cell.label == label and spec.seed in seeds:
                shutil.rmtree(Store(folder).folder(spec.run))
                Store(folder).remove_receipt(spec.run)
                planting.plant_run(Store(folder), cell, spec, replace(WORLD, **changes))
    finish(folder)


def compare(left: str, other: Path) -> dict:
    found = diffs.compare(diffs.load(left), diffs.load(str(other / "planted")))
    json.dumps(found, allow_nan=False)
    return found


def lines(found: dict) -> str:
    to = console()
    with to.capture() as captured:
        for table in shown.tables(found, 20):
            to.print(table)
    return captured.get()


def test_the_same_products_are_the_same(left, other):
    found = compare(left, other)
    assert found["same"]
    assert found["summary"] == "the same numbers, bit for bit"
    assert found["runs"]["in_both"] == found["runs"]["same"] == 2 * planting.SEEDS
    assert {row["status"] for row in found["figures"]} == {"same"}
    assert all(row["same"] for row in found["identity"])
    assert [row["change"] for row in found["settings"]] == [0.0, 0.0]


def test_a_changed_accuracy_is_named_with_its_run_its_setting_and_its_figure(left, other):
    plant_again(other, "pnnh", [3], accuracy=WORLD.accuracy | {"pnnh": 0.791})
    found = compare(left, other)
    assert not found["same"]
    assert found["summary"].startswith("other numbers in 1 of 12 runs")
    (row,) = found["runs"]["other"]
    assert (row["method"], row["seed"], row["same_specification"]) == ("pnnh", 3, True)
    assert row["points"] == pytest.approx(-1.0)
    assert set(row["changes"]) == {"test_accuracy"}
    changed = {row["method"]: row for row in found["settings"]}
    assert changed["vanilla"]["change"] == 0
    assert changed["pnnh"]["change"] == pytest.approx(-1.0 / planting.SEEDS)
    assert changed["pnnh"]["left"]["difference"]["mean"] == pytest.approx(0.1)
    assert changed["pnnh"]["right"]["difference"]["mean"] == pytest.approx(0.1 - 1 / planting.SEEDS)
    assert changed["pnnh"]["beyond_spread"] is (abs(changed["pnnh"]["change"]) > changed["pnnh"]["spread"])
    (figure,) = found["figures"]
    assert (figure["figure"], figure["status"]) == ("accuracy", "changed")
    assert "pnnh" in figure["largest"]["where"].values()
    shown_lines = lines(found)
    assert CELL in shown_lines
    assert "\u22121" in shown_lines


def test_the_largest_change_comes_first(left, other):
    plant_again(other, "pnnh", [1], accuracy=WORLD.accuracy | {"pnnh": 0.811})
    plant_again(other, "pnnh", [4], accuracy=WORLD.accuracy | {"pnnh": 0.751})
    assert [row["seed"] for row in compare(left, other)["runs"]["other"]] == [4, 1]


def test_a_verdict_that_turned_is_told_with_both_lines(left, other):
    plant_again(other, "pnnh", list(range(planting.SEEDS)), accuracy=WORLD.accuracy | {"pnnh": 0.70})
    found = compare(left, other)
    turned = {row["claim"]: row for row in found["claims"]["verdicts"]}
    row = turned["PNNH-5"]
    assert (row["kind"], row["left"][0], row["right"][0]) == ("exploratory", "supported", "refuted")
    assert "1 holds" in row["left"][1]
    assert "1 fails" in row["right"][1]
    assert "verdict" in found["summary"]
    assert all(text in lines(found) for text in ("PNNH-5", "1 holds", "1 fails"))
    (setting,) = (row for row in found["settings"] if row["method"] == "pnnh")
    assert setting["beyond_spread"]


def test_an_edited_figure_is_named_with_the_number_and_its_place(left, other):
    path = other / "planted/figures/accuracy.csv"
    table = pd.read_csv(path)
    assert (table.loc[8, "method"], table.loc[8, "seed"]) == ("pnnh", 2)
    before = table.loc[8, "accuracy"]
    table.loc[8, "accuracy"] = 0.5
    table.to_csv(path, index=False)
    found = compare(left, other)
    assert found["summary"] == "the same numbers, bit for bit; 1 figure changed"
    assert not found["same"]
    largest = found["figures"][0]["largest"]
    assert (largest["column"], largest["left"], largest["right"]) == ("accuracy", before, 0.5)
    assert largest["where"]["method"] == "pnnh"


def test_a_missing_run_and_a_missing_figure_are_named(left, other):
    plant_again(other, "vanilla", [5], status={("vanilla", 5): "missing"})
    for path in (other / "planted/figures").glob("accuracy.*"):
        path.unlink()
    found = compare(left, other)
    assert found["runs"]["only_left"] == [
        {"dataset": "digits", "architecture": "resnet56", "method": "vanilla", "seeds": [5], "cell": False}
    ]
    assert found["runs"]["only_right"] == []
    assert "1 run only left" in found["summary"]
    assert "1 figure only left" in found["summary"]
    back = diffs.compare(diffs.load(str(other / "planted")), diffs.load(left))
    assert "1 run only right" in back["summary"]


def test_a_run_that_diverged_is_other_numbers(left, other):
    plant_again(other, "pnnh", [0], status={("pnnh", 0): "diverged"})
    (row,) = compare(left, other)["runs"]["other"]
    assert row["changes"]["status"] == ["completed", "diverged"]
    assert row["points"] == pytest.approx(100 * (0.1 - row["accuracy"][0]))


def test_another_text_of_a_claim_is_told(left, other):
    content = verdict_json.read("planted", other)
    content["claims"][2]["digest"] = "0" * 64
    name = content["claims"].pop(5)["name"]
    verdict_json.save("planted", other, content)
    found = compare(left, other)
    assert found["claims"]["texts"] == [content["claims"][2]["name"]]
    assert found["claims"]["only_left"] == [name]
    assert "the text of 1 claim changed; 1 claim only left" in found["summary"]
    (other / "planted/claims.json").unlink()
    assert "claims decided only left" in compare(left, other)["summary"]


def test_the_same_numbers_of_another_stack_are_the_same(left, other):
    """The digest of a record is over its stack too."""
    made = collect.read("planted", other)
    made[0]["digest"], made[0]["stack_digest"] = "f" * 64, "e" * 64
    made[0]["stack"] = '{"device": "another machine", "torch": "9.9"}'
    collect.save("planted", other, *made)
    found = compare(left, other)
    assert found["same"]
    assert found["summary"] == "the same numbers, bit for bit"
    differ = {row["what"]: row["right"] for row in found["identity"] if not row["same"]}
    assert differ["device"] == ["another machine"]
    assert differ["torch"] == ["9.9"]
    assert found["runs"]["made_otherwise"] == {"code": 0, "stack": 12, "data": 0}
    assert "other stack in 12" in lines(found)


def test_numbers_that_no_column_shows_are_still_seen(left, other):
    """Such as a weight's checksum."""
    made = collect.read("planted", other)
    made[0].loc[4, ["digest", "numbers_digest"]] = "f" * 64
    collect.save("planted", other, *made)
    found = compare(left, other)
    assert "other numbers in 1 of 12 runs" in found["summary"]
    assert found["runs"]["other"][0]["changes"] == {}
    assert "weights or history alone" in lines(found)


def test_another_recipe_is_paired_and_told(left, tmp_path):
    folder = tmp_path / "longer"
    folder.mkdir()
    recipe = planting.STUDY["recipe"] | {"epochs": 2}
    planting.plant(planting.load(folder, **SMALL | {"recipe": recipe}), folder, WORLD)
    finish(folder)
    found = compare(left, folder)
    (row,) = found["specifications"]
    assert row["changes"] == {"epochs": [1, 2]}
    assert row["cells"] == ["digits/resnet56/vanilla", "digits/resnet56/pnnh"]
    assert found["runs"]["in_both"] == 12
    assert not found["same"]
    assert "epochs 1 | 2" in lines(found)


def test_tables_of_an_earlier_version_tell_what_they_can(left, other):
    made = collect.read("planted", other)
    later = ["numbers_digest", "baseline", "setting", "processes", "gpu_joules", "cpu_package_joules", "device_type"]
    made[0]["digest"] = "f" * 64
    collect.save("planted", other, made[0].drop(columns=later), *made[1:])
    found = compare(left, other)
    assert found["summary"] == "the same numbers, as far as the tables tell"
    pnnh = found["settings"][1]
    assert pnnh["left"]["difference"] is not None
    assert pnnh["right"]["difference"] is None


@pytest.mark.parametrize("name", ["records.parquet", "history.parquet", "claims.json", "figures/accuracy.svg"])
def test_what_is_damaged_is_named(left, other, name):
    path = other / "planted" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: damaged"):
        compare(left, other)


def test_a_folder_of_another_name_or_without_data_is_named(left, other):
    (other / "planted/figures/accuracy.csv").unlink()
    with pytest.raises(UserError, match=r"figures/accuracy\.csv: no such file; run: rdp plot planted accuracy"):
        compare(left, other)
    (other / "planted").rename(other / "renamed")
    with pytest.raises(UserError, match="belongs elsewhere"):
        diffs.load(str(other / "renamed"))


@pytest.fixture
def rdp(planted, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Run the command, with the planted study's results as the directory of results: status, output, errors."""
    monkeypatch.setenv("RDP_RESULTS", str(planted))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rdp", "diff", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_the_command_ends_as_diff_does(rdp, left, other, tmp_path):
    status, said, _ = rdp("planted", left)
    assert (status, said.splitlines()[0]) == (0, "the same numbers, bit for bit")
    for path in (other / "planted/figures").glob("accuracy.*"):
        path.unlink()
    status, said, _ = rdp("planted", f"{other}/planted/", "--json", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert (status, said.splitlines()[0]) == (1, found["summary"])
    status, said, _ = rdp("planted", f"{other}/planted", "--json", "-")
    assert (status, json.loads(said)["summary"]) == (1, found["summary"])
    status, said, errors = rdp("planter", left)
    assert (status, said) == (2, "")
    assert "planter: no such folder; did you mean 'planted'?" in errors
    status, said, errors = rdp("cifar", left)
    assert (status, said) == (2, "")
    assert "cifar: no products yet; first: snakemake --cores all --config study=cifar" in errors
